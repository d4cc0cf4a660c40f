//! One session from its first line to its last, wherever the target is: the same body for processes and containers.

use std::time::Duration;

use pepo_testkit::{Fixture, Language, Life, clean};
use serde_json::Value;

use crate::support::Surroundings;

/// Breakpoint, stack, variables, a changed variable, the end: as a script with data, then nothing is left. `target` is its name,
/// and flags that follow it.
pub(crate) fn changes_a_variable(
    surroundings: &Surroundings,
    target: &[&str],
    fixture: &Fixture,
    life: &dyn Life,
    before: &clean::Snapshot,
) {
    let place = format!("break {}:{}", fixture.source_name(), fixture.line("NEXT"));
    let script = [&place, "continue", "bt", "locals", "print answer", "set answer = 63", "detach"];
    let mut arguments = [&["attach"], target, &["--output", "json", "--timeout", "60s"]].concat();
    for line in &script {
        arguments.extend(["-ex", line]);
    }
    let run = surroundings.run(&arguments).ok();
    let said = run.json_lines();
    let kinds: Vec<_> = said.iter().filter_map(|one| one["kind"].as_str()).collect();
    let of = |kind: &str| {
        said.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"))
    };
    let stopped = of("stopped");
    assert_eq!(stopped["place"]["frame"]["line"], fixture.line("NEXT"), "{stopped}");
    let frames = of("stack")["frames"].as_array().unwrap();
    assert!(frames[0]["function"].as_str().unwrap().contains("tick"), "{frames:?}");
    let answer = of("value");
    assert!(answer["value"].as_str().unwrap().contains("42"), "{answer}");
    let names = local_names(of("locals"));
    for name in ["counter", "factor", "sizes"] {
        assert!(names.iter().any(|one| one == name), "{name} is not in {names:?}");
    }
    let closed = of("closed");
    assert_eq!(closed["left_behind"], serde_json::json!([]), "{closed}");
    life.wait_for_answer(63);
    life.assert_goes_on();
    before.assert_same();
}

fn local_names(locals: &Value) -> Vec<String> {
    let scopes = locals["scopes"].as_array().unwrap();
    let variables = scopes.iter().flat_map(|scope| scope["variables"].as_array().unwrap());
    variables.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Fixtures that Pepo debugs, one for each of its debuggers' families.
pub(crate) fn fixtures() -> Vec<Fixture> {
    use pepo_testkit::{Variant, fixtures};
    vec![fixtures::c(Variant::debug()), fixtures::go(Variant::debug()), fixtures::python(Variant::debug())]
}

/// As it is called on the wire.
pub(crate) fn language(fixture: &Fixture) -> &'static str {
    match fixture.language {
        Language::Go => "go",
        Language::Python => "python",
        _ => "native",
    }
}

/// How long something asynchronous may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
