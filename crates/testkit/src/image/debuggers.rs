//! Debuggers as `cargo xtask setup` brings them, for images: at paths of their own, so that they run wherever the image does.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Entry, Image, SKIPPED, collect};
use crate::programs::tools;

/// Where gdb and what it needs lie in an image.
const GDB: &str = "/opt/gdb";
/// What of that no debugger asks for.
const SKIPPED_OF_GDB: [&str; 3] = ["perl-base", "gconv", "sasl2"];

impl Image {
    /// gdb and its stub, and a shell, as gdb is started by a script. `None` where they are not there.
    pub fn gdb(self) -> Option<Image> {
        let text = fs::read_to_string(tools().join("gdb/bin/gdb")).ok()?;
        let from = text.lines().find_map(|line| line.strip_prefix("R="))?.to_owned();
        let root = Path::new(&from);
        let stub = tools().join("gdb/bin/gdbserver").canonicalize().ok()?;
        let skipped = [&SKIPPED[..], &SKIPPED_OF_GDB[..]].concat();
        let mut files = vec![(root.join("usr/bin/gdb"), format!("{GDB}/usr/bin/gdb"))];
        for folder in ["usr/lib", "usr/lib64", "usr/share/gdb"] {
            collect(&root.join(folder), &format!("{GDB}/{folder}"), &skipped, &mut files);
        }
        let image = self.with_shell().text("/usr/local/bin/gdb", &text.replace(&from, GDB));
        let image = image.file(&stub, "/usr/local/bin/gdbserver");
        Some(files.into_iter().fold(image, |image, (path, inside)| image.put(&inside, Entry::File(path))))
    }

    /// All that is needed for compiled programs: gdb with its stub, delve, and lldb's stub, behind which delve cannot harm a target.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn debuggers(self) -> Result<Image> {
        let image = self.gdb().context("gdb is missing; `cargo xtask setup` brings it")?;
        let (delve, stub) = (tools().join("delve/bin/dlv"), tools().join("lldb/bin/lldb-server"));
        for program in [&delve, &stub] {
            ensure!(program.exists(), "{} is missing; `cargo xtask setup` brings it", program.display());
        }
        // Its libraries are found from where it lies.
        let real = stub.canonicalize()?.display().to_string();
        let image = image.file(&delve, "/usr/local/bin/dlv").file(&stub, &real);
        Ok(image.link("/usr/local/bin/lldb-server", &real))
    }
}
