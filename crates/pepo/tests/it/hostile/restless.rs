//! Programs that end, fork and become others while they are looked at.

use pepo_testkit::{Language, Life as _, Symbols, command, spawn_command};

use super::{VERBS, assert_clear, assert_results, each_verb};
use crate::{
    profiles::{assert_known_shares, folded, hot, name},
    support::Surroundings,
};

/// Becomes itself anew, twenty times a second, and says so.
const ANEW: &str = "import os, sys, time\nbeat = int(sys.argv[1])\nprint(f'beat {beat} ticks={beat} answer=42', flush=True)\n\
                    time.sleep(0.03)\nos.execv(sys.executable, [sys.executable, '-Sc', sys.argv[2], str(beat + 1), sys.argv[2]])";

#[test]
fn one_that_becomes_another_program_all_the_time() {
    let target = spawn_command(command("python3").args(["-Sc", ANEW, "1", ANEW]));
    target.wait_started();
    let surroundings = Surroundings::new();
    for _ in 0..3 {
        each_verb(&surroundings, &name(&target));
        target.assert_goes_on();
    }
}

#[test]
fn one_that_forks_all_the_time() {
    let (_, target) = hot(Language::C, Symbols::Inside, "fork");
    target.wait_started();
    let surroundings = Surroundings::new();
    let [_, _, record, _] = assert_results(each_verb(&surroundings, &name(&target)));
    let (stacks, samples) = folded(&record.stdout);
    assert_known_shares(&stacks, samples);
    target.assert_goes_on();
}

#[test]
fn one_that_ends_while_it_is_looked_at() {
    let surroundings = Surroundings::new();
    for verb in VERBS {
        // From before the command has begun until after it is at work.
        for millis in (0..400).step_by(100) {
            let line = format!("import time; time.sleep({})", millis as f64 / 1000.0);
            let target = spawn_command(command("python3").args(["-c", &line]));
            let run = surroundings.run(&[verb, &[&name(&target)]].concat());
            assert_clear(&run);
            assert!(matches!(run.status, Some(0 | 3)), "{}", run.snapshot());
        }
    }
}
