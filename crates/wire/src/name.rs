//! How a user names a target: `NAME`, `docker/NAME`, `podman/NAME`, `cri/NAME`, `pid/4711`, and later `pod/NAME[/CONTAINER]` and the like.

use std::{fmt, str::FromStr};

use crate::{Code, Failure};

/// What stands before the slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A container of Docker's.
    Docker,
    /// A container of Podman's.
    Podman,
    /// A container of a CRI runtime's (containerd, CRI-O).
    Cri,
    /// A process of this machine.
    Pid,
    /// A container found by procfs alone, of whatever engine.
    Host,
}

impl Kind {
    /// All kinds, in the order `ps` shows them.
    pub const ALL: [Kind; 5] = [Kind::Docker, Kind::Podman, Kind::Cri, Kind::Host, Kind::Pid];

    /// As it is typed before the slash.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Cri => "cri",
            Kind::Pid => "pid",
            Kind::Host => "host",
        }
    }
}

/// A target's name as typed: a kind if one was given, and the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetName {
    /// What stood before the slash; `None` for a bare name, which means this machine's engines.
    pub kind: Option<Kind>,
    /// Container name or id, or a process id in decimal.
    pub name: String,
}

impl FromStr for TargetName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<TargetName, Failure> {
        let bad = |why: &str| {
            Failure::new(Code::BadName, format!("`{text}` does not name a target"))
                .because(why)
                .try_command("list the names that work", ["pepo", "ps"])
        };
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((prefix, name)) => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.prefix() == prefix);
                (Some(kind.ok_or_else(|| bad(&format!("`{prefix}/` is not a kind of target")))?), name)
            }
        };
        if name.is_empty() {
            return Err(bad("the name is empty"));
        }
        if name.len() > 255 || name.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/') {
            return Err(bad("a name has no spaces, no further slashes, and at most 255 bytes"));
        }
        if kind == Some(Kind::Pid) && !name.parse::<u32>().is_ok_and(|pid| pid > 0 && pid <= i32::MAX as u32)
        {
            return Err(bad("a process id is a positive number"));
        }
        Ok(TargetName { kind, name: name.to_owned() })
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{}/", kind.prefix())?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in ["shop", "docker/shop", "podman/shop", "cri/3f2a", "pid/4711", "host/9c"] {
            assert_eq!(text.parse::<TargetName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_names_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("docker/", "empty"),
            ("moon/shop", "`moon/`"),
            ("pid/0", "positive"),
            ("pid/-1", "positive"),
            ("pid/99999999999", "positive"),
            ("a b", "spaces"),
            ("docker/a/b", "slashes"),
        ] {
            let failure = text.parse::<TargetName>().unwrap_err();
            assert_eq!(failure.code(), Code::BadName);
            assert!(failure.to_string().contains(why), "{text}: {failure}");
        }
    }
}
