//! Packs pydevd from the pinned debugpy wheel into one zip that is part of the binary, so that Python needs no tool installed, and
//! builds the machine code that goes with it.
#![allow(clippy::disallowed_methods, reason = "the compiler is started here, at build time")]

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Cursor, Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Where pydevd lies in the wheel.
const ROOT: &str = "debugpy/_vendored/pydevd/";
/// What of it is needed.
const FOLDERS: [&str; 6] = [
    "_pydev_bundle/",
    "_pydevd_bundle/",
    "_pydevd_frame_eval/",
    "_pydevd_sys_monitoring/",
    "pydevd_plugins/",
    "pydev_ipython/",
];
const FILES: [&str; 4] = ["pydevconsole.py", "pydevd.py", "pydevd_file_utils.py", "pydevd_tracing.py"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=payload");
    println!("cargo::rerun-if-env-changed=PEPO_DEBUGPY_WHEEL");
    let pin = Pin::read();
    let bytes = pin.wheel();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut wheel = ZipArchive::new(Cursor::new(bytes)).expect("the pinned wheel is a zip");
    write(&out.join("pydevd.zip"), &pack(&mut wheel));
    build_trace(&out.join("trace.bin"));
    println!("cargo::rustc-env=PEPO_DEBUGPY_VERSION={}", pin.version);
}

/// The trace function, as a flat image that is mapped as it is. Empty where code is not put into processes at all.
fn build_trace(image: &Path) {
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return write(image, &[]);
    }
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let target = env::var("TARGET").expect("cargo sets it");
    let status = Command::new(rustc)
        .args(["payload/trace.rs", "--edition=2024", "--crate-type=bin", "--target", &target, "-Dwarnings"])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=pic", "-Cdefault-linker-libraries=no"])
        .args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Clink-self-contained=no"])
        .args(["-Clink-arg=-no-pie", "-Clink-arg=-Tpayload/trace.ld", "-Clink-arg=--oformat=binary", "-o"])
        .arg(image)
        .status()
        .expect("rustc runs: it runs this build");
    assert!(status.success(), "payload/trace.rs was not built: {status}");
}

struct Pin {
    version: String,
    file: String,
    hash: String,
}

impl Pin {
    fn read() -> Pin {
        let text =
            fs::read_to_string("payload/debugpy.pin").expect("payload/debugpy.pin is part of the crate");
        let line = text.lines().find(|line| !line.starts_with('#')).expect("a line that is no comment");
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [version, file, hash] = words.try_into().expect("version, file, hash");
        Pin { version, file, hash }
    }

    /// The wheel's bytes, proven to be the pinned ones.
    fn wheel(&self) -> Vec<u8> {
        let path = match env::var_os("PEPO_DEBUGPY_WHEEL") {
            Some(path) => PathBuf::from(path),
            None => {
                let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                home.join(".cache/pepo/wheels").join(&self.file)
            }
        };
        println!("cargo::rerun-if-changed={}", path.display());
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}\n\nRun `cargo xtask setup` to fetch it.", path.display())
        });
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            found,
            self.hash,
            "{} is not the pinned wheel. Remove it and run `cargo xtask setup`.",
            path.display()
        );
        bytes
    }
}

/// pydevd's modules, with an entry for every folder: zipimport finds packages without `__init__.py` only so.
fn pack(wheel: &mut ZipArchive<Cursor<Vec<u8>>>) -> Vec<u8> {
    let names: BTreeSet<String> = wheel
        .file_names()
        .filter_map(|name| Some(name.ok()?.strip_prefix(ROOT)?.to_owned()))
        .filter(|name| is_needed(name))
        .collect();
    let folders: BTreeSet<String> = names.iter().flat_map(|name| folders_of(name)).collect();
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for folder in folders {
        zip.add_directory(folder, options).expect("memory takes it");
    }
    for name in names {
        let bytes = entry(wheel, &format!("{ROOT}{name}"));
        zip.start_file(name, options).expect("memory takes it");
        zip.write_all(&bytes).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}

fn is_needed(name: &str) -> bool {
    let python = Path::new(name).extension().is_some_and(|extension| extension == "py");
    python && (FILES.contains(&name) || FOLDERS.iter().any(|folder| name.starts_with(folder)))
}

fn folders_of(name: &str) -> Vec<String> {
    name.match_indices('/').map(|(at, _)| name[..=at].to_owned()).collect()
}

fn entry(wheel: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = wheel.by_name(name).unwrap_or_else(|error| panic!("{name} in the wheel: {error}"));
    file.read_to_end(&mut bytes).expect("memory takes it");
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
