//! `cluster up|hold|down|status [--nodes N] [--version V] [DIR]`: what `cargo xtask cluster` runs.
//!
//! `hold` starts a cluster, says so, and ends it with its own standard input: so it ends when whoever started this
//! does, however that ends; what it then leaves behind is an error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is for people")]

use std::{
    io::{Read, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail, ensure};
use pepo_testkit::kubernetes::{Cluster, Machine, Settings, Version};

fn main() -> Result<()> {
    let (verb, settings) = arguments()?;
    match verb.as_str() {
        "up" => up(&settings),
        "hold" => hold(&settings),
        "down" => down(&settings),
        "status" => status(&settings),
        _ => bail!("no verb `{verb}` here: up, down or status"),
    }
}

fn arguments() -> Result<(String, Settings)> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let mut settings = Settings { folder: Cluster::usual_folder(), version: Version::default(), nodes: 1 };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--nodes" => settings.nodes = value()?.parse().context("--nodes takes a number")?,
            "--version" => settings.version = value()?.parse()?,
            unknown if unknown.starts_with('-') => bail!("no switch `{unknown}` here"),
            folder => settings.folder = PathBuf::from(folder),
        }
    }
    Ok((verb, settings))
}

fn up(settings: &Settings) -> Result<()> {
    Cluster::up(settings, &|step| eprintln!("{step}"))?;
    status(settings)
}

fn hold(settings: &Settings) -> Result<()> {
    // A terminal's Ctrl-C is for whoever started this: their end is what ends the cluster.
    let _ = rustix::process::setsid();
    // Of a keeper that was killed.
    if let Some(cluster) = Cluster::at(&settings.folder)? {
        cluster.down()?;
    }
    let before = Machine::look();
    let cluster = Cluster::up(settings, &|step| eprintln!("{step}"))?;
    println!("up");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    cluster.down()?;
    let left = before.differences(&cluster);
    ensure!(left.is_empty(), "left behind by the cluster:\n  {}", left.join("\n  "));
    Ok(())
}

fn down(settings: &Settings) -> Result<()> {
    match Cluster::at(&settings.folder)? {
        None => println!("no cluster in {}", settings.folder.display()),
        Some(cluster) => {
            cluster.down()?;
            println!("ended; its logs are in {}", cluster.folder().join("log").display());
        }
    }
    Ok(())
}

fn status(settings: &Settings) -> Result<()> {
    let Some(cluster) = Cluster::at(&settings.folder)? else {
        println!("no cluster in {}; `cargo xtask cluster up` starts one", settings.folder.display());
        Cluster::all().iter().for_each(|folder| println!("another is in {}", folder.display()));
        return Ok(());
    };
    if let Some(trouble) = cluster.trouble() {
        bail!("Kubernetes {} in {} is not whole: {trouble}", cluster.version(), cluster.folder().display());
    }
    print!("{}", cluster.kubectl(&["get", "nodes", "--output", "wide"])?);
    println!("audit log: {}", cluster.audit_log().display());
    let (config, programs) = (cluster.kubeconfig(), cluster.programs());
    println!("export KUBECONFIG={} PATH={}:$PATH", config.display(), programs.display());
    Ok(())
}
