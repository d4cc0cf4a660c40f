//! Packs async-profiler's library from its pinned jar into the binary, so that a JVM can be profiled wherever the binary is. Without the
//! jar there is none in it, and profiles of JVMs say so.

use std::{
    env, fs,
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

/// The version, and the jar's SHA-256; `cargo xtask setup` fetches it.
const VERSION: &str = "4.6";
const SHA256: &str = "a5d3d9f4582c2033fa9db518046e73ef97219801f3e7542b82e3e09261ebe493";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PEPO_ASYNC_PROFILER_JAR");
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let usual = home.join(format!(".cache/pepo/jars/async-profiler-{VERSION}.jar"));
    let jar = env::var_os("PEPO_ASYNC_PROFILER_JAR").map_or(usual, PathBuf::from);
    println!("cargo::rerun-if-changed={}", jar.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("libasyncProfiler.so");
    fs::write(&out, library(&jar)).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    println!("cargo::rustc-env=PEPO_ASYNC_PROFILER={VERSION}");
}

/// Of this processor; empty when there is no jar.
fn library(jar: &Path) -> Vec<u8> {
    let Ok(bytes) = fs::read(jar) else { return Vec::new() };
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        found,
        SHA256,
        "{} is not the pinned jar. Remove it and run `cargo xtask setup`.",
        jar.display()
    );
    let folder = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => "linux-x64",
        Ok("aarch64") => "linux-arm64",
        _ => return Vec::new(),
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).expect("the pinned jar is a zip");
    let mut library = Vec::new();
    let mut file = archive.by_name(&format!("{folder}/libasyncProfiler.so")).expect("it is in the jar");
    file.read_to_end(&mut library).expect("memory takes it");
    library
}
