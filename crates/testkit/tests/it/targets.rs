//! Targets live, are seen to live, and end with the test.

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use pepo_testkit::{
    Isolation, Language, Life, Python, Variant, clean::Snapshot, fixtures, pythons, spawn, spawn_isolated,
    wait,
};
use rustix::process::Signal;

#[test]
fn each_fixture_goes_on_in_each_way_it_can_run() {
    for fixture in fixtures::all(Variant::debug()) {
        for arguments in [&[][..], &["0"], &["1000", "worker"]] {
            let running = spawn(&fixture, arguments);
            running.assert_goes_on();
            assert!(running.answers().is_empty());
            let threads = fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap().count();
            assert!(threads >= 3, "{} has {threads} threads", fixture.source_name());
        }
    }
}

#[test]
fn a_stopped_target_is_seen_to_stand_still() {
    let running = spawn(&fixtures::c(Variant::debug()), &[]);
    running.signal(Signal::STOP);
    running.assert_stands_still(Duration::from_millis(400));
    let state = running.goes_on(Duration::from_millis(300)).unwrap_err();
    assert!(state.contains("T (stopped)") && state.contains("beat 1 "), "{state}");
    running.signal(Signal::CONT);
    running.assert_goes_on();
}

#[test]
fn a_dropped_target_is_gone() {
    let running = spawn(&fixtures::c(Variant::debug()), &[]);
    let proc = format!("/proc/{}", running.pid());
    drop(running);
    assert!(!Path::new(&proc).exists());
}

#[test]
fn isolated_targets_have_own_namespaces_user_and_root() {
    for fixture in fixtures::all(Variant::debug()) {
        let isolation = Isolation { uid: 65534, read_only_root: true };
        let running = spawn_isolated(&fixture, &["200"], isolation);
        running.assert_goes_on();
        let proc = format!("/proc/{}", running.pid());
        for kind in ["pid", "mnt", "net"] {
            let link = |path: &str| fs::read_link(format!("{path}/ns/{kind}")).unwrap();
            assert_ne!(link(&proc), link("/proc/self"), "{kind}");
        }
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        assert!(
            status.contains("Uid:\t65534\t65534") && status.contains("CapEff:\t0000000000000000"),
            "{status}"
        );
        assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
        let mounts = fs::read_to_string(format!("{proc}/mountinfo")).unwrap();
        assert!(mounts.lines().any(|line| line.contains(" / ro,")), "{mounts}");
        assert!(!Path::new(&format!("{proc}/root/bin/sh")).exists());
    }
}

#[test]
fn every_python_found_runs_the_fixture() {
    let found = pythons();
    assert!(!found.is_empty());
    for Python { version, .. } in &found {
        let python = Python::of(version.0, version.1).unwrap();
        let running = spawn(&fixtures::python(Variant::debug()).with_python(&python), &[]);
        running.assert_goes_on();
    }
}

#[test]
fn the_shop_names_its_address() {
    for language in [Language::C, Language::Go, Language::Python] {
        let running = spawn(&fixtures::shop(language, Variant::debug()), &[]);
        let line = running.wait_for_line("listening 127.0.0.1:", Duration::from_secs(10));
        let answer = pepo_testkit::http_get(running.pid(), line.rsplit(':').next().unwrap(), "/price/3");
        assert_eq!(answer, "{\"amount\": 3, \"price\": 54}\n", "{language:?}");
    }
}

#[test]
fn a_target_left_alone_is_the_same_and_a_changed_one_is_not() {
    let running = spawn_isolated(&fixtures::c(Variant::debug()), &[], Isolation::default());
    let before = Snapshot::take(running.pid());
    running.assert_goes_on();
    before.assert_same();
    let left = running.root().unwrap().join("tmp/left");
    fs::write(&left, "x").unwrap();
    assert_eq!(before.differences().len(), 1, "{:?}", before.differences());
    fs::remove_file(&left).unwrap();
    before.assert_same();
}

#[test]
fn a_snapshot_sees_a_stopped_target_and_a_changed_text() {
    let running = spawn(&fixtures::c(Variant::debug()), &[]);
    let before = Snapshot::take(running.pid());
    running.signal(Signal::STOP);
    wait::until("the stop is seen", Duration::from_secs(5), || match before.differences() {
        some if some.len() == 3 && some.iter().all(|line| line.ends_with("is stopped")) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    running.signal(Signal::CONT);
    before.assert_same();
    let maps = fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
    let text = maps.lines().find(|line| line.contains("r-xp") && line.ends_with("/loop")).unwrap();
    let start = u64::from_str_radix(text.split('-').next().unwrap(), 16).unwrap();
    let memory =
        fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", running.pid())).unwrap();
    // The first bytes of the section .init, which has run.
    let mut bytes = [0; 1];
    memory.read_exact_at(&mut bytes, start).unwrap();
    memory.write_all_at(&[0xcc], start).unwrap();
    let seen = before.differences();
    assert!(seen.len() == 1 && seen[0].starts_with("changed text in "), "{seen:?}");
    memory.write_all_at(&bytes, start).unwrap();
    before.assert_same();
}
