//! `image NAME FILE BINARY...`: what `cargo xtask image` runs: an image that holds a static program at `/pepo`, which is the entry by its
//! other name, as an OCI archive; with several programs, one for each of their machines.
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
    let [name, file, binaries @ ..] = words.as_slice() else {
        anyhow::bail!("usage: image NAME FILE BINARY...")
    };
    let images: Vec<Image> = binaries.iter().map(|binary| Image::pepo(Path::new(binary), name)).collect();
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("{file} cannot be made"))?);
    let digest = Image::oci_archive(&images, &mut out)?;
    out.flush()?;
    println!("{file}: {name}, {} MiB, {digest}", std::fs::metadata(file)?.len() >> 20);
    for image in &images {
        println!("  {}", image.platform());
    }
    Ok(())
}
