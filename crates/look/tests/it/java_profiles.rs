//! Recordings of JVMs by async-profiler, with every JDK of this machine: known shares, and nothing that samples on when its recorder is gone.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use pepo_process::{AgentPid, Process};
use pepo_testkit::{Java, Life as _, Running, command, hot_classes, javas, only_child, spawn_command, wait};
use pepo_wire::{Code, agent::StartLook};

use crate::{
    java::{apart, assert_as_before, assert_begins_in_main, hot, oldest_and_newest, public},
    python::{Told, open},
    sampling::{Recorded, record, record_process},
};

/// As many as the known shares need to be seen.
const SAMPLES: u64 = 600;
/// Longer than the profiler goes on without its recorder.
const LAPSES: Duration = Duration::from_secs(40);

fn java_at(rate: u32) -> StartLook {
    StartLook { rate, sampler: "async-profiler".to_owned(), ..StartLook::default() }
}

fn of(mode: &str, rate: u32) -> StartLook {
    StartLook { mode: mode.to_owned(), ..java_at(rate) }
}

/// What its open files lead to.
fn files(pid: u32) -> Vec<String> {
    let listed = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    listed
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .collect()
}

/// It samples no more, and holds nothing that was lent to it.
fn is_idle(pid: u32) -> Result<(), String> {
    let left: Vec<_> = files(pid)
        .into_iter()
        .filter(|path| ["perf_event", "pepo-", "memfd"].iter().any(|word| path.contains(word)))
        .collect();
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
}

fn timers(pid: u32) -> usize {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let names = listed.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.filter(|name| name.starts_with("Async-profiler")).count()
}

/// Processes that lend files.
fn lenders() -> Vec<String> {
    let listed = fs::read_dir("/proc").unwrap().flatten();
    let lines = listed.filter_map(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        line.starts_with("pepo-lender").then(|| entry.file_name().to_string_lossy().into_owned())
    });
    lines.collect()
}

/// The lender that the process with this number has, as far down as its keeper.
fn lender_of(pid: u32) -> Option<String> {
    let parent = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("PPid:")).map(|word| word.trim().to_owned())
    };
    lenders()
        .into_iter()
        .find(|lender| parent(lender).and_then(|keeper| parent(&keeper)) == Some(pid.to_string()))
}

pub(crate) fn assert_known_shares(recorded: &Recorded, java: &Java) {
    for (function, known, tolerance) in [("hot", 0.6, 0.12), ("warm", 0.3, 0.12), ("cool", 0.1, 0.07)] {
        let found = recorded.share(function);
        assert!((found - known).abs() < tolerance, "{java:?}: {function} {found} in {:#?}", recorded.chains);
    }
}

/// Of the program that allocates: by what, and what.
pub(crate) fn assert_known_memory(recorded: &Recorded, java: &Java) {
    assert_eq!((recorded.started.mode.as_str(), recorded.started.rate), ("alloc", 0));
    for (function, known) in [("much", 0.75), ("little", 0.25)] {
        let found = recorded.share(function);
        assert!((found - known).abs() < 0.15, "{java:?}: {function} {found} in {:#?}", recorded.chains);
    }
    let is_named = recorded.chains.keys().all(|chain| !chain[0].function.is_empty());
    let has_arrays = recorded.chains.keys().any(|chain| chain[0].function == "byte[]");
    assert!(is_named && has_arrays, "{java:?}: {:#?}", recorded.chains);
}

/// Of the program whose threads want a monitor and a lock: two wait for each half of the time.
pub(crate) fn assert_known_locks(recorded: &Recorded, java: &Java) {
    assert_eq!((recorded.started.mode.as_str(), recorded.started.rate), ("lock", 0));
    for (function, lock) in
        [("contendForEver", "java.lang.Object"), ("lockForEver", "java.util.concurrent.locks.ReentrantLock")]
    {
        let found = recorded.share(function);
        assert!((0.3..0.7).contains(&found), "{java:?}: {function} {found} in {:#?}", recorded.chains);
        let waits = |chain: &[Told]| {
            let passes = chain.iter().any(|one| one.function == format!("Hot.{function}"));
            passes && chain[0].function.starts_with(lock)
        };
        assert!(recorded.chains.keys().any(|chain| waits(chain)), "{java:?}: {:#?}", recorded.chains);
    }
}

#[test]
fn java_shows_its_known_shares_and_nothing_is_left_but_an_idle_library() {
    for java in javas() {
        let target = hot(&java, &[], "steady");
        // Again: what is loaded is found.
        for _ in 0..2 {
            let recorded = record(&target, java_at(499), |samples| samples >= SAMPLES);
            let started = &recorded.started;
            assert_eq!(
                (started.sampler.as_str(), started.mode.as_str()),
                ("async-profiler", "cpu"),
                "{started:?}"
            );
            assert_known_shares(&recorded, &java);
            let (chain, _) = recorded.chains.iter().max_by_key(|(_, count)| **count).unwrap();
            let names: Vec<&str> = chain.iter().map(|frame| frame.function.as_str()).collect();
            assert_begins_in_main(&names);
            is_idle(target.pid()).unwrap();
        }
        let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
        let loaded = |line: &&str| line.contains("async-profiler") && line.contains("r-xp");
        assert_eq!(maps.lines().filter(loaded).count(), 1, "{maps}");
        wait::until("its timer has ended", Duration::from_secs(20), || match timers(target.pid()) {
            0 => Ok(()),
            timers => Err(timers),
        });
        assert!(!Path::new("/tmp").join(format!("asprof-log.{}", target.pid())).exists());
        assert!(!target.output().contains("Profiling"), "{}", target.output());
        assert_as_before(&target);
    }
}

#[test]
fn java_in_namespaces_of_its_own_with_another_user_is_sampled_without_a_file() {
    let (target, pid) = apart(&public(), "");
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    let recorded = record_process(&process, java_at(499), |samples| samples >= SAMPLES);
    assert_known_shares(&recorded, &public());
    let left = fs::read_dir(format!("/proc/{pid}/root/tmp")).unwrap().flatten();
    let mut left: Vec<String> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".java_pid1", "classes", "hsperfdata_nobody"]);
    is_idle(pid).unwrap();
    target.assert_goes_on();
}

/// Whoever lends must be no more than the JVM is: here it is root with two capabilities, and root of a user namespace alone.
#[test]
fn java_that_may_do_less_than_we_is_sampled() {
    let few = "setpriv --bounding-set=-all,+chown,+kill --inh-caps=-all";
    for (namespaces, then) in [("--pid --mount", few), ("--user --map-root-user --pid --mount", "")] {
        let mut shell = command("sh");
        let line = format!(
            "exec unshare {namespaces} --mount-proc --fork --kill-child {then} \"$1\" -Xmx64m -cp \"$2\" Hot steady"
        );
        shell.args(["-ec", &line, "sh"]).arg(public().home.join("bin/java")).arg(hot_classes());
        let target = spawn_command(&mut shell);
        target.wait_started();
        let pid = only_child(target.pid());
        let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
        let recorded = record_process(&process, java_at(499), |samples| samples >= SAMPLES);
        assert_known_shares(&recorded, &public());
        is_idle(pid).unwrap();
        target.assert_goes_on();
    }
}

#[test]
fn memory_and_locks_and_waiting_are_sampled_too() {
    for java in javas() {
        let target = hot(&java, &[], "alloc");
        if java.version >= 11 {
            let recorded = record(&target, of("alloc", 0), |samples| samples >= 40);
            assert_known_memory(&recorded, &java);
        } else {
            // There it needs symbols that Debian's has not.
            let refused = pepo_look::record(&open(&target), &of("alloc", 0), &|| true, &mut |_| true);
            let why = refused.unwrap_err();
            assert!(why.why.iter().any(|why| why.contains("debug symbols")), "{why:?}");
        }
        let target = hot(&java, &[], "contend");
        let recorded = record(&target, of("lock", 0), |samples| samples >= 40);
        assert_known_locks(&recorded, &java);
        let target = hot(&java, &[], "threads");
        let recorded = record(&target, of("wall", 49), |samples| samples >= SAMPLES);
        assert_eq!(recorded.started.mode, "wall");
        let waits =
            recorded.chains.keys().find(|chain| chain.iter().any(|one| one.function == "Hot.await")).unwrap();
        let native = |name: &str| !name.contains('.') && name != "[kernel]";
        assert!(waits.iter().any(|one| native(&one.function)), "{java:?}: {waits:#?}");
        is_idle(target.pid()).unwrap();
        assert_as_before(&target);
    }
}

#[test]
fn what_there_is_not_for_java_is_said_with_what_there_is() {
    let target = hot(&javas().pop().unwrap(), &[], "steady");
    let refused = |request: StartLook| {
        pepo_look::record(&open(&target), &request, &|| true, &mut |_| true).unwrap_err()
    };
    let why = refused(StartLook { mode: "off-cpu".to_owned(), ..StartLook::default() });
    assert_eq!(why.code(), Code::NotOffered);
    assert!(why.why.iter().any(|why| why.contains("`--cpu`, `--wall`, `--alloc`, `--lock`")), "{why:?}");
    assert_as_before(&target);
}

#[test]
fn a_jvm_that_cannot_be_asked_shows_native_frames_and_says_why() {
    let java = javas().pop().unwrap();
    let target = hot(&java, &["-XX:+DisableAttachMechanism"], "steady");
    let recorded = record(&target, StartLook::default(), |samples| samples >= 20);
    let notes = &recorded.started.notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("native frames only") && note.contains("DisableAttachMechanism")),
        "{notes:?}"
    );
    let request = StartLook { mode: "alloc".to_owned(), ..StartLook::default() };
    let refused = pepo_look::record(&open(&target), &request, &|| true, &mut |_| true).unwrap_err();
    assert_eq!(refused.code(), Code::NotOffered, "{refused:?}");
    assert_as_before(&target);
}

/// Whoever records may be killed at any moment: the JVM goes on, what samples in it stops by itself, and nothing was left behind.
#[test]
fn whoever_records_may_be_killed_in_the_act() {
    for java in oldest_and_newest() {
        let target = hot(&java, &[], "steady");
        let mut recorder = command(std::env::current_exe().unwrap());
        recorder
            .args(["--exact", "--ignored", "--nocapture", "java_profiles::records_for_ever"])
            .env("PEPO_TEST_TARGET", target.pid().to_string());
        let recorder = spawn_command(&mut recorder);
        wait::until("it records", Duration::from_secs(60), || {
            if recorder.output().contains("batch") { Ok(()) } else { Err(recorder.output()) }
        });
        assert!(is_idle(target.pid()).is_err(), "it samples: {:?}", files(target.pid()));
        let lender = lender_of(recorder.pid()).unwrap();
        // Killed by being dropped.
        drop(recorder);
        target.assert_goes_on();
        wait::until("nothing is lent", Duration::from_secs(20), || {
            let there = fs::read(format!("/proc/{lender}/cmdline")).is_ok_and(|line| !line.is_empty());
            if there { Err(lender.clone()) } else { Ok(()) }
        });
        wait::until("nothing samples", LAPSES, || match timers(target.pid()) {
            0 => is_sampling(target.pid()),
            timers => Err(format!("{timers} timers")),
        });
        // The next one is not hindered.
        assert_known_shares(&record(&target, java_at(499), |samples| samples >= SAMPLES), &java);
        is_idle(target.pid()).unwrap();
        assert_as_before(&target);
    }
}

/// Whoever lends may be killed, too: the recording ends, and so does what samples.
#[test]
fn whoever_lends_may_be_killed_in_the_act() {
    let target = hot(&javas().pop().unwrap(), &[], "steady");
    let recorded = record(&target, java_at(99), |samples| {
        if samples > 0 {
            let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
            let library = maps.lines().find(|line| line.contains("async-profiler")).unwrap();
            let inode = library.split_whitespace().nth(4).unwrap();
            let lends = |pid: &String| {
                fs::metadata(format!("/proc/{pid}/fd/3")).is_ok_and(|file| file.ino().to_string() == inode)
            };
            if let Some(lender) = lenders().into_iter().find(lends) {
                let lender = rustix::process::Pid::from_raw(lender.parse().unwrap()).unwrap();
                rustix::process::kill_process(lender, rustix::process::Signal::KILL).unwrap();
            }
        }
        false
    });
    assert_eq!(recorded.ended.reason, "failed", "{:?}", recorded.ended);
    is_idle(target.pid()).unwrap();
    assert_as_before(&target);
}

/// A killed recorder's log may still be open in it; an event may not.
fn is_sampling(pid: u32) -> Result<(), String> {
    let events: Vec<_> = files(pid).into_iter().filter(|path| path.contains("perf_event")).collect();
    if events.is_empty() { Ok(()) } else { Err(format!("{events:?}")) }
}

#[test]
#[ignore = "the process that the test above kills"]
fn records_for_ever() {
    let pid = std::env::var("PEPO_TEST_TARGET").unwrap().parse().unwrap();
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    pepo_look::record(&process, &java_at(99), &|| false, &mut |event| {
        eprintln!(
            "{}",
            if matches!(event.kind, Some(pepo_wire::agent::look_event::Kind::Batch(_))) {
                "batch"
            } else {
                "begun"
            }
        );
        true
    })
    .unwrap();
}

/// Two that record at once would disturb each other; the second is told.
#[test]
fn the_second_who_records_is_told_of_the_first() {
    let target: Running = hot(&javas().pop().unwrap(), &[], "steady");
    let second = || pepo_look::record(&open(&target), &java_at(99), &|| true, &mut |_| true);
    record(&target, java_at(99), |samples| {
        if samples == 0 {
            return false;
        }
        let why = second().unwrap_err();
        assert!(why.why.iter().any(|why| why.contains("another recording")), "{why:?}");
        true
    });
    second().unwrap();
    assert_as_before(&target);
}
