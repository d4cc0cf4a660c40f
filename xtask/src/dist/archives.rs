//! An archive for each platform: the command, the Linux agents that it puts beside targets elsewhere, the start of containers,
//! the licence. Made from the same files, it is the same to the byte.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;
use crate::run::cmd;

/// One platform that is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// As Rust calls it.
    pub(crate) target: &'static str,
    /// The system, as Go (and so krew) calls it.
    pub(crate) os: &'static str,
    /// Its machine, as Go calls it.
    pub(crate) arch: &'static str,
}

/// All of them.
pub(crate) const PLATFORMS: [Platform; 4] = [
    Platform { target: "x86_64-unknown-linux-musl", os: "linux", arch: "amd64" },
    Platform { target: "aarch64-unknown-linux-musl", os: "linux", arch: "arm64" },
    Platform { target: "aarch64-apple-darwin", os: "darwin", arch: "arm64" },
    Platform { target: "x86_64-pc-windows-gnu", os: "windows", arch: "amd64" },
];

impl Platform {
    /// That of one of Rust's targets.
    pub(crate) fn of(target: &str) -> Option<Platform> {
        PLATFORMS.into_iter().find(|platform| platform.target == target)
    }

    /// What ends the name of a program.
    pub(crate) fn suffix(self) -> &'static str {
        if self.os == "windows" { ".exe" } else { "" }
    }

    /// The archive's name.
    pub(crate) fn archive(self, version: &str) -> String {
        let kind = if self.os == "windows" { "zip" } else { "tar.gz" };
        format!("pepo-{version}-{}-{}.{kind}", self.os, self.arch)
    }

    /// What is in its archive: the name there, and the file in `dist/`. The agents of other machines are those that were built.
    fn files(self, dist: &Path) -> Vec<(String, PathBuf)> {
        let suffix = self.suffix();
        let raw = |name: &str, target: &str, suffix: &str| dist.join(format!("{name}-{target}{suffix}"));
        let mut files = vec![(format!("pepo{suffix}"), raw("pepo", self.target, suffix))];
        if self.os == "linux" {
            files.push(("pepo-entry".to_owned(), raw("pepo-entry", self.target, "")));
        }
        let others = PLATFORMS.iter().filter(|other| other.os == "linux" && **other != self);
        let agents = others.map(|other| (format!("pepo-{}", other.target), raw("pepo", other.target, "")));
        files.extend(agents.filter(|(_, file)| file.exists()));
        files.extend(["LICENSE", "NOTICE"].map(|name| (name.to_owned(), paths::root().join(name))));
        files
    }
}

/// Removes the programs of an earlier release, which must not come into this one's archives.
pub(crate) fn forget(dist: &Path) {
    for platform in PLATFORMS {
        for (_, file) in platform.files(dist).into_iter().filter(|(_, file)| file.starts_with(dist)) {
            let _ = fs::remove_file(file);
        }
    }
}

/// Packs what stands in `dist` for one platform, and gives the archive.
pub(crate) fn pack(platform: Platform, version: &str, dist: &Path) -> Result<PathBuf> {
    let name = platform.archive(version);
    let stage = dist.join(format!(".{name}"));
    let archive = dist.join(&name);
    let _ = fs::remove_dir_all(&stage);
    let _ = fs::remove_file(&archive);
    fs::create_dir_all(&stage)?;
    let packed = fill(&stage, platform, dist).and_then(|names| match platform.os {
        "windows" => zip(&stage, &names, &archive),
        _ => tar(&stage, &names, &archive),
    });
    fs::remove_dir_all(&stage)?;
    packed.with_context(|| format!("{name} cannot be packed"))?;
    Ok(archive)
}

/// The files under their names in the archive, all with one time; gives the names.
fn fill(stage: &Path, platform: Platform, dist: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, from) in platform.files(dist) {
        let to = stage.join(&name);
        fs::copy(&from, &to).with_context(|| format!("{} is missing", from.display()))?;
        let mode = if name.starts_with("pepo") { 0o755 } else { 0o644 };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        names.push(name);
    }
    // The first moment that zip knows.
    cmd("touch").args(["-d", "1980-01-01T00:00:00Z"]).args(&names).dir(stage).quiet().run()?;
    Ok(names)
}

/// Files alone, no links: krew takes nothing else.
fn tar(stage: &Path, names: &[String], archive: &Path) -> Result<()> {
    let same =
        ["--owner=0", "--group=0", "--numeric-owner", "--format=ustar", "--use-compress-program=gzip -n"];
    cmd("tar").arg("--create").args(same).arg("--file").arg(archive).args(names).dir(stage).quiet().run()
}

fn zip(stage: &Path, names: &[String], archive: &Path) -> Result<()> {
    cmd("zip").args(["-q", "-X"]).arg(archive).args(names).env("TZ", "UTC").dir(stage).quiet().run()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A `dist/` with scripts in place of programs; it goes with the value.
    pub(crate) struct Small(pub(crate) PathBuf);

    impl Small {
        pub(crate) fn new(name: &str) -> Small {
            let folder = std::env::temp_dir().join(format!("pepo-dist-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            for platform in PLATFORMS {
                let file =
                    |name: &str| folder.join(format!("{name}-{}{}", platform.target, platform.suffix()));
                let script = format!("#!/bin/sh\necho pepo of {}-{}, $*\n", platform.os, platform.arch);
                fs::write(file("pepo"), script).unwrap();
                fs::write(file("pepo-entry"), "#!/bin/sh\n").unwrap();
            }
            Small(folder)
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listed(archive: &Path) -> Vec<String> {
        let list = match archive.extension().is_some_and(|kind| kind == "zip") {
            true => cmd("python3").args(["-m", "zipfile", "-l"]).arg(archive).quiet().output().unwrap(),
            false => cmd("tar").args(["-tvf"]).arg(archive).quiet().output().unwrap(),
        };
        list.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_platform_has_an_archive_with_what_it_needs_and_no_link() {
        let small = Small::new("archives");
        let agents = ["pepo-x86_64-unknown-linux-musl", "pepo-aarch64-unknown-linux-musl"];
        for platform in PLATFORMS {
            let lines = listed(&pack(platform, "1.2.3", &small.0).unwrap());
            let has = |name: &str| lines.iter().any(|line| line.split(' ').any(|word| word == name));
            let suffix = platform.suffix();
            assert!(has(&format!("pepo{suffix}")) && has("LICENSE") && has("NOTICE"), "{lines:?}");
            assert_eq!(has("pepo-entry"), platform.os == "linux", "{lines:?}");
            let its_own = format!("pepo-{}", platform.target);
            assert!(agents.iter().all(|agent| has(agent) != (*agent == its_own)), "{lines:?}");
            if platform.os != "windows" {
                assert!(lines.iter().all(|line| line.starts_with("-rw")), "files alone: {lines:?}");
                assert!(lines.iter().any(|line| line.starts_with("-rwxr-xr-x 0/0")), "{lines:?}");
            }
        }
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let small = Small::new("same");
        for platform in [PLATFORMS[0], PLATFORMS[3]] {
            let pack = || fs::read(pack(platform, "1.2.3", &small.0).unwrap()).unwrap();
            let first = pack();
            let program = small.0.join(format!("pepo-{}{}", platform.target, platform.suffix()));
            let again = fs::read(&program).unwrap();
            fs::write(&program, again).unwrap();
            assert!(first == pack(), "{}", platform.target);
        }
    }

    #[test]
    fn a_program_that_was_not_built_is_named() {
        let small = Small::new("missing");
        forget(&small.0);
        assert!(
            fs::read_dir(&small.0)
                .unwrap()
                .all(|one| !one.unwrap().path().ends_with("pepo-x86_64-unknown-linux-musl"))
        );
        let error = format!("{:#}", pack(PLATFORMS[2], "1.2.3", &small.0).unwrap_err());
        assert!(error.contains("pepo-aarch64-apple-darwin is missing"), "{error}");
    }
}
