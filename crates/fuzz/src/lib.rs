//! Hostile bytes for the readers of our own: DAP's framing, ELF files, `/proc` texts, thread dumps and recordings of JVMs, names of targets, archives, symbols,
//! captures.
//!
//! A crate of its own because it drives readers of both sides and runs for as long as it is let: the tests
//! give each target a second or so, `cargo xtask fuzz --seconds 3600` an hour. It needs no nightly compiler:
//! inputs are mutated from a corpus by a generator that is seeded, so that every failure can be run again.
//! **Invariant:** no product code depends on it.

/// Where inputs come from, and how they are changed.
pub mod mutate;
/// What is fuzzed, and what must hold.
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mutate::Random;
use targets::Target;

/// An input on which a target broke its promise.
#[derive(Debug)]
pub struct Broken {
    /// Which round it was, counted from 0: with the seed, the way back to it.
    pub round: u64,
    /// The input itself.
    pub input: Vec<u8>,
}

/// Feeds `target` until `limit` is over or `rounds` are done; gives the number of inputs, or the first on which it panicked or took
/// longer than a second.
///
/// # Errors
/// [`Broken`].
pub fn run(target: &Target, seed: u64, rounds: u64, limit: Duration) -> Result<u64, Broken> {
    let corpus = (target.corpus)();
    let mut random = Random::new(seed);
    let end = Instant::now() + limit;
    for round in 0..rounds {
        if Instant::now() >= end {
            return Ok(round);
        }
        let input = mutate::input(&corpus, &mut random);
        let start = Instant::now();
        let ended_well = catch_unwind(AssertUnwindSafe(|| (target.feed)(&input))).is_ok();
        if !ended_well || start.elapsed() > Duration::from_secs(1) {
            return Err(Broken { round, input });
        }
    }
    Ok(rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed seed: what fails once fails again.
    fn survives(name: &str) {
        let target = targets::named(name).unwrap();
        match run(target, 1, 60_000, Duration::from_secs(3)) {
            Ok(rounds) => assert!(rounds > 100, "{name}: only {rounds} inputs in the time"),
            Err(Broken { round, input }) => panic!("{name}: round {round} of seed 1: {input:02x?}"),
        }
    }

    #[test]
    fn dap_frames_survive_hostile_bytes() {
        survives("dap-frames");
    }

    #[test]
    fn elf_files_survive_hostile_bytes() {
        survives("elf");
    }

    #[test]
    fn proc_texts_survive_hostile_bytes() {
        survives("proc");
    }

    #[test]
    fn thread_dumps_survive_hostile_bytes() {
        survives("dumps");
    }

    #[test]
    fn stacks_of_a_profiler_survive_hostile_bytes() {
        survives("stacks");
    }

    #[test]
    fn recordings_of_a_jvm_survive_hostile_bytes() {
        survives("recordings");
    }

    #[test]
    fn target_names_survive_hostile_bytes() {
        survives("names");
    }

    #[test]
    fn archives_survive_hostile_bytes() {
        survives("archives");
    }

    #[test]
    fn symbols_survive_hostile_bytes() {
        survives("symbols");
    }

    #[test]
    fn captures_survive_hostile_bytes() {
        survives("captures");
    }

    #[test]
    fn a_target_that_panics_is_caught_with_its_input() {
        let picky = Target {
            name: "picky",
            corpus: || vec![b"abc".to_vec()],
            feed: |bytes| assert!(bytes.first() == Some(&b'a'), "not an a"),
        };
        let broken = run(&picky, 1, 10_000, Duration::from_secs(3)).unwrap_err();
        assert_ne!(broken.input.first(), Some(&b'a'));
    }
}
