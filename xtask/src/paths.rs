//! Where things are. The environment is read here and nowhere else in xtask (but for `PATH`).

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask/ stands in the workspace").to_owned()
}

/// What setup fetches for development stands below this folder, outside the workspace, so that
/// clones share it: `tools/` (the toolkit), `wheels/`, `jars/`, `sides/` (packages of a newer Debian), `log/`.
pub(crate) fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.join(".cache/pepo")
}

/// The toolkit: `DEBUGGER/bin/PROGRAM`; tests get it as `PEPO_TOOLS`.
pub(crate) fn tools() -> PathBuf {
    cache().join("tools")
}

/// The wheels that are packed into the binary at build time.
pub(crate) fn wheels() -> PathBuf {
    cache().join("wheels")
}

/// The jars whose libraries are packed into the binary at build time.
pub(crate) fn jars() -> PathBuf {
    cache().join("jars")
}

/// The log of one step of setup.
pub(crate) fn log(step: &str) -> PathBuf {
    cache().join("log").join(format!("{}.log", step.replace([' ', '/'], "-")))
}

/// Where cargo builds (`CARGO_TARGET_DIR`, else `target/`).
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The triple that is built, tested and shipped for this machine: always static musl.
pub(crate) fn triple() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}
