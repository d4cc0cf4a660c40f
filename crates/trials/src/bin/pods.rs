//! Pepo's main job on a pod of a real cluster, which is brought up for it and taken down: the commands of `docs/tutorial.md`, each shown
//! with `$` and run.
//!
//! `pods [--write] [DIR]`: with `--write` the page is written anew with what they said; DIR is the cluster's folder.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is for people")]

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Result, bail, ensure};
use pepo_testkit::kubernetes::{Cluster, Machine, Settings, Version};
use pepo_trials::tutorial::{Page, Place};

fn main() -> Result<()> {
    let (write, folder) = arguments()?;
    let begun = Instant::now();
    println!("# a Kubernetes of its own, in {}", folder.display());
    let before = Machine::look();
    let settings = Settings { folder, version: Version::default(), nodes: 1 };
    if let Some(old) = Cluster::at(&settings.folder)? {
        old.down()?;
    }
    let cluster = Cluster::up(&settings, &|step| eprintln!("{step}"))?;
    let followed = follow(&cluster, write);
    cluster.down()?;
    followed?;
    let left = before.differences(&cluster);
    ensure!(left.is_empty(), "left behind by the cluster:\n  {}", left.join("\n  "));
    println!("\n# done in {:.0?}; the cluster is gone", begun.elapsed());
    Ok(())
}

fn arguments() -> Result<(bool, PathBuf)> {
    let mut write = false;
    let mut folder = PathBuf::from("target/demo/cluster");
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--write" => write = true,
            unknown if unknown.starts_with('-') => {
                bail!("no switch `{unknown}` here; `pods [--write] [DIR]`")
            }
            named => folder = PathBuf::from(named),
        }
    }
    Ok((write, folder))
}

fn follow(cluster: &Cluster, write: bool) -> Result<()> {
    let place = Place::make(cluster)?;
    let mut page = Page::read(&fs::read_to_string(Page::path())?)?;
    let mut tell = |text: &str| match text.strip_prefix("$ ") {
        Some(_) => println!("\n{text}"),
        None => print!("{text}"),
    };
    page.follow(&place, write, &mut tell)?;
    place.left_well()?;
    println!("\n# the pod was never restarted, and nothing of it all is in a log of the helper");
    if write {
        fs::write(Page::path(), page.text())?;
        println!("# written: docs/tutorial.md");
    }
    Ok(())
}
