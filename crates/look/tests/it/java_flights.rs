//! Recordings of JVMs by their own recorder, with every JDK of this machine: whoever records may be killed at any moment.

use std::{
    fs,
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use pepo_process::{AgentPid, Process};
use pepo_testkit::{Life as _, Running, command, javas, spawn_command, wait};
use pepo_wire::{Code, Failure, agent::StartLook};

use crate::{
    java::{apart, assert_as_before, assert_begins_in_main, hot, line, oldest_and_newest, public},
    java_profiles::{assert_known_locks, assert_known_memory, assert_known_shares},
    python::open,
    sampling::{record, record_process},
};

/// As many as the known shares need to be seen, at a rate at which few show one place: who waits for a processor is sampled, too.
const SAMPLES: u64 = 600;
/// From this version on memory is sampled.
const SAMPLES_MEMORY: u32 = 16;
/// Longer than a recording goes on without its recorder.
const LAPSES: Duration = Duration::from_secs(90);

fn flight_at(rate: u32) -> StartLook {
    StartLook { rate, sampler: "jfr".to_owned(), ..StartLook::default() }
}

fn flight_of(mode: &str) -> StartLook {
    StartLook { mode: mode.to_owned(), ..flight_at(0) }
}

/// Folders that a recording is written into, in some `/tmp`, of the JVM with this number.
fn folders(tmp: &Path, number: u32) -> Vec<String> {
    let listed = fs::read_dir(tmp).unwrap().flatten();
    let names = listed.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!(".pepo-jfr-{number}-"))).collect()
}

/// Has the JVM written what was not read yet?
fn is_writing(target: &Running) -> bool {
    let folders = folders(Path::new("/tmp"), target.pid());
    let file = |folder: &String| fs::metadata(Path::new("/tmp").join(folder).join("recording"));
    folders.iter().any(|folder| file(folder).is_ok_and(|file| file.len() > 0))
}

/// Why a recording does not begin; one that does is over at once.
fn begins(target: &Running) -> Result<(), Failure> {
    pepo_look::record(&open(target), &flight_at(99), &|| true, &mut |_| true)
}

/// Nothing of ours is there, and the JVM says nothing that it would not say by itself.
fn assert_untouched(target: &Running) {
    assert_eq!(folders(Path::new("/tmp"), target.pid()), <[String; 0]>::default());
    let output = target.output();
    assert!(output.lines().all(|line| line.starts_with("beat ")), "{output}");
    assert_as_before(target);
}

fn says(failure: &Failure, words: &str) -> bool {
    failure.why.iter().any(|why| why.contains(words))
}

/// When a recorder is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after it was started: before the JVM records, or about then.
    Begun(Duration),
    /// So long after the JVM was seen to record.
    Recording(Duration),
    /// While the JVM writes what it has seen.
    Writing,
}

const MOMENTS: [Moment; 6] = [
    Moment::Begun(Duration::from_millis(150)),
    Moment::Begun(Duration::from_millis(900)),
    Moment::Recording(Duration::ZERO),
    Moment::Recording(Duration::from_millis(3100)),
    Moment::Writing,
    Moment::Writing,
];

/// A recorder, killed at this moment.
fn record_and_kill(target: &Running, moment: Moment) {
    let mut recorder = command(std::env::current_exe().unwrap());
    recorder
        .args(["--exact", "--ignored", "--nocapture", "java_flights::flies_for_ever"])
        .env("PEPO_TEST_TARGET", target.pid().to_string());
    let recorder = spawn_command(&mut recorder);
    let is_recording = || {
        wait::until("it records", Duration::from_secs(120), || {
            if recorder.output().contains("batch") { Ok(()) } else { Err(recorder.output()) }
        });
    };
    match moment {
        Moment::Begun(after) => std::thread::sleep(after),
        Moment::Recording(after) => {
            is_recording();
            std::thread::sleep(after);
        }
        Moment::Writing => {
            is_recording();
            let end = Instant::now() + Duration::from_secs(120);
            while !is_writing(target) {
                assert!(Instant::now() < end, "nothing is written: {}", recorder.output());
            }
        }
    }
    // Killed by being dropped.
    drop(recorder);
}

/// Whoever records may be killed at any moment: the JVM goes on, its recording ends by itself, and no file is left.
#[test]
fn whoever_flies_may_be_killed_in_the_act() {
    for java in oldest_and_newest() {
        let targets = MOMENTS.map(|_| hot(&java, &[], "steady"));
        for (target, moment) in targets.iter().zip(MOMENTS) {
            record_and_kill(target, moment);
        }
        for (target, moment) in targets.iter().zip(MOMENTS) {
            target.assert_goes_on();
            wait::until("no file is left", Duration::from_secs(30), || {
                match folders(Path::new("/tmp"), target.pid()) {
                    left if left.is_empty() => Ok(()),
                    left => Err(format!("{moment:?}: {left:?}")),
                }
            });
            // The next one is not hindered, for nothing records any more.
            wait::until("the recording has ended", LAPSES, || {
                begins(target).map_err(|why| format!("{moment:?}: {why:?}"))
            });
            assert_untouched(target);
        }
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn flies_for_ever() {
    let pid = std::env::var("PEPO_TEST_TARGET").unwrap().parse().unwrap();
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    pepo_look::record(&process, &flight_at(99), &|| false, &mut |event| {
        let is_batch = matches!(event.kind, Some(pepo_wire::agent::look_event::Kind::Batch(_)));
        eprintln!("{}", if is_batch { "batch" } else { "begun" });
        true
    })
    .unwrap();
}

#[test]
fn a_jvms_own_recorder_shows_known_shares_with_lines_and_threads_and_leaves_no_file() {
    for java in javas() {
        let target = hot(&java, &[], "steady");
        let recorded = record(&target, flight_at(99), |samples| samples >= SAMPLES);
        let started = &recorded.started;
        assert_eq!((started.sampler.as_str(), started.mode.as_str(), started.rate), ("jfr", "cpu", 100));
        // Version 8 does not tell what it has compiled into its callers.
        if java.version > 8 {
            assert_known_shares(&recorded, &java);
        } else {
            assert!(recorded.share("workForEver") > 0.9, "{:#?}", recorded.chains);
        }
        let (chain, _) = recorded.chains.iter().max_by_key(|(_, count)| **count).unwrap();
        let names: Vec<&str> = chain.iter().map(|frame| frame.function.as_str()).collect();
        assert_begins_in_main(&names);
        let last = chain.last().unwrap();
        assert_eq!((last.file.as_str(), last.line), ("Hot.java", line("run.run();")), "{java:?}");
        let names: Vec<&str> = recorded.threads.values().map(String::as_str).collect();
        assert!(names.contains(&"main"), "{names:?}");
        for words in ["native code", "threads stay, idle"] {
            assert!(started.notes.iter().any(|note| note.contains(words)), "{:?}", started.notes);
        }
        assert_untouched(&target);
    }
}

#[test]
fn a_jvm_that_loads_no_profiler_is_sampled_by_its_own_recorder_and_why_is_said() {
    // Version 8 cannot be told so.
    for java in javas().into_iter().filter(|java| java.version > 8) {
        let target = hot(&java, &["-XX:-EnableDynamicAgentLoading"], "steady");
        let recorded =
            record(&target, StartLook { rate: 499, ..StartLook::default() }, |samples| samples >= 100);
        let started = &recorded.started;
        assert_eq!((started.sampler.as_str(), started.rate), ("jfr", 500), "{started:?}");
        let note = &recorded.started.notes[0];
        assert!(note.contains("JFR") && note.contains("-XX:-EnableDynamicAgentLoading"), "{note}");
        assert!(recorded.share("work") > 0.9, "{:#?}", recorded.chains);
        let loads = StartLook { sampler: "async-profiler".to_owned(), ..StartLook::default() };
        let refused = pepo_look::record(&open(&target), &loads, &|| true, &mut |_| true).unwrap_err();
        assert_eq!(refused.code(), Code::NotOffered, "{refused:?}");
        if java.version >= SAMPLES_MEMORY {
            let allocates = hot(&java, &["-XX:-EnableDynamicAgentLoading"], "alloc");
            let weighs = StartLook { mode: "alloc".to_owned(), ..StartLook::default() };
            assert_known_memory(&record(&allocates, weighs, |samples| samples >= 100), &java);
        }
        assert_as_before(&target);
    }
}

#[test]
fn a_jvms_own_recorder_shows_known_memory_and_locks() {
    for java in javas() {
        let targets = ["alloc", "contend"].map(|mode| hot(&java, &[], mode));
        // More than one recording of its has.
        if java.version >= SAMPLES_MEMORY {
            let recorded = record(&targets[0], flight_of("alloc"), |samples| samples >= SAMPLES);
            assert_known_memory(&recorded, &java);
            assert!(recorded.started.sampler == "jfr" && recorded.started.notes[0].contains("allocates"));
        } else {
            let refused = pepo_look::record(&open(&targets[0]), &flight_of("alloc"), &|| true, &mut |_| true);
            let why = refused.unwrap_err();
            assert!(why.code() == Code::NotOffered && says(&why, "from version 16 on"), "{why:?}");
        }
        let recorded = record(&targets[1], flight_of("lock"), |samples| samples >= SAMPLES);
        assert_known_locks(&recorded, &java);
        assert!(recorded.started.sampler == "jfr" && recorded.started.notes[0].contains("Semaphore"));
        targets.iter().for_each(assert_untouched);
    }
}

#[test]
fn another_users_jvm_in_namespaces_of_its_own_is_recorded_and_nothing_is_left_in_its_tmp() {
    let (target, pid) = apart(&public(), "");
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    let recorded = record_process(&process, flight_at(99), |samples| samples >= SAMPLES);
    assert_known_shares(&recorded, &public());
    let left = fs::read_dir(format!("/proc/{pid}/root/tmp")).unwrap().flatten();
    let mut left: Vec<String> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".java_pid1", "classes", "hsperfdata_nobody"]);
    target.assert_goes_on();
}

/// A JVM ends itself when its recorder cannot write.
#[test]
fn a_jvm_without_room_for_a_recording_is_not_asked_to_write_one() {
    let refused = |then: &str| {
        let (target, pid) = apart(&public(), then);
        let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
        let why = pepo_look::record(&process, &flight_at(99), &|| true, &mut |_| true).unwrap_err();
        target.assert_goes_on();
        why
    };
    let why = refused("mount -o remount,size=8m /tmp;");
    assert!(why.code() == Code::NotOffered && says(&why, "16 MiB are needed"), "{why:?}");
    let why = refused("ulimit -f 2048;");
    assert!(why.code() == Code::NotOffered && says(&why, "RLIMIT_FSIZE"), "{why:?}");
}

/// Fills its `/tmp`, and says whether it did.
fn fill(full: &Path) -> bool {
    let file = fs::OpenOptions::new().append(true).create(true).open(full);
    file.is_ok_and(|mut file| (0..512).any(|_| file.write_all(&[1; 1 << 18]).is_err()))
}

/// What it needs was taken before.
#[test]
fn a_tmp_that_is_full_meanwhile_does_not_hinder_a_recording() {
    let (target, pid) = apart(&public(), "mount -o remount,size=64m /tmp;");
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    let full = Path::new("/proc").join(pid.to_string()).join("root/tmp/full");
    let (is_full, before) = (AtomicBool::new(false), AtomicU64::new(0));
    let recorded = record_process(&process, flight_at(99), |samples| {
        if samples > 0 && !is_full.swap(true, Ordering::Relaxed) {
            assert!(fill(&full));
            before.store(samples, Ordering::Relaxed);
        }
        // Two recordings of the JVM's later.
        is_full.load(Ordering::Relaxed) && samples > before.load(Ordering::Relaxed) + 400
    });
    assert_eq!(recorded.ended.reason, "stopped", "{:?}", recorded.ended);
    target.assert_goes_on();
    fs::remove_file(full).unwrap();
}

/// Whoever takes all room that there is, whenever there is any, may end the recording, but not the JVM.
#[test]
fn a_tmp_that_is_filled_at_whatever_moment_does_not_end_the_jvm() {
    let (target, pid) = apart(&public(), "mount -o remount,size=64m /tmp;");
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    let full = Path::new("/proc").join(pid.to_string()).join("root/tmp/full");
    let is_over = AtomicBool::new(false);
    let recorded = std::thread::scope(|scope| {
        let recorded = record_process(&process, flight_at(99), |samples| {
            if samples > 0 && !full.exists() {
                fs::write(&full, "").unwrap();
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        fill(&full);
                    }
                });
            }
            samples > 2000
        });
        is_over.store(true, Ordering::Relaxed);
        recorded
    });
    if let Some(failure) = recorded.ended.failure {
        assert!(says(&failure, "16 MiB are needed"), "{failure:?}");
    }
    assert_eq!(folders(full.parent().unwrap(), 1), <[String; 0]>::default());
    fs::remove_file(full).unwrap();
    target.assert_goes_on();
    // And nothing records any more.
    pepo_look::record(&process, &flight_at(99), &|| true, &mut |_| true).unwrap();
}

/// Two recordings would share a JVM's one recorder: ours could then come onto a disk.
#[test]
fn a_jvm_that_somebody_records_already_is_left_alone() {
    let told = |target: &Running| {
        let why = begins(target).unwrap_err();
        assert!(why.code() == Code::NotOffered && says(&why, "another recording"), "{why:?}");
    };
    for java in javas() {
        let options = ["-XX:StartFlightRecording=disk=false,dumponexit=false,settings=none", "-Xlog:disable"];
        told(&hot(&java, if java.version > 8 { &options } else { &options[..1] }, "steady"));
        let target = hot(&java, &[], "steady");
        record(&target, flight_at(99), |samples| {
            if samples > 0 {
                told(&target);
            }
            samples > 0
        });
        begins(&target).unwrap();
        assert_untouched(&target);
    }
}

#[test]
fn what_a_jvms_own_recorder_is_not_asked_for_is_said() {
    let target = hot(&javas().pop().unwrap(), &[], "steady");
    let why = pepo_look::record(&open(&target), &flight_of("wall"), &|| true, &mut |_| true).unwrap_err();
    assert!(why.code() == Code::NotOffered && why.what.contains("`--wall`"), "{why:?}");
    assert_as_before(&target);
}
