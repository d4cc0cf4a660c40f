//! `image BINARY NAME FILE`: what `cargo xtask image` runs: an image that holds one static program at `/pepo`,
//! which is the entry by its other name, as an OCI archive.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use pepo_testkit::Image;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [binary, name, file] = words.as_slice() else { anyhow::bail!("usage: image BINARY NAME FILE") };
    let image = Image::pepo(Path::new(binary), name);
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("{file} cannot be made"))?);
    image.oci_archive(&mut out)?;
    out.flush()?;
    println!("{file}: {name}, {} MiB", std::fs::metadata(file)?.len() >> 20);
    Ok(())
}
