//! The debuggers that can be installed: data.

use std::fs;

use pepo_process::runtime::Language;

/// A debugger that comes from elsewhere.
#[derive(Debug)]
pub struct Entry {
    /// Its name here.
    pub name: &'static str,
    /// What it debugs.
    pub languages: &'static [Language],
    /// Its programs; the first is the adapter.
    pub programs: &'static [&'static str],
    /// The lowest version that works, for people and for checks: major and minor number.
    pub minimum: (u32, u32),
    /// Ways to install it, best first.
    pub install: &'static [Install],
    /// In words, where no way is known.
    pub hint: &'static str,
}

/// One way to install something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Where it works.
    pub system: System,
    /// The command; it is run as it is, without a shell.
    pub command: &'static [&'static str],
    /// Set this variable to the toolkit's folder for programs: the command puts them there.
    pub folder_variable: Option<&'static str>,
    /// Needs root.
    pub root: bool,
}

/// Systems that differ in how they install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Any.
    Any,
    /// Debian, Ubuntu and their kin.
    Debian,
    /// Fedora and its kin.
    Fedora,
    /// Alpine.
    Alpine,
    /// macOS.
    MacOs,
}

impl System {
    /// Does a way for `self` work on `other`?
    #[must_use]
    pub fn fits(self, other: System) -> bool {
        self == System::Any || self == other
    }

    /// This machine's, by os-release(5); [`System::Any`] when it is not known.
    #[must_use]
    pub fn here() -> System {
        if cfg!(target_os = "macos") {
            return System::MacOs;
        }
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        System::of_release(&text)
    }

    fn of_release(text: &str) -> System {
        let names = text
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        let names: Vec<&str> = names.flat_map(|names| names.trim_matches('"').split(' ')).collect();
        let is = |wanted: &[&str]| wanted.iter().any(|name| names.contains(name));
        match () {
            () if is(&["debian", "ubuntu"]) => System::Debian,
            () if is(&["fedora", "rhel", "centos"]) => System::Fedora,
            () if is(&["alpine"]) => System::Alpine,
            () => System::Any,
        }
    }
}

const fn package(system: System, command: &'static [&'static str]) -> Install {
    Install { system, command, folder_variable: None, root: !matches!(system, System::MacOs) }
}

/// All that can be installed.
#[must_use]
pub fn catalog() -> &'static [Entry] {
    CATALOG
}

/// The entry of this name, or the one that has a program of this name.
#[must_use]
pub fn entry(name: &str) -> Option<&'static Entry> {
    CATALOG.iter().find(|entry| entry.name == name || entry.programs.contains(&name))
}

const CATALOG: &[Entry] = &[
    Entry {
        name: "delve",
        languages: &[Language::Go],
        programs: &["dlv"],
        minimum: (1, 24),
        install: &[
            Install {
                system: System::Any,
                command: &["go", "install", "github.com/go-delve/delve/cmd/dlv@v1.27.2"],
                folder_variable: Some("GOBIN"),
                root: false,
            },
            package(System::Alpine, &["apk", "add", "delve"]),
            package(System::MacOs, &["brew", "install", "delve"]),
        ],
        hint: "install Go, then `go install github.com/go-delve/delve/cmd/dlv@latest`",
    },
    Entry {
        name: "lldb",
        languages: &[Language::Native],
        programs: &["lldb-dap", "lldb-server"],
        minimum: (18, 0),
        install: &[
            package(System::Debian, &["apt-get", "install", "-y", "lldb-19"]),
            package(System::Fedora, &["dnf", "install", "-y", "lldb"]),
            package(System::Alpine, &["apk", "add", "lldb"]),
            package(System::MacOs, &["brew", "install", "llvm"]),
        ],
        hint: "install LLVM 18 or newer with lldb-dap and lldb-server",
    },
    Entry {
        name: "gdb",
        languages: &[Language::Native],
        programs: &["gdb", "gdbserver"],
        minimum: (14, 1),
        install: &[
            package(System::Debian, &["apt-get", "install", "-y", "gdb", "gdbserver"]),
            package(System::Fedora, &["dnf", "install", "-y", "gdb", "gdb-gdbserver"]),
            package(System::Alpine, &["apk", "add", "gdb"]),
            package(System::MacOs, &["brew", "install", "gdb"]),
        ],
        hint: "install gdb 14 or newer with Python, and gdbserver",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_by_their_release_file() {
        for (text, system) in [
            ("NAME=\"Debian GNU/Linux\"\nID=debian\n", System::Debian),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", System::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", System::Fedora),
            ("ID=alpine\n", System::Alpine),
            ("ID=void\n", System::Any),
        ] {
            assert_eq!(System::of_release(text), system, "{text}");
        }
    }
}
