//! Several targets at once: merged and apart, with one that fails among them, and ended by Ctrl-C.

use std::fs;

use pepo_testkit::{Language, Life as _, Running, Symbols, clean::Snapshot, wait};
use rustix::process::Signal;

use crate::{
    profiles::{LIMIT, Recording, assert_known_shares, folded, hot, name, steady},
    support::Surroundings,
};

/// A name that means no process.
const NOBODY: &str = "pid/4194304";

fn python() -> Running {
    let (_, target) = hot(Language::Python, Symbols::Inside, "steady");
    target.wait_started();
    target
}

/// The stacks that begin with a target's name, without it.
pub(crate) fn of_target(text: &str, target: &str) -> (Vec<(Vec<String>, f64)>, f64) {
    let mut own: Vec<_> = folded(text).0;
    own.retain(|(stack, _)| stack[0] == target);
    own.iter_mut().for_each(|(stack, _)| drop(stack.remove(0)));
    let samples = own.iter().map(|(_, count)| count).sum();
    (own, samples)
}

#[test]
fn several_are_recorded_into_one_file_that_tells_them_apart_whoever_fails() {
    let targets = [steady(), steady()];
    let names = targets.each_ref().map(name);
    let before = targets.each_ref().map(|target| Snapshot::take(target.pid()));
    let surroundings = Surroundings::new();
    let record = ["record", &names[0], NOBODY, &names[1], "-d", "3", "-r", "499"];
    for (more, file) in [(&[][..], "a.folded"), (&["--at-once", "1"], "b.folded")] {
        let run = surroundings.run(&[&record[..], more, &["-o", file]].concat()).fails(3);
        assert!(run.stderr.contains("1 of 3 targets failed"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("warning[P0105]: {NOBODY}")), "{}", run.stderr);
        let text = fs::read_to_string(surroundings.path(file)).unwrap();
        for name in &names {
            let (stacks, samples) = of_target(&text, name);
            assert_known_shares(&stacks, samples);
            assert!(run.stderr.contains(&format!("{name}: {samples} samples")), "{}", run.stderr);
        }
    }
    let table = surroundings.run(&["record", &names[0], &names[1], "-d", "1"]).ok();
    assert!(table.stdout.contains(&format!("{} + {}", names[0], names[1])), "{}", table.stdout);
    targets.iter().for_each(Running::assert_goes_on);
    before.iter().for_each(Snapshot::assert_same);
}

#[test]
fn several_are_recorded_apart_each_in_a_file_with_its_name() {
    let targets = [steady(), python()];
    let names = targets.each_ref().map(name);
    let surroundings = Surroundings::new();
    let record = ["record", &names[0], &names[1], NOBODY, "-d", "2", "-r", "299", "--apart"];
    surroundings.run(&[&record[..], &["-o", "a.folded"]].concat()).fails(3);
    surroundings.run(&[&record[..], &["-o", "{target}.svg"]].concat()).fails(3);
    let mut files: Vec<_> = fs::read_dir(surroundings.folder())
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("pid-") || name.contains("part"))
        .collect();
    files.sort();
    let plain = names.each_ref().map(|name| name.replace('/', "-"));
    let mut wanted: Vec<_> =
        plain.iter().flat_map(|name| [format!("a-{name}.folded"), format!("{name}.svg")]).collect();
    wanted.sort();
    assert_eq!(files, wanted);
    for name in &plain {
        let text = fs::read_to_string(surroundings.path(&format!("a-{name}.folded"))).unwrap();
        assert!(text.contains("hot") && folded(&text).1 > 20.0, "{text}");
    }
    let run = surroundings.run(&[&record[..], &["--format", "folded"]].concat()).fails(2);
    assert!(run.stderr.contains("'{target}.svg'"), "{}", run.stderr);
}

#[test]
fn ctrl_c_keeps_what_all_of_them_have() {
    let targets = [steady(), steady()];
    let names = targets.each_ref().map(name);
    let surroundings = Surroundings::new();
    let begin =
        |names: &[&str]| Recording::begin(&surroundings, &[names, &["-r", "499", "-o", "a.folded"]].concat());
    let single = begin(&[&names[0]]);
    single.wait_for_samples();
    let events = single.perf_events();
    single.signal(Signal::INT);
    single.end().ok();
    let both = begin(&[&names[0], &names[1]]);
    wait::until("samples of both", LIMIT, || match both.perf_events() {
        count if count >= 2 * events => Ok(()),
        count => Err(format!("{count} of {}", 2 * events)),
    });
    targets.iter().for_each(Running::assert_goes_on);
    both.signal(Signal::INT);
    both.end().ok();
    let text = fs::read_to_string(surroundings.path("a.folded")).unwrap();
    for name in &names {
        let (stacks, samples) = of_target(&text, name);
        assert_known_shares(&stacks, samples);
    }
}

#[test]
fn stacks_of_several_are_told_one_after_the_other_and_as_a_list() {
    let targets = [steady(), python()];
    let names = targets.each_ref().map(name);
    let surroundings = Surroundings::new();
    // Named twice, it is one target.
    let line = ["stack", &names[0], NOBODY, &names[1], &names[0]];
    let run = surroundings.run(&line).fails(3);
    let heads: Vec<_> = run.stdout.lines().filter(|line| line.contains(" · pid ")).collect();
    assert_eq!(heads.len(), 2, "{}", run.stdout);
    assert!(heads[0].starts_with(&names[0]) && heads[1].starts_with(&names[1]), "{heads:?}");
    assert!(run.stderr.contains("1 of 3 targets failed"), "{}", run.stderr);
    let data = surroundings.run(&[&line[..], &["--output", "json"]].concat()).fails(3).json();
    let told: Vec<_> =
        data["targets"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(told, names);
    assert_eq!(
        (&data["failed"][0]["target"], &data["failed"][0]["error"]["code"]),
        (&NOBODY.into(), &"P0105".into())
    );
    let all = surroundings.run(&["stack", NOBODY, "pid/4194305"]).fails(3);
    assert!(all.stdout.is_empty() && all.stderr.contains("2 of 2 targets failed"), "{}", all.snapshot());
}

#[test]
fn top_shows_several_together_and_no_more_than_it_may_at_a_time() {
    let targets = [steady(), python()];
    let names = targets.each_ref().map(name);
    let surroundings = Surroundings::new();
    let line = ["top", &names[0], &names[1], "--once", "--by", "process", "--output", "json"];
    let data = surroundings.run(&line).ok().json();
    let rows: Vec<_> =
        data["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(rows.iter().any(|row| row.starts_with(name)), "{data}");
        assert_eq!(data["targets"][at]["target"], name.as_str(), "{data}");
        assert!(data["targets"][at]["samples"].as_u64().unwrap() > 0, "{data}");
    }
    for verb in ["top", "record"] {
        let run = surroundings.run(&[verb, &names[0], &names[1], "--at-once", "1"]).fails(2);
        assert!(run.stderr.contains("--at-once 2"), "{}", run.stderr);
    }
    targets.iter().for_each(Running::assert_goes_on);
}
