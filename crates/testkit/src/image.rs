//! Container images without a registry or a daemon: the archive is written here, from files of this machine.

/// Debuggers in images.
mod debuggers;
/// Images for several machines in one archive.
mod oci;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    compile::hex,
    fixtures::{Fixture, Language},
    programs::command,
};

/// What stands at one path of an image.
#[derive(Debug, Clone)]
enum Entry {
    Folder(u32),
    File(PathBuf),
    Text(String),
    Link(String),
}

/// An image in the making: one layer and how it is run.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entries: BTreeMap<String, Entry>,
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    labels: BTreeMap<String, String>,
    /// The machine, as Go calls it.
    architecture: &'static str,
}

/// Parts of Python's library that no program of ours needs.
const SKIPPED: [&str; 12] = [
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "unittest",
];

/// Machines by their numbers in ELF files, and as Go calls them.
const MACHINES: [(u16, &str); 2] = [(62, "amd64"), (183, "arm64")];

/// What images of Pepo say of themselves, after `org.opencontainers.image.` (OCI image spec, "Pre-Defined Annotation Keys").
const LABELS: [(&str, &str); 5] = [
    ("title", "Pepo"),
    ("description", "looks into processes in containers, and debugs them"),
    ("version", env!("CARGO_PKG_VERSION")),
    ("licenses", env!("CARGO_PKG_LICENSE")),
    ("url", env!("CARGO_PKG_REPOSITORY")),
];

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\napp:x:1000:1000::/home:/sbin/nologin\n\
                      nobody:x:65534:65534::/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n";

impl Image {
    /// An empty image: a few folders and `/etc/passwd`, no program. `name` has a tag: `pepo.test/shop:1.4`.
    pub fn new(name: &str) -> Image {
        let mut image = Image {
            name: name.to_owned(),
            entries: BTreeMap::new(),
            command: Vec::new(),
            env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()],
            user: String::new(),
            labels: BTreeMap::new(),
            architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        };
        for folder in ["dev", "dev/shm", "etc", "home", "proc", "root", "run", "sys", "var"] {
            image.entries.insert(folder.to_owned(), Entry::Folder(0o755));
        }
        image.entries.insert("tmp".to_owned(), Entry::Folder(0o1777));
        image.text("/etc/passwd", PASSWD).text("/etc/group", GROUP)
    }

    /// A distroless image of a fixture: the program (Python: interpreter and library) with the shared libraries
    /// it needs, at `/app/`, as its command. `name` is `pepo.test/PROGRAM-LANGUAGE:1`.
    pub fn of(fixture: &Fixture) -> Image {
        let language = match &fixture.python {
            Some(python) => format!("python{}.{}", python.version.0, python.version.1),
            None => format!("{:?}", fixture.language).to_lowercase(),
        };
        let image = Image::new(&format!("pepo.test/{}-{language}:1", fixture.program));
        let inside = match fixture.language {
            Language::Python => format!("/app/{}", fixture.source_name()),
            _ => format!("/app/{}", fixture.program),
        };
        let image = image.file(&fixture.path, &inside);
        match &fixture.python {
            None => image.command(&[&inside]),
            Some(python) => {
                let interpreter = python.path.display().to_string();
                image.python(&python.path).command(&[&interpreter, &inside])
            }
        }
    }

    /// As [`Image::of`], and in images of Python the library of C++, which those of most distributions have: by a part that is written in
    /// it pydevd follows threads that run already.
    pub fn usual(fixture: &Fixture) -> Image {
        const CPP: [&str; 3] = [
            "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
            "/usr/lib/aarch64-linux-gnu/libstdc++.so.6",
            "/usr/lib64/libstdc++.so.6",
        ];
        let image = Image::of(fixture);
        match CPP.iter().find(|path| Path::new(path).exists()) {
            Some(library) if fixture.language == Language::Python => image.file(Path::new(library), library),
            _ => image,
        }
    }

    /// What pods need of Pepo: one static program at `/pepo`, which is the entry by its other name; for the machine that it is for.
    ///
    /// # Panics
    /// If that is none that there are nodes of.
    pub fn pepo(binary: &Path, name: &str) -> Image {
        let image = Image::new(name).file(binary, "/pepo").link("/pepo-entry", "pepo").command(&["/pepo"]);
        let machine = elf(binary).and_then(|machine| MACHINES.iter().find(|(number, _)| *number == machine));
        let (_, architecture) = machine.unwrap_or_else(|| panic!("{}: no known ELF file", binary.display()));
        let labelled = LABELS
            .iter()
            .fold(image, |image, (key, text)| image.label(&format!("org.opencontainers.image.{key}"), text));
        Image { architecture, ..labelled }
    }

    /// Another name.
    pub fn named(mut self, name: &str) -> Image {
        name.clone_into(&mut self.name);
        self
    }

    /// A file of this machine (links are followed) and, if it is an ELF file, the shared libraries it needs.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn file(mut self, host: &Path, inside: &str) -> Image {
        let real = host.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", host.display()));
        for library in libraries(std::slice::from_ref(&real)) {
            self = self.put(&library.display().to_string(), Entry::File(library));
        }
        self.put(inside, Entry::File(real))
    }

    /// A folder of this machine with all that is in it but the files that `skip` names.
    pub fn folder(mut self, host: &Path, inside: &str, skip: &[&str]) -> Image {
        let mut files = Vec::new();
        collect(host, inside, skip, &mut files);
        let programs: Vec<_> =
            files.iter().map(|(path, _)| path.clone()).filter(|path| elf(path).is_some()).collect();
        for library in libraries(&programs) {
            self = self.put(&library.display().to_string(), Entry::File(library));
        }
        files.into_iter().fold(self, |image, (path, inside)| image.put(&inside, Entry::File(path)))
    }

    /// A symbolic link.
    pub fn link(self, inside: &str, target: &str) -> Image {
        self.put(inside, Entry::Link(target.to_owned()))
    }

    /// A text file, which is a program if it begins as a script.
    pub fn text(self, inside: &str, text: &str) -> Image {
        self.put(inside, Entry::Text(text.to_owned()))
    }

    /// `/bin/sh` and friends from busybox-static.
    pub fn with_shell(self) -> Image {
        let names = [
            "sh", "cat", "chmod", "echo", "env", "head", "id", "kill", "ls", "mkdir", "mv", "ps", "sleep",
            "uname", "wc", "wget",
        ];
        let image = self.file(Path::new("/bin/busybox"), "/bin/busybox");
        names.iter().fold(image, |image, name| image.link(&format!("/bin/{name}"), "busybox"))
    }

    /// A Python interpreter with its library and all shared libraries, at the same paths as on this machine.
    pub fn python(self, interpreter: &Path) -> Image {
        let ask = "import os; print(os.path.dirname(os.__file__))";
        let output = command(interpreter).args(["-SEc", ask]).output().expect("the interpreter starts");
        let library = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(!library.is_empty(), "{} does not know its library", interpreter.display());
        self.file(interpreter, &interpreter.display().to_string()).folder(
            Path::new(&library),
            &library,
            &SKIPPED,
        )
    }

    /// What the container runs.
    pub fn command(mut self, words: &[&str]) -> Image {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The user, as `USER` in a Dockerfile.
    pub fn user(mut self, user: &str) -> Image {
        user.clone_into(&mut self.user);
        self
    }

    /// One environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Image {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// One label.
    pub fn label(mut self, name: &str, value: &str) -> Image {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Name and tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs on, as images tell it: `linux/arm64`.
    pub fn platform(&self) -> String {
        format!("linux/{}", self.architecture)
    }

    /// The command line it runs.
    pub fn command_line(&self) -> &[String] {
        &self.command
    }

    /// Lays the files out below `root`, an existing folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn unpack(&self, root: &Path) -> Result<()> {
        let layer = self.layer()?;
        let mut archive = tar::Archive::new(layer.as_slice());
        archive.set_preserve_permissions(true);
        archive.unpack(root).with_context(|| format!("cannot lay {} out at {}", self.name, root.display()))
    }

    /// Writes the archive that `docker load`, `podman load` and `ctr image import` take.
    ///
    /// # Errors
    /// If a file of the image cannot be read or the archive cannot be written.
    pub fn docker_archive(&self, to: impl Write) -> Result<()> {
        let layer = self.layer()?;
        let diff = sha256(&layer);
        let config = self.config(&diff);
        let config_name = format!("{}.json", sha256(&config));
        let layer_name = format!("{diff}/layer.tar");
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": [layer_name]}]);
        write_archive(
            to,
            &[
                (&config_name, &config),
                (&layer_name, &layer),
                ("manifest.json", manifest.to_string().as_bytes()),
            ],
        )
    }

    /// Puts an entry, and the folders above it.
    fn put(mut self, inside: &str, entry: Entry) -> Image {
        let inside = inside.trim_start_matches('/');
        for (index, _) in inside.match_indices('/') {
            self.entries.entry(inside[..index].to_owned()).or_insert(Entry::Folder(0o755));
        }
        self.entries.insert(inside.to_owned(), entry);
        self
    }

    fn config(&self, diff: &str) -> Vec<u8> {
        let created = "2026-01-01T00:00:00Z";
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "Cmd": self.command, "Env": self.env, "User": self.user, "WorkingDir": "/", "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
            "history": [{"created": created, "created_by": "pepo-testkit"}],
        });
        config.to_string().into_bytes()
    }

    /// The one layer; the map's order puts folders before what is in them.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut layer, path, entry).with_context(|| format!("cannot add {path} to {}", self.name))?;
        }
        Ok(layer.into_inner()?)
    }
}

fn append(layer: &mut tar::Builder<Vec<u8>>, path: &str, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    match entry {
        Entry::Folder(mode) => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            layer.append_data(&mut header, path, io::empty())
        }
        Entry::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            layer.append_link(&mut header, path, target)
        }
        Entry::Text(text) => {
            header.set_mode(if text.starts_with("#!") { 0o755 } else { 0o644 });
            header.set_size(text.len() as u64);
            layer.append_data(&mut header, path, text.as_bytes())
        }
        Entry::File(host) => {
            let bytes = fs::read(host)?;
            let executable = fs::metadata(host)?.permissions().mode() & 0o100 != 0;
            header.set_mode(if executable { 0o755 } else { 0o644 });
            header.set_size(bytes.len() as u64);
            layer.append_data(&mut header, path, bytes.as_slice())
        }
    }
}

fn write_archive(to: impl Write, files: &[(&str, &[u8])]) -> Result<()> {
    let mut archive = tar::Builder::new(to);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Files below `folder` and where they go; links are followed, what is neither is left out.
fn collect(folder: &Path, inside: &str, skip: &[&str], files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if skip.contains(&name.as_str()) || name.starts_with("config-") || name.ends_with(".a") {
            continue;
        }
        let (path, inside) = (entry.path(), format!("{inside}/{name}"));
        if path.is_dir() {
            collect(&path, &inside, skip, files);
        } else if path.is_file() {
            files.push((path, inside));
        }
    }
}

/// The machine of an ELF file, by its number (elf(5), `e_machine`).
fn elf(path: &Path) -> Option<u16> {
    let mut head = [0; 20];
    io::Read::read_exact(&mut fs::File::open(path).ok()?, &mut head).ok()?;
    head.starts_with(b"\x7fELF").then(|| u16::from_le_bytes([head[18], head[19]]))
}

/// The shared libraries (and the dynamic loader) that ELF files need, as `ldd` finds them.
fn libraries(programs: &[PathBuf]) -> Vec<PathBuf> {
    let programs: Vec<_> = programs.iter().filter(|path| elf(path).is_some()).collect();
    if programs.is_empty() {
        return Vec::new();
    }
    // It fails for static programs, which need none.
    let output = command("ldd").args(&programs).output().expect("ldd starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with('\t'))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(|path| straight(Path::new(path)))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Without `..`, which has no place in an archive.
fn straight(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| folder.iter().any(|part| part == ".."));
    let real = folder.and_then(|folder| folder.canonicalize().ok());
    real.zip(path.file_name()).map_or_else(|| path.to_owned(), |(folder, name)| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let layer = Image::new("x:1").text("/a/b/c.txt", "hello").link("/a/z", "b").layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let place = |path: &str| paths.iter().position(|other| other == Path::new(path)).unwrap();
        assert!(place("a") < place("a/b") && place("a/b") < place("a/b/c.txt"));
        assert!(place("etc") < place("etc/passwd"));
    }
}
