//! How a user names a target: `NAME`, `docker/NAME`, `podman/NAME`, `cri/NAME`, `pid/4711`, `pod/NAME[/CONTAINER]`, and what
//! Kubernetes makes pods from: `deploy/NAME` and the like.

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
    /// A pod of Kubernetes', or a container in it.
    Pod,
    /// A pod of a Deployment.
    Deploy,
    /// A pod of a StatefulSet.
    Sts,
    /// A pod of a DaemonSet.
    Ds,
    /// A pod of a ReplicaSet.
    Rs,
    /// A pod of a Job.
    Job,
    /// A pod behind a Service.
    Svc,
    /// No word of a name: a server, which has targets of every kind.
    Server,
}

impl Kind {
    /// All kinds that a name may begin with, in the order `ps` shows them.
    pub const ALL: [Kind; 12] = [
        Kind::Docker,
        Kind::Podman,
        Kind::Cri,
        Kind::Pod,
        Kind::Deploy,
        Kind::Sts,
        Kind::Ds,
        Kind::Rs,
        Kind::Job,
        Kind::Svc,
        Kind::Host,
        Kind::Pid,
    ];

    /// As it is typed before the slash.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Cri => "cri",
            Kind::Pid => "pid",
            Kind::Host => "host",
            Kind::Pod => "pod",
            Kind::Deploy => "deploy",
            Kind::Sts => "sts",
            Kind::Ds => "ds",
            Kind::Rs => "rs",
            Kind::Job => "job",
            Kind::Svc => "svc",
            Kind::Server => "server",
        }
    }

    /// Other words that may stand before the slash: those of kubectl.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Kind::Pod => &["po", "pods"],
            Kind::Deploy => &["deployment", "deployments", "deployment.apps", "deployments.apps"],
            Kind::Sts => &["statefulset", "statefulsets", "statefulset.apps", "statefulsets.apps"],
            Kind::Ds => &["daemonset", "daemonsets", "daemonset.apps", "daemonsets.apps"],
            Kind::Rs => &["replicaset", "replicasets", "replicaset.apps", "replicasets.apps"],
            Kind::Job => &["jobs", "job.batch", "jobs.batch"],
            Kind::Svc => &["service", "services"],
            _ => &[],
        }
    }

    /// The platform that knows such targets, for messages.
    #[must_use]
    pub fn platform(self) -> &'static str {
        if self.is_in_cluster() { "kubernetes" } else { self.prefix() }
    }

    /// Does the name mean something of a Kubernetes cluster?
    #[must_use]
    pub fn is_in_cluster(self) -> bool {
        matches!(self, Kind::Pod | Kind::Deploy | Kind::Sts | Kind::Ds | Kind::Rs | Kind::Job | Kind::Svc)
    }

    fn read(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.prefix() == word || kind.aliases().contains(&word))
    }
}

/// A target's name as typed: a kind if one was given, and the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetName {
    /// What stood before the slash; `None` for a bare name, which means this machine's engines.
    pub kind: Option<Kind>,
    /// Container name or id, or a process id in decimal; in a cluster `NAME`, or `NAME/CONTAINER`.
    pub name: String,
}

impl TargetName {
    /// Name and, where one was given behind a further slash, the container.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>) {
        split(&self.name)
    }
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
            Some((prefix, name)) => (
                Some(Kind::read(prefix).ok_or_else(|| bad(&format!("`{prefix}/` is not a kind of target")))?),
                name,
            ),
        };
        if name.is_empty() {
            return Err(bad("the name is empty"));
        }
        let in_cluster = kind.is_some_and(Kind::is_in_cluster);
        let (plain, container) = if in_cluster { split(name) } else { (name, None) };
        let odd = |part: &str| part.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/');
        if name.len() > 255 || odd(plain) || container.is_some_and(odd) {
            return Err(bad("a name has no spaces, no further slashes, and at most 255 bytes"));
        }
        if in_cluster && (plain.is_empty() || container.is_some_and(str::is_empty)) {
            return Err(bad("it is written as pod/NAME or pod/NAME/CONTAINER"));
        }
        if kind == Some(Kind::Pid) && !name.parse::<u32>().is_ok_and(|pid| pid > 0 && pid <= i32::MAX as u32)
        {
            return Err(bad("a process id is a positive number"));
        }
        Ok(TargetName { kind, name: name.to_owned() })
    }
}

/// `NAME/CONTAINER`.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('/').map_or((name, None), |(name, container)| (name, Some(container)))
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
        for text in
            ["shop", "docker/shop", "podman/shop", "cri/3f2a", "pid/4711", "host/9c", "pod/a/b", "svc/shop"]
        {
            assert_eq!(text.parse::<TargetName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn kubectls_words_for_what_makes_pods_are_understood() {
        for (text, read) in [
            ("po/a", "pod/a"),
            ("deployment.apps/a", "deploy/a"),
            ("statefulsets/a/app", "sts/a/app"),
            ("service/a", "svc/a"),
        ] {
            let name: TargetName = text.parse().unwrap();
            assert!(name.kind.is_some_and(Kind::is_in_cluster), "{text}");
            assert_eq!(name.to_string(), read);
        }
        assert_eq!("sts/a/app".parse::<TargetName>().unwrap().parts(), ("a", Some("app")));
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
            ("pod/a/b/c", "slashes"),
            ("pod/a/", "pod/NAME/CONTAINER"),
            ("pod//a", "pod/NAME/CONTAINER"),
        ] {
            let failure = text.parse::<TargetName>().unwrap_err();
            assert_eq!(failure.code(), Code::BadName);
            assert!(failure.to_string().contains(why), "{text}: {failure}");
        }
    }
}
