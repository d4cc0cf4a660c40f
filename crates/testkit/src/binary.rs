//! The built `pepo` program, found beside the running test and built once a process.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::programs::command;

/// The path of the built `pepo` for the target and profile of the running test.
///
/// `PEPO_BIN` overrides it (whoever built it already says so); otherwise `cargo build -p pepo` is run
/// once a process, which takes cargo's own lock.
pub fn pepo() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("PEPO_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
    .clone()
}

fn build() -> PathBuf {
    let exe = env::current_exe().expect("a test knows its own path");
    let place = Place::of(&exe).unwrap_or_else(|| panic!("{} is not below target/", exe.display()));
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "pepo", "--bin", "pepo"]);
    cargo.current_dir(crate::compile::workspace()).env("CARGO_TARGET_DIR", &place.target);
    cargo.env_remove("CARGO_BUILD_TARGET");
    if let Some(triple) = &place.triple {
        cargo.args(["--target", triple]);
    }
    if place.profile == "release" {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "pepo does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    place.folder.join("pepo")
}

/// `target/[triple/]profile/deps/test-0123`, taken apart.
#[derive(Debug, PartialEq)]
struct Place {
    target: PathBuf,
    triple: Option<String>,
    profile: String,
    folder: PathBuf,
}

impl Place {
    fn of(exe: &Path) -> Option<Place> {
        let mut folder = exe.parent()?;
        if matches!(folder.file_name()?.to_str()?, "deps" | "examples") {
            folder = folder.parent()?;
        }
        let profile = folder.file_name()?.to_str()?.to_owned();
        let above = folder.parent()?;
        let name = above.file_name()?.to_str()?;
        let (target, triple) = match name.contains("-linux-") {
            true => (above.parent()?, Some(name.to_owned())),
            false => (above, None),
        };
        Some(Place { target: target.to_owned(), triple, profile, folder: folder.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_path_tells_triple_and_profile() {
        let place = Place::of(Path::new("/r/target/x86_64-unknown-linux-musl/debug/deps/it-1f")).unwrap();
        assert_eq!(place.triple.as_deref(), Some("x86_64-unknown-linux-musl"));
        assert_eq!((place.profile.as_str(), place.target.as_path()), ("debug", Path::new("/r/target")));
        let place = Place::of(Path::new("/r/target/release/bench")).unwrap();
        assert_eq!((place.triple, place.profile.as_str()), (None, "release"));
        assert_eq!(place.folder, Path::new("/r/target/release"));
    }
}
