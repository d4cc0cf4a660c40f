//! Targets as bad as they can be: every verb that looks gives a result or one clear error with a code, and the target runs on.

/// Programs whose files are broken.
mod broken;
/// Programs that end, fork and become others while they are looked at.
mod restless;
/// Those who have fewer rights than they would like.
mod rights;

use std::fs;

use pepo_testkit::{
    Language, Life as _, Symbols, Variant, clean::Snapshot, command, fixtures, spawn_command,
};

use crate::{
    profiles::{assert_known_shares, folded, hot, name},
    support::{PEPO, Run, Surroundings},
};

/// The verbs that look.
const VERBS: [&[&str]; 4] = [
    &["stack"],
    &["top", "--once"],
    &["record", "-d", "1", "-r", "299", "--format", "folded"],
    &["core", "-o", "a.core"],
];

/// Runs every verb; each gives a result or one clear error.
#[track_caller]
fn each_verb(surroundings: &Surroundings, target: &str) -> [Run; 4] {
    VERBS.map(|verb| {
        let run = surroundings.run(&[verb, &[target]].concat());
        assert_clear(&run);
        run
    })
}

/// A result, or one error with its code and one of the statuses that the table has.
#[track_caller]
fn assert_clear(run: &Run) {
    let errors = run.stderr.matches("error[P").count();
    let right = match run.status {
        Some(0) => errors == 0,
        Some(1..=8) => errors == 1,
        _ => false,
    };
    assert!(right && !run.stderr.contains("panicked"), "{}", run.snapshot());
}

/// All that there is of a target comes by every verb.
#[track_caller]
fn assert_results(runs: [Run; 4]) -> [Run; 4] {
    runs.map(Run::ok)
}

/// What says beats with two system calls, without any library: for a machine of 32 bits.
#[cfg(target_arch = "x86_64")]
const NARROW: &str = r#"
static int call(int number, int a, int b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
static int number(char *to, unsigned value) {
    int digits = value > 9 ? number(to, value / 10) : 0;
    to[digits] = '0' + value % 10;
    return digits + 1;
}
static int words(char *to, const char *from) {
    int length = 0;
    for (; from[length]; length++)
        to[length] = from[length];
    return length;
}
static __attribute__((noinline)) void burn(void) {
    for (volatile int i = 0; i < 20000000; i++)
        ;
}
void _start(void) {
    int time[2] = {0, 50000000};
    for (unsigned beat = 1;; beat++) {
        char line[80];
        int length = words(line, "beat ");
        length += number(line + length, beat);
        length += words(line + length, " ticks=");
        length += number(line + length, beat);
        length += words(line + length, " answer=42\n");
        if (call(4, 1, (int)line, length) < 0)
            call(1, 1, 0, 0);
        burn();
        call(162, (int)time, 0, 0);
    }
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_of_32_bits_is_looked_at_or_refused_in_words() {
    let surroundings = Surroundings::new();
    let (source, program) = (surroundings.path("narrow.c"), surroundings.path("narrow"));
    fs::write(&source, NARROW).unwrap();
    let mut gcc = command("gcc");
    gcc.args(["-m32", "-g", "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie"]);
    gcc.args(["-fno-stack-protector", "-fno-tree-loop-distribute-patterns", "-o"]).args([&program, &source]);
    assert!(gcc.status().unwrap().success());
    let target = spawn_command(&mut command(&program));
    target.wait_started();
    let before = Snapshot::take(target.pid());
    let [stack, top, record, core] = each_verb(&surroundings, &name(&target));
    assert!(stack.ok().stdout.contains("\"narrow\" tid "));
    assert!(top.ok().stdout.contains("a program of 32 bits"));
    assert!(folded(&record.ok().stdout).1 > 0.0);
    assert!(core.fails(6).stderr.contains("64-bit programs of this machine's own kind alone"));
    let held = ["record", &name(&target), "-d", "1", "--sampler", "hold", "-o", "a.folded"];
    let told = surroundings.run(&held).ok().stderr;
    assert!(told.contains("a program of 32 bits"), "{told}");
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_program_in_another_user_namespace_is_seen_by_root_and_by_its_own_user() {
    let nobodys = Surroundings::new().of_nobody();
    let fixture = fixtures::c(Variant::debug()).copied_to(nobodys.folder()).unwrap();
    let program = ["--user", "--map-root-user", fixture.path.to_str().unwrap(), "1000", "worker"];
    let target = spawn_command(&mut nobodys.other("unshare", &program));
    target.wait_started();
    let before = Snapshot::take(target.pid());
    for surroundings in [&Surroundings::new(), &nobodys] {
        let [stack, ..] = assert_results(each_verb(surroundings, &name(&target)));
        assert!(stack.stdout.contains("beat_for_ever"), "{}", stack.stdout);
        target.assert_goes_on();
    }
    before.assert_same();
}

#[test]
fn two_thousand_threads_are_all_there() {
    let (_, target) = hot(Language::C, Symbols::Inside, "threads");
    target.wait_started();
    let (before, surroundings) = (Snapshot::take(target.pid()), Surroundings::new());
    let [stack, _, record, core] = assert_results(each_verb(&surroundings, &name(&target)));
    assert!(stack.stdout.matches("idle_for_ever").count() >= 1, "{}", stack.stdout);
    let (stacks, samples) = folded(&record.stdout);
    assert_known_shares(&stacks, samples);
    assert!(core.stderr.contains("2002 threads"), "{}", core.stderr);
    let data = surroundings.run(&["stack", &name(&target), "--output", "json"]).ok().json();
    assert_eq!(data["threads"].as_array().unwrap().len(), 2002);
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn ten_thousand_calls_deep_the_innermost_are_shown_and_the_cut_is_told() {
    let (_, native) = hot(Language::C, Symbols::Inside, "deep");
    let line = "import sys, time\nsys.setrecursionlimit(20000)\nbeat = 0\ndef wait():\n global beat\n while True:\n  beat += 1\n  \
                print(f'beat {beat} ticks={beat} answer=42', flush=True)\n  time.sleep(0.05)\ndef descend(levels):\n \
                descend(levels - 1) if levels else wait()\ndescend(10000)\n";
    let python = spawn_command(command("python3").args(["-c", line]));
    let surroundings = Surroundings::new();
    for (target, function) in [(&native, "deep"), (&python, "descend")] {
        target.wait_started();
        let before = Snapshot::take(target.pid());
        let [stack, ..] = assert_results(each_verb(&surroundings, &name(target)));
        assert!(stack.stdout.contains(function) && stack.stdout.contains("[cut off]"), "{}", stack.stdout);
        target.assert_goes_on();
        before.assert_same();
    }
}

/// A file system of this size at `full`, for the command alone; what is left in it is told at the end.
fn with_little_room(surroundings: &Surroundings, size: &str, arguments: &[&str]) -> Run {
    let folder = surroundings.path("full");
    fs::create_dir_all(&folder).unwrap();
    let line =
        "mount -t tmpfs -o size=$1 none full; shift; set +e; \"$@\"; status=$?; ls -A full; exit $status";
    let program = [&["--mount", "sh", "-ec", line, "sh", size, PEPO], arguments].concat();
    Run::of(surroundings.other("unshare", &program).output().unwrap())
}

#[test]
fn a_full_disk_is_one_clear_error_and_leaves_no_file() {
    let line = "import os, time\nfull = os.urandom(96 << 20)\nbeat = 0\nwhile True:\n beat += 1\n \
                print(f'beat {beat} ticks={beat} answer=42', flush=True)\n time.sleep(0.05)";
    let target = spawn_command(command("python3").args(["-c", line]));
    target.wait_started();
    let (before, surroundings, name) = (Snapshot::take(target.pid()), Surroundings::new(), name(&target));
    let record = ["record", &name, "-d", "1", "-r", "299", "-o"];
    let folded = [&record[..], &["full/a.html"]].concat();
    for (size, arguments, says) in [
        ("8m", &["core", &name, "-o", "full/a.core"][..], "there is no room for it at full/a.core"),
        ("40m", &["core", &name, "-o", "full/a.core.zst"], "full/a.core.zst cannot be written"),
        ("4k", &folded, "full/a.html cannot be written"),
    ] {
        let run =
            with_little_room(&surroundings, size, arguments).fails(if says.contains("room") { 8 } else { 4 });
        assert_clear(&run);
        assert!(run.stderr.contains(says) && run.stderr.contains("choose another place"), "{}", run.stderr);
        assert_eq!(run.stdout, "");
        target.assert_goes_on();
    }
    before.assert_same();
}

#[test]
fn too_many_samples_are_refused_by_every_verb_that_takes_them() {
    let (_, target) = hot(Language::C, Symbols::Inside, "steady");
    target.wait_started();
    for verb in [&["record", "-r", "100000"][..], &["top", "--once", "-r", "100000"]] {
        let run = Surroundings::new().run(&[verb, &[&name(&target)]].concat()).fails(2);
        assert!(run.stderr.contains("100000 is not in 1..=10000"), "{}", run.stderr);
    }
    target.assert_goes_on();
}
