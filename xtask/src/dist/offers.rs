//! How people get an archive: an install script, krew's manifest for `kubectl pepo`, a formula for Homebrew. Each holds the checksums of
//! the very archives, so that nothing else is installed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archives::Platform;

/// An archive and its SHA-256.
pub(crate) struct Summed {
    pub(crate) platform: Platform,
    pub(crate) sum: String,
}

/// What is offered where.
pub(crate) struct Offer<'a> {
    pub(crate) version: &'a str,
    /// The folder of the archives, as people reach it.
    pub(crate) url: &'a str,
    pub(crate) archives: &'a [Summed],
}

const INSTALL: &str = include_str!("install.sh");
const ABOUT: &str = "See into, and step through, any process in any container";
const MORE: &str = "\
Stacks, live tops, profiles, core files, debuggers, a shell and files of any pod,
    also where its image has neither shell nor debugger; looking does not stop it.";
const HOME: &str = env!("CARGO_PKG_REPOSITORY");

impl Offer<'_> {
    /// Writes all of them into `dist`, and gives the files.
    pub(crate) fn write(&self, dist: &Path) -> Result<Vec<PathBuf>> {
        if !self.url.contains("://") || self.url.contains(['"', '\'', '$', '`', '\\', ' ', '\n']) {
            bail!("--url takes an address as in https://example.org/pepo, not `{}`", self.url);
        }
        let all = [("install.sh", self.install()), ("pepo.yaml", self.krew()), ("pepo.rb", self.homebrew())];
        let write = |(name, text): (&str, String)| {
            let file = dist.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        all.into_iter().map(write).collect()
    }

    fn address(&self, platform: Platform) -> String {
        format!("{}/{}", self.url.trim_end_matches('/'), platform.archive(self.version))
    }

    fn install(&self) -> String {
        let scripted = self.archives.iter().filter(|one| one.platform.os != "windows");
        let sums: Vec<String> = scripted
            .map(|Summed { platform, sum }| format!("    {}-{}) sum={sum} ;;", platform.os, platform.arch))
            .collect();
        INSTALL
            .replace("@VERSION@", self.version)
            .replace("@URL@", self.url.trim_end_matches('/'))
            .replace("@SUMS@", &sums.join("\n"))
    }

    fn krew(&self) -> String {
        let mut text = format!(
            "apiVersion: krew.googlecontainertools.github.com/v1alpha2\nkind: Plugin\nmetadata:\n  name: pepo\nspec:\n  \
             version: v{}\n  homepage: {HOME}\n  shortDescription: {ABOUT}\n  description: |\n    {MORE}\n  platforms:\n",
            self.version
        );
        for Summed { platform, sum } in self.archives {
            let Platform { os, arch, .. } = platform;
            let _ = write!(
                text,
                "  - selector:\n      matchLabels:\n        os: {os}\n        arch: {arch}\n    uri: {}\n    sha256: {sum}\n    \
                 bin: pepo{}\n",
                self.address(*platform),
                platform.suffix()
            );
        }
        text
    }

    fn homebrew(&self) -> String {
        let mut systems = String::new();
        for (system, os) in [("macos", "darwin"), ("linux", "linux")] {
            let of_system: Vec<_> = self.archives.iter().filter(|one| one.platform.os == os).collect();
            if of_system.is_empty() {
                continue;
            }
            let _ = writeln!(systems, "\n  on_{system} do");
            for Summed { platform, sum } in of_system {
                let machine = if platform.arch == "arm64" { "arm" } else { "intel" };
                let _ = writeln!(
                    systems,
                    "    on_{machine} do\n      url \"{}\"\n      sha256 \"{sum}\"\n    end",
                    self.address(*platform)
                );
            }
            let _ = writeln!(systems, "  end");
        }
        format!(
            "class Pepo < Formula\n  desc \"{ABOUT}\"\n  homepage \"{HOME}\"\n  version \"{}\"\n  license \"Apache-2.0\"\n{systems}\n  \
             def install\n    bin.install Dir[\"pepo*\"]\n    bin.install_symlink \"pepo\" => \"kubectl-pepo\"\n    \
             bin.install_symlink \"pepo\" => \"kubectl_complete-pepo\"\n    \
             generate_completions_from_executable(bin/\"pepo\", \"completions\")\n  end\n\n  \
             test do\n    assert_match version.to_s, shell_output(\"#{{bin}}/pepo --version\")\n  end\nend\n",
            self.version
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::archives::{PLATFORMS, pack, tests::Small};
    use super::super::sum;
    use super::*;
    use crate::run::cmd;

    fn sums(small: &Small) -> Vec<Summed> {
        let one =
            |platform| Summed { platform, sum: sum(&pack(platform, "1.2.3", &small.0).unwrap()).unwrap() };
        PLATFORMS.into_iter().map(one).collect()
    }

    fn offered(small: &Small) -> String {
        let url = format!("file://{}", small.0.display());
        let archives = sums(small);
        Offer { version: "1.2.3", url: &url, archives: &archives }.write(&small.0).unwrap();
        url
    }

    #[test]
    fn the_script_installs_what_was_released_and_again_over_it() {
        let small = Small::new("install");
        offered(&small);
        let to = small.0.join("new/bin");
        for _ in 0..2 {
            let script = cmd("sh").arg(small.0.join("install.sh")).arg(&to).quiet();
            let said = script.output().unwrap();
            assert!(said.starts_with("pepo of linux-"), "{said}");
            let mut names: Vec<_> = fs::read_dir(&to)
                .unwrap()
                .map(|one| one.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let agent = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
            let agent = format!("pepo-{agent}-unknown-linux-musl");
            assert_eq!(names, ["kubectl-pepo", "kubectl_complete-pepo", "pepo", &agent, "pepo-entry"]);
        }
        let plugin = cmd(to.join("kubectl-pepo")).arg("ps").quiet().output().unwrap();
        assert!(plugin.ends_with("ps\n"), "{plugin}");
    }

    #[test]
    fn the_script_refuses_another_archive_and_leaves_what_was_there() {
        let small = Small::new("refuse");
        offered(&small);
        let to = small.0.join("bin");
        fs::create_dir(&to).unwrap();
        fs::write(to.join("pepo"), "the old one").unwrap();
        for platform in PLATFORMS.iter().filter(|one| one.os == "linux") {
            let archive = small.0.join(platform.archive("1.2.3"));
            let mut bytes = fs::read(&archive).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&archive, bytes).unwrap();
        }
        let error =
            cmd("sh").arg(small.0.join("install.sh")).arg(&to).quiet().output().unwrap_err().to_string();
        assert!(
            error.contains("is not what was released") && error.contains("nothing was installed"),
            "{error}"
        );
        let names: Vec<_> = fs::read_dir(&to).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, ["pepo"]);
        assert_eq!(fs::read_to_string(to.join("pepo")).unwrap(), "the old one");
        let elsewhere = format!("file://{}/nowhere", small.0.display());
        let script = cmd("sh").arg(small.0.join("install.sh")).arg(&to).env("PEPO_URL", elsewhere).quiet();
        let error = script.output().unwrap_err().to_string();
        assert!(
            error.contains("nowhere/pepo-1.2.3-linux-") && error.contains("cannot be fetched"),
            "{error}"
        );
    }

    #[test]
    fn krews_manifest_and_homebrews_formula_name_the_very_archives() {
        let small = Small::new("offers");
        let url = offered(&small);
        let krew = fs::read_to_string(small.0.join("pepo.yaml")).unwrap();
        let formula = fs::read_to_string(small.0.join("pepo.rb")).unwrap();
        for platform in PLATFORMS {
            let (archive, suffix) = (platform.archive("1.2.3"), platform.suffix());
            let sum = sum(&small.0.join(&archive)).unwrap();
            let entry = format!("uri: {url}/{archive}\n    sha256: {sum}\n    bin: pepo{suffix}\n");
            assert!(krew.contains(&entry), "{krew}");
            let entry = format!("url \"{url}/{archive}\"\n      sha256 \"{sum}\"\n");
            assert_eq!(formula.contains(&entry), platform.os != "windows", "{formula}");
        }
        // Readers that are not ours.
        cmd("ruby").arg("-c").arg(small.0.join("pepo.rb")).quiet().output().unwrap();
        let read = cmd("ruby")
            .args(["-ryaml", "-e"])
            .arg("p = YAML.load_file(ARGV[0]); puts [p['metadata']['name'], p['spec']['version'], p['spec']['platforms'].size].join(' ')")
            .arg(small.0.join("pepo.yaml"))
            .quiet()
            .output()
            .unwrap();
        assert_eq!(read, "pepo v1.2.3 4\n");
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let small = Small::new("address");
        for url in ["pepo.dev", "https://x/$(id)", "https://x/\"", "https://x y"] {
            let offer = Offer { version: "1.2.3", url, archives: &[] };
            assert!(offer.write(&small.0).unwrap_err().to_string().contains("--url"), "{url}");
        }
    }
}
