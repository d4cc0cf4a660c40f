//! The Ruby interpreters of this machine, for the tests that must hold for each of them.

use std::path::PathBuf;

use crate::{
    compile,
    image::Image,
    life::Life as _,
    programs::{command, tools},
    running::{Running, spawn_command},
};

/// Those that may be here, oldest first: major and minor version, and whether it is the system's own.
const KNOWN: [((u32, u32), bool); 3] = [((2, 7), false), ((3, 1), true), ((3, 3), false)];

/// One interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruby {
    /// Major and minor version.
    pub version: (u32, u32),
    /// The executable.
    pub path: PathBuf,
}

/// The interpreters of this machine, oldest first: the system's, and those of the toolkit folder.
#[must_use]
pub fn rubies() -> Vec<Ruby> {
    let all = KNOWN.into_iter().map(|(version, is_systems)| {
        let (major, minor) = version;
        let path = match is_systems {
            true => PathBuf::from(format!("/usr/bin/ruby{major}.{minor}")),
            false => tools().join(format!("ruby{major}.{minor}/bin/ruby{major}.{minor}")),
        };
        Ruby { version, path }
    });
    all.filter(|ruby| ruby.path.exists()).collect()
}

impl Ruby {
    /// A distroless image of `hot` in one of its modes: the interpreter, the libraries that it needs, and the script.
    #[must_use]
    pub fn image(&self, mode: &str) -> Image {
        let (major, minor) = self.version;
        let (path, script) = (self.path.display().to_string(), "/app/hot.rb");
        Image::new(&format!("pepo.test/hot-ruby{major}.{minor}-{mode}:1"))
            .file(&self.path, &path)
            .file(&compile::workspace().join("fixtures/hot/hot.rb"), script)
            .command(&[&path, "--disable=gems", script, mode])
    }

    /// `hot`, in one of its modes; at work when this returns.
    #[must_use]
    pub fn hot(&self, mode: &str) -> Running {
        let script = compile::workspace().join("fixtures/hot/hot.rb");
        // Only what is in the interpreter itself is needed.
        let target = spawn_command(command(&self.path).arg("--disable=gems").arg(script).arg(mode));
        target.wait_started();
        target
    }
}
