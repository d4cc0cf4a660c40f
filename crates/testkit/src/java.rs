//! The JVMs of this machine, for the tests that must hold for each of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    compile::{self, Recipe},
    programs::{command, tools},
};

/// One JVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Java {
    /// 8, 17, 25.
    pub version: u32,
    /// Its folder; the compiler is there only of some.
    pub home: PathBuf,
}

/// The JVMs of this machine, oldest first, one for each version: from `/usr/lib/jvm` and the toolkit folder.
pub fn javas() -> Vec<Java> {
    let below =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let homes = below(Path::new("/usr/lib/jvm")).chain(below(&tools()));
    let mut found = BTreeMap::new();
    let is_hotspot = |home: &Path| {
        // Before version 9 below the name of the machine.
        ["lib/server", "lib/amd64/server", "lib/aarch64/server"]
            .iter()
            .any(|folder| home.join(folder).join("libjvm.so").exists())
    };
    for home in homes.filter(|home| is_hotspot(home)) {
        if let Some(version) = version(&home) {
            found.entry(version).or_insert(home);
        }
    }
    found.into_iter().map(|(version, home)| Java { version, home }).collect()
}

/// Of the file `release`: `JAVA_VERSION="17.0.15"`; else of the folder's name, as of the toolkit's `java8`.
fn version(home: &Path) -> Option<u32> {
    let Ok(text) = fs::read_to_string(home.join("release")) else {
        return home.file_name()?.to_str()?.strip_prefix("java")?.parse().ok();
    };
    let version = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
    version.trim_start_matches("1.").split(['.', '"', '_']).next()?.parse().ok()
}

impl Java {
    /// `hot`, with options for the JVM and arguments for itself.
    ///
    /// # Panics
    /// If it does not compile.
    pub fn hot(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut line = command(self.home.join("bin/java"));
        // Several run at once.
        line.args(["-Xmx64m", "-cp"]).arg(hot_classes()).args(options).arg("Hot").args(arguments);
        line
    }
}

/// The folder with the classes of `hot`, compiled for the oldest, so that all can run them.
///
/// # Panics
/// If it does not compile.
pub fn hot_classes() -> PathBuf {
    let compilers = javas().into_iter().map(|java| java.home.join("bin/javac"));
    let compiler = compilers.into_iter().find(|path| path.exists()).expect("this machine has a JDK");
    let source = compile::workspace().join("fixtures/hot/Hot.java");
    let (compiler, file) = (compiler.display().to_string(), source.display().to_string());
    let line = [compiler.as_str(), "-Xlint:-options", "--release", "8", "-d", ".", &file];
    let steps = vec![line.map(str::to_owned).to_vec()];
    let classes = compile::cached(&Recipe { name: "Hot".into(), source, steps });
    classes.unwrap_or_else(|error| panic!("Hot.java: {error:#}"))
}
