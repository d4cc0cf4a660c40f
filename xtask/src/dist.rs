//! `cargo xtask dist`: a release in `dist/`: binaries, an archive for each platform, SHA-256 sums, an install script, krew's manifest,
//! Homebrew's formula, and a bill of materials.
//!
//! Linux gets the whole, static; macOS and Windows get the user's side. zig links for all of them, so
//! that no other system's SDK is needed.

/// An archive for each platform.
mod archives;
/// How people get one.
mod offers;
/// What the binaries are made of.
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use archives::PLATFORMS;
use archives::Platform;
use offers::{Offer, Summed};

use crate::args::Args;
use crate::paths;
use crate::run::cmd;
use crate::setup::{self, CROSS, Purpose, zigbuild};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds for every `--target` (default: all that are shipped), and packs; `--url` is where people will find the archives.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let yes = args.switch("yes");
    let mut targets = args.values("target")?;
    let url = args.value("url")?;
    args.done()?;
    if targets.is_empty() {
        targets = std::iter::once("x86_64-unknown-linux-musl").chain(CROSS).map(str::to_owned).collect();
    }
    setup::ensure(Purpose::Dist, yes)?;
    let dist = folder()?;
    archives::forget(&dist);
    let mut built = Vec::new();
    for target in &targets {
        built.push(program(target, &dist)?);
        if target.contains("linux") {
            build_entry(target)?;
            built.push(collect(target, "entry", "pepo-entry", &dist)?);
        }
    }
    let archives = targets.iter().filter_map(|target| Platform::of(target)).map(|platform| {
        let archive = archives::pack(platform, VERSION, &dist)?;
        println!("{}", archive.display());
        let sum = sum(&archive)?;
        built.push(archive);
        Ok(Summed { platform, sum })
    });
    let archives: Vec<Summed> = archives.collect::<Result<_>>()?;
    let url = url.unwrap_or_else(|| format!("{}/releases/v{VERSION}", env!("CARGO_PKG_REPOSITORY")));
    built.extend(Offer { version: VERSION, url: &url, archives: &archives }.write(&dist)?);
    let bill = dist.join(format!("pepo-{VERSION}.cdx.json"));
    fs::write(&bill, format!("{:#}\n", sbom::bill(VERSION)?))
        .context("cannot write the bill of materials")?;
    built.push(bill);
    sums(&dist, &built)
}

/// A file's SHA-256.
fn sum(file: &Path) -> Result<String> {
    let said = cmd("sha256sum").arg(file).quiet().output()?;
    said.split_whitespace().next().map(str::to_owned).context("sha256sum says nothing")
}

/// `dist/`, which git does not see.
pub(crate) fn folder() -> Result<PathBuf> {
    let dist = paths::root().join("dist");
    fs::create_dir_all(&dist)?;
    fs::write(dist.join(".gitignore"), "*\n")?;
    Ok(dist)
}

/// The release's command for a target, built and put into `dist/`.
pub(crate) fn program(target: &str, dist: &Path) -> Result<PathBuf> {
    build(target)?;
    collect(target, "release", "pepo", dist)
}

/// One release build.
fn build(target: &str) -> Result<()> {
    let cargo =
        zigbuild("zigbuild")?.args(["--release", "--locked", "--package", "pepo", "--target", target]);
    match target.contains("apple") {
        true => cargo.env("RUSTFLAGS", format!("-Clink-arg=-F{}", frameworks()?.display())).run(),
        false => cargo.run(),
    }
}

/// The start of containers, in the profile that keeps it small.
fn build_entry(target: &str) -> Result<()> {
    let line = ["--profile", "entry", "--locked", "--package", "pepo-entry", "--target", target];
    zigbuild("zigbuild")?.args(line).run()
}

/// What the user's side calls of Apple's frameworks: the name of the time zone (chrono), and the certificates that the system trusts
/// (rustls-native-certs, for clusters).
const FRAMEWORKS: [(&str, &[&str]); 2] = [
    (
        "CoreFoundation",
        &[
            "_CFArrayCreate",
            "_CFArrayGetCount",
            "_CFArrayGetValueAtIndex",
            "_CFDataGetBytePtr",
            "_CFDataGetLength",
            "_CFDictionaryGetValueIfPresent",
            "_CFEqual",
            "_CFNumberGetValue",
            "_CFRelease",
            "_CFRetain",
            "_CFStringCreateWithBytesNoCopy",
            "_CFStringGetBytes",
            "_CFStringGetCStringPtr",
            "_CFStringGetLength",
            "_CFTimeZoneCopySystem",
            "_CFTimeZoneGetName",
            "_CFTimeZoneResetSystem",
            "_kCFAllocatorDefault",
            "_kCFAllocatorNull",
            "_kCFTypeArrayCallBacks",
        ],
    ),
    (
        "Security",
        &[
            "_SecCertificateCopyData",
            "_SecCopyErrorMessageString",
            "_SecTrustSettingsCopyCertificates",
            "_SecTrustSettingsCopyTrustSettings",
        ],
    ),
];

/// A folder with text stubs of these frameworks (TBD, version 4): all a linker wants to know of them, in place of the SDK.
fn frameworks() -> Result<PathBuf> {
    let folder = paths::target_dir().join("frameworks");
    for (name, symbols) in FRAMEWORKS {
        let framework = folder.join(format!("{name}.framework"));
        fs::create_dir_all(&framework)?;
        let stub = format!(
            "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos, x86_64-macos ]\n\
             install-name: '/System/Library/Frameworks/{name}.framework/Versions/A/{name}'\n\
             exports:\n  - targets: [ arm64-macos, x86_64-macos ]\n    symbols: [ {} ]\n...\n",
            symbols.join(", ")
        );
        fs::write(framework.join(format!("{name}.tbd")), stub)?;
    }
    Ok(folder)
}

/// Copies the binary under a name that says what it is for.
fn collect(target: &str, profile: &str, name: &str, dist: &Path) -> Result<PathBuf> {
    let suffix = if target.contains("windows") { ".exe" } else { "" };
    let from = paths::target_dir().join(target).join(profile).join(format!("{name}{suffix}"));
    let to = dist.join(format!("{name}-{target}{suffix}"));
    fs::copy(&from, &to).with_context(|| format!("{} was not built", from.display()))?;
    let size = fs::metadata(&to)?.len() / 1024;
    println!("{} {size} KiB", to.display());
    Ok(to)
}

/// Writes `SHA256SUMS` of what was built, as `sha256sum --check` reads it.
fn sums(dist: &Path, built: &[PathBuf]) -> Result<()> {
    let names = built.iter().filter_map(|file| file.file_name());
    let sums = cmd("sha256sum").args(names).dir(dist).output()?;
    fs::write(dist.join("SHA256SUMS"), sums).context("cannot write SHA256SUMS")
}
