//! The arguments of `attach`: one list owns their names, their meaning for the reference page, and how they are read.

use std::{collections::BTreeMap, time::Duration};

use pepo_wire::{Code, Failure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::source_map::Rule;

/// One argument, for the reference page.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// What kind of value.
    pub kind: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// The most targets of a session, unless it is said otherwise.
const AT_ONCE: u16 = 16;

macro_rules! arguments {
    ($($(#[doc = $doc:literal])+ $field:ident ($name:literal, $kind:literal): $type:ty;)+) => {
        /// The arguments of `attach`, checked.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct AttachArguments {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// Names that were given but mean nothing here; told, so that a slip of the pen is seen.
            pub unknown: Vec<String>,
        }

        /// All arguments, in the order of the reference page.
        pub const FIELDS: &[Field] = &[$(Field { name: $name, kind: $kind, doc: concat!($($doc),+) },)+];

        impl AttachArguments {
            fn read(fields: &Map<String, Value>) -> Result<AttachArguments, Failure> {
                Ok(AttachArguments { $($field: take(fields, $name, $kind)?,)+ unknown: unknown(fields) })
            }
        }
    };
}

arguments! {
    /// The target, by any name that `pepo ps` prints.
    target ("target", "text"): Option<String>;
    /// Several targets in one session; each is named as in `target`.
    targets ("targets", "list of text"): Vec<String>;
    /// All that the names mean: of a workload or a service each pod that is ready. Breakpoints are set in each.
    all ("all", "yes or no"): bool;
    /// As `all`, until one stops: that one is kept, the others are let go.
    first ("first", "yes or no"): bool;
    /// The most targets of `all` and `first`; without it 16.
    at_once ("atOnce", "number"): Option<u16>;
    /// The platform to look on: `host`, `docker`, `podman`, `cri`.
    on ("on", "text"): Option<String>;
    /// The process inside the target: a regular expression on name and command line.
    process ("process", "text"): Option<String>;
    /// The process inside the target, by its number as seen in the container.
    pid ("pid", "number"): Option<u32>;
    /// The process, by its number as seen on this machine.
    host_pid ("hostPid", "number"): Option<u32>;
    /// The debugger; without it the process is looked at and the right one chosen.
    debugger ("debugger", "text"): Option<String>;
    /// Paths in the target and the same paths here, where they are not found by themselves: `{"/app": "."}`.
    source_map ("sourceMap", "object of text"): BTreeMap<String, String>;
    /// The folder whose files are matched with the target's; without it the folder in which `pepo` runs.
    cwd ("cwd", "text"): Option<String>;
    /// Debug files, or programs before they were stripped: folders or files on the editor's side.
    symbols ("symbols", "list of text"): Vec<String>;
    /// Stand still once attached.
    stop_on_entry ("stopOnEntry", "yes or no"): bool;
    /// How long the target may stand still: `"30s"`, `"2m"`, or a number of seconds; 0 is unlimited. Without it: from the container's health check, else 60 s.
    pause_budget ("pauseBudget", "time"): Option<PauseBudget>;
    /// Protect the target from the debugger's death: `on`, `off`; without it the debugger's measured default.
    guard ("guard", "text"): Option<GuardWish>;
    /// Allow the debugger's own commands; only on one's own machine.
    raw ("raw", "yes or no"): bool;
    /// What `pepo dap --listen` printed; not needed for the same user of the same Linux machine.
    token ("token", "text"): Option<String>;
}

/// `pauseBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseBudget(pub Duration);

impl<'de> serde::Deserialize<'de> for PauseBudget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PauseBudget, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(
                "a time is written \"30s\", \"2m\", \"500ms\", or as a number of seconds",
            )
        };
        match &value {
            Value::Number(number) => {
                let seconds =
                    number.as_f64().filter(|seconds| (0.0..1e9).contains(seconds)).ok_or_else(wrong)?;
                Ok(PauseBudget(Duration::from_secs_f64(seconds)))
            }
            Value::String(text) => duration(text).map(PauseBudget).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => number,
        "" | "s" => number.checked_mul(1000)?,
        "m" | "min" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// `guard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardWish {
    /// Guarded.
    On,
    /// Not guarded.
    Off,
}

impl AttachArguments {
    /// Reads the arguments of an `attach` request.
    ///
    /// # Errors
    /// [`Code::Usage`] that names the argument and what it should be.
    pub fn parse(arguments: &Value) -> Result<AttachArguments, Failure> {
        let empty = Map::new();
        let fields = arguments.as_object().unwrap_or(&empty);
        let mut read = AttachArguments::read(fields)?;
        if let Some(target) = read.target.take_if(|_| !read.targets.is_empty()) {
            return Err(
                usage("`target` and `targets` were both given").because(format!("`target` is {target}"))
            );
        }
        let several = read.targets.len() > 1 || read.means_all();
        if read.first && read.stop_on_entry {
            return Err(usage("`first` and `stopOnEntry` were both given")
                .because("with `stopOnEntry` all of them stop at once"));
        }
        if several && (read.pid.is_some() || read.host_pid.is_some()) {
            return Err(usage("a process number belongs to one target, and several were given"));
        }
        if read.target.is_none() && read.targets.is_empty() {
            match read.host_pid {
                Some(pid) => read.target = Some(format!("pid/{pid}")),
                None => {
                    return Err(usage("no target was named")
                        .hint("add \"target\": \"NAME\" to the attach arguments")
                        .try_command("list the names that work", ["pepo", "ps"]));
                }
            }
        }
        if read.targets.len() == 1 {
            read.target = read.targets.pop();
        }
        Ok(read)
    }

    /// May one name mean several targets?
    #[must_use]
    pub fn means_all(&self) -> bool {
        self.all || self.first
    }

    /// With these targets, which are all that were meant.
    ///
    /// # Errors
    /// [`Code::Usage`] when they are more than may be.
    pub fn with_all(self, names: Vec<String>) -> Result<AttachArguments, Failure> {
        let most = usize::from(self.at_once.unwrap_or(AT_ONCE));
        if names.len() > most {
            return Err(usage(format!("{} targets are more than `atOnce`, {most}", names.len()))
                .because("a debugger stands beside each of them at the same time")
                .hint(format!("allow it with \"atOnce\": {}, or name fewer", names.len())));
        }
        Ok(AttachArguments { target: None, targets: names, ..self })
    }

    /// The names of all targets, at least one.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.target.iter().chain(&self.targets).cloned().collect()
    }

    /// The same for one of several targets.
    #[must_use]
    pub fn for_target(&self, name: &str) -> AttachArguments {
        AttachArguments { target: Some(name.to_owned()), targets: Vec::new(), ..self.clone() }
    }

    /// The rules of `sourceMap`; paths here are taken from `cwd`.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let base = self.folder();
        let local = |path: &str| base.join(path).to_string_lossy().into_owned();
        self.source_map
            .iter()
            .map(|(remote, here)| Rule { remote: remote.clone(), local: local(here) })
            .collect()
    }

    /// The folder whose files are matched with the target's.
    #[must_use]
    pub fn folder(&self) -> std::path::PathBuf {
        let here = std::env::current_dir().unwrap_or_default();
        self.cwd.as_ref().map_or_else(|| here.clone(), |cwd| here.join(cwd))
    }
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, what)
}

/// One field; one that is missing or `null` is its default.
fn take<T: DeserializeOwned + Default>(
    fields: &Map<String, Value>,
    name: &str,
    kind: &str,
) -> Result<T, Failure> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => T::deserialize(value)
            .map_err(|error| usage(format!("the attach argument `{name}` is not a {kind}")).because(error)),
    }
}

/// What editors add for themselves.
const EDITORS_OWN: &[&str] = &[
    "type",
    "request",
    "name",
    "console",
    "debugServer",
    "internalConsoleOptions",
    "preLaunchTask",
    "postDebugTask",
    "presentation",
    "restart",
    "noDebug",
    "order",
    "adapter",
    "label",
    "tcp_connection",
    "build",
];

fn unknown(fields: &Map<String, Value>) -> Vec<String> {
    let known = |name: &str| FIELDS.iter().any(|field| field.name == name) || EDITORS_OWN.contains(&name);
    fields.keys().filter(|name| !known(name) && !name.starts_with('_')).cloned().collect()
}

/// The table of the reference page, in Markdown.
#[must_use]
pub fn table() -> String {
    let rows =
        FIELDS.iter().map(|field| format!("| `{}` | {} | {} |\n", field.name, field.kind, field.doc.trim()));
    "| argument | value | meaning |\n|---|---|---|\n".to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(arguments: Value) -> Result<AttachArguments, Failure> {
        AttachArguments::parse(&arguments)
    }

    #[test]
    fn arguments_are_read() {
        let read = parse(json!({
            "type": "pepo", "request": "attach", "name": "shop", "__sessionId": "x", "target": "docker/shop",
            "sourceMap": {"/app": "/home/me/shop"}, "pauseBudget": "2m", "guard": "off", "stopOnEntry": true, "traget": 1,
        }));
        let read = read.unwrap();
        assert_eq!(read.names(), ["docker/shop"]);
        assert_eq!(read.rules(), [Rule { remote: "/app".into(), local: "/home/me/shop".into() }]);
        assert_eq!(read.pause_budget, Some(PauseBudget(Duration::from_secs(120))));
        assert_eq!(read.guard, Some(GuardWish::Off));
        assert_eq!(read.unknown, ["traget"]);
    }

    #[test]
    fn wrong_kinds_name_the_argument() {
        for (name, value) in [
            ("pid", json!("7")),
            ("pid", json!(-1)),
            ("stopOnEntry", json!("yes")),
            ("sourceMap", json!(["/app"])),
            ("sourceMap", json!({"/app": 1})),
            ("targets", json!("a")),
            ("pauseBudget", json!("soon")),
            ("pauseBudget", json!(-3)),
            ("guard", json!("maybe")),
        ] {
            let mut arguments = json!({"target": "x"});
            arguments[name] = value.clone();
            let failure = parse(arguments).expect_err(&format!("{name}: {value}"));
            assert_eq!(failure.code(), Code::Usage);
            assert!(failure.what.contains(name), "{failure}");
        }
    }

    #[test]
    fn a_target_must_be_named_once() {
        for arguments in [
            json!({}),
            Value::Null,
            json!({"target": "a", "targets": ["b"]}),
            json!({"targets": ["a", "b"], "pid": 1}),
            json!({"target": "a", "first": true, "pid": 1}),
            json!({"target": "a", "first": true, "stopOnEntry": true}),
        ] {
            assert_eq!(parse(arguments.clone()).expect_err(&arguments.to_string()).code(), Code::Usage);
        }
        assert_eq!(parse(json!({"hostPid": 7})).unwrap().names(), ["pid/7"]);
        assert_eq!(parse(json!({"targets": ["a"]})).unwrap().target.as_deref(), Some("a"));
    }

    #[test]
    fn no_more_targets_than_are_allowed_are_taken_at_once() {
        let names = |count: usize| (0..count).map(|number| format!("pod/{number}")).collect::<Vec<_>>();
        let all = parse(json!({"target": "deploy/a", "all": true})).unwrap();
        assert_eq!(all.clone().with_all(names(16)).unwrap().names(), names(16));
        assert_eq!(all.with_all(names(17)).unwrap_err().code(), Code::Usage);
        let more = parse(json!({"target": "deploy/a", "first": true, "atOnce": 17})).unwrap();
        assert_eq!(more.with_all(names(17)).unwrap().names().len(), 17);
    }

    #[test]
    fn the_editors_page_holds_the_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/editors.md");
        let text = std::fs::read_to_string(page).unwrap_or_default();
        assert!(text.contains(&table()), "{page} should hold this table:\n{}", table());
    }
}
