//! `image [--debuggers] NAME FILE BINARY...`: what `cargo xtask image` runs: an image that holds a static program at `/pepo`, which is the
//! entry by its other name, as an OCI archive; with several programs, one for each of their machines; with debuggers, those of this machine.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use pepo_testkit::Image;

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let debuggers = words.first().is_some_and(|word| word == "--debuggers");
    words.drain(..usize::from(debuggers));
    let [name, file, binaries @ ..] = words.as_slice() else {
        anyhow::bail!("usage: image [--debuggers] NAME FILE BINARY...")
    };
    let image = |binary: &String| match (Image::pepo(Path::new(binary), name), debuggers) {
        (image, true) => image.debuggers(),
        (image, false) => Ok(image),
    };
    let images: Vec<Image> = binaries.iter().map(image).collect::<Result<_>>()?;
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("{file} cannot be made"))?);
    let digest = Image::oci_archive(&images, &mut out)?;
    out.flush()?;
    println!("{file}: {name}, {} MiB, {digest}", std::fs::metadata(file)?.len() >> 20);
    for image in &images {
        println!("  {}", image.platform());
    }
    Ok(())
}
