//! The groups, as data. A test belongs to a group by the name of a module it stands in; whatever names
//! none is a unit test.

use anyhow::{Result, bail};

use super::checks;

/// One group.
pub(crate) struct Group {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it checks, in a few words.
    pub(crate) what: &'static str,
    /// What is done.
    pub(crate) work: Work,
}

/// What a group does.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// A function of its own.
    Check(fn() -> Result<()>),
    /// A function of its own, which goes on while the next group of tests runs.
    Beside(fn() -> Result<()>),
    /// Some of the tests.
    Tests(Cut),
}

/// Which tests belong to a group.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// The module name they must have in their path, if any.
    pub(crate) within: Option<&'static str>,
    /// Module names they must not have: each test is run by one group.
    pub(crate) outside: &'static [&'static str],
    /// Whether they are run one after the other (they share an engine, or measure).
    pub(crate) one_by_one: bool,
    /// Whether examples in documentation are run too.
    pub(crate) examples: bool,
    /// Whether they need a cluster.
    pub(crate) cluster: bool,
    /// Minutes that one test program may take before it is ended and counted as failed.
    pub(crate) limit: u64,
}

const fn check(name: &'static str, what: &'static str, work: fn() -> Result<()>) -> Group {
    Group { name, what, work: Work::Check(work) }
}

const fn tests(name: &'static str, what: &'static str, cut: Cut) -> Group {
    Group { name, what, work: Work::Tests(cut) }
}

/// All groups in the order they run: what says no soonest comes first, unless it takes long.
pub(crate) static GROUPS: &[Group] = &[
    check("fmt", "formatting", checks::fmt),
    check("tidy", "the rules no compiler knows", checks::tidy),
    check("deny", "licences, bans and sources of dependencies", checks::deny),
    check("clippy", "lints", checks::clippy),
    check("generated", "generated pages are as the code makes them", checks::generated),
    tests(
        "unit",
        "tests that need no debugger and no engine",
        Cut {
            within: None,
            outside: &["debuggers::", "engines::", "safety::", "kubernetes::"],
            one_by_one: false,
            examples: true,
            cluster: false,
            limit: 20,
        },
    ),
    tests(
        "debuggers",
        "real debuggers on real processes",
        Cut {
            within: Some("debuggers::"),
            outside: &["engines::", "safety::", "kubernetes::"],
            one_by_one: true,
            examples: false,
            cluster: false,
            limit: 25,
        },
    ),
    // Engines are mostly waited for.
    Group { name: "cross", what: "compiles for other systems", work: Work::Beside(checks::cross) },
    tests(
        "engines",
        "real container engines",
        Cut {
            within: Some("engines::"),
            outside: &["safety::", "kubernetes::"],
            one_by_one: true,
            examples: false,
            cluster: false,
            limit: 25,
        },
    ),
    tests(
        "safety",
        "whoever dies, the target lives",
        Cut {
            within: Some("safety::"),
            outside: &["kubernetes::"],
            one_by_one: true,
            examples: false,
            cluster: false,
            limit: 25,
        },
    ),
    tests(
        "kubernetes",
        "a real cluster",
        Cut {
            within: Some("kubernetes::"),
            outside: &[],
            one_by_one: true,
            examples: false,
            cluster: true,
            limit: 25,
        },
    ),
];

/// The groups that were named, in their own order; all when none was.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Group>> {
    if let Some(unknown) = names.iter().find(|name| !GROUPS.iter().any(|group| group.name == **name)) {
        bail!("no group `{unknown}`; `cargo xtask test --list` shows them");
    }
    let chosen = |group: &&Group| names.is_empty() || names.iter().any(|name| name == group.name);
    Ok(GROUPS.iter().filter(chosen).collect())
}

/// Prints the groups.
pub(crate) fn list() {
    for group in GROUPS {
        println!("{:<12} {}", group.name, group.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which groups would run the test of this name.
    fn takers(test: &str) -> Vec<&'static str> {
        let takes = |cut: &Cut| {
            cut.within.is_none_or(|module| test.contains(module))
                && !cut.outside.iter().any(|module| test.contains(module))
        };
        let wants = |group: &&Group| matches!(&group.work, Work::Tests(cut) if takes(cut));
        GROUPS.iter().filter(wants).map(|group| group.name).collect()
    }

    #[test]
    fn each_test_belongs_to_exactly_one_group() {
        for (test, group) in [
            ("wire::frames", "unit"),
            ("debuggers::delve_attaches", "debuggers"),
            ("engines::debuggers::delve_attaches", "engines"),
            ("safety::engines::restart", "safety"),
            ("debuggers::safety::killed", "safety"),
            ("kubernetes::safety::killed", "kubernetes"),
        ] {
            assert_eq!(takers(test), [group], "{test}");
        }
    }

    #[test]
    fn an_unknown_group_is_refused() {
        assert!(choose(&["units".to_owned()]).is_err());
        assert_eq!(choose(&[]).unwrap().len(), GROUPS.len());
    }
}
