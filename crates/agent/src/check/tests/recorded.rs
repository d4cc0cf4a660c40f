//! Conditions that no process here can be put under (Yama, AppArmor, SELinux): judged from what `/proc` and `/sys` of such
//! machines hold, written down in `tests/data`, and counted as such.

use std::{fs, os::unix::fs::symlink, path::Path};

use pepo_process::{permits, permits::Judge, status::Status};
use tempfile::TempDir;

use super::{super::facts::Facts, *};

/// Notes that a condition was judged from a recording.
fn recorded(what: &str) {
    pepo_testkit::skip(&format!("check-recorded-{what}"), "judged from a recording, not on such a machine");
}

/// Lays a recording out as files: `@ PATH` before the text of each, `@ PATH -> TEXT` for a link.
fn lay_out(machine: &str) -> TempDir {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{machine}.txt"));
    let folder = tempfile::tempdir().unwrap();
    for part in fs::read_to_string(file).unwrap().split("@ ").filter(|part| !part.is_empty()) {
        let (head, text) = part.split_once('\n').unwrap();
        let (path, link) = head.split_once(" -> ").map_or((head, None), |(path, link)| (path, Some(link)));
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match link {
            Some(link) => symlink(link, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    folder
}

/// What the rules say of a process in a recording, besides OK.
fn check(machine: &str, pid: u32) -> Vec<String> {
    troubles(&all(machine, pid))
}

/// Whatever the rules say of it.
fn all(machine: &str, pid: u32) -> Vec<Finding> {
    let folder = lay_out(machine);
    let roots = permits::recorded(folder.path());
    let process = roots.proc.join(pid.to_string());
    let status = Status::parse(&fs::read(process.join("status")).unwrap()).unwrap();
    let judge = Judge::new(&roots);
    let theirs = judge.credentials(&process, &status);
    ask(RULES, &Facts::judged(judge, theirs, status), &[])
}

fn check_machine(machine: &str) -> Vec<String> {
    let folder = lay_out(machine);
    let tools = Tools::in_folders(Vec::new(), Vec::new());
    let machine = Machine::read(&permits::recorded(folder.path()), &tools);
    troubles(&ask(&MACHINE_RULES[..5], &machine, &[]))
}

const NOTHING: [&str; 0] = [];

#[test]
fn yama_lets_parents_and_the_capability_through_as_its_scope_says() {
    recorded("yama");
    assert_eq!(check("yama-0", 4711), NOTHING);
    assert_eq!(check("yama-1", 4711), ["No yama [stack top record attach dap] Yama"]);
    assert_eq!(check("yama-1", 950), NOTHING, "a child may be traced");
    assert_eq!(check("yama-1-root", 4711), NOTHING);
    assert_eq!(check("yama-2", 950), ["No yama [stack top record attach dap] Yama"]);
    assert_eq!(check("yama-3-root", 4711), ["No yama [stack top record attach dap] Yama"]);
    assert_eq!(
        check("yama-1", 1),
        ["No user [stack top record attach dap] OtherUser"],
        "the first step that fails decides"
    );
    assert_eq!(
        check_machine("yama-1"),
        [
            "Lost capabilities [stack top record attach dap] NeedsCapability",
            "No yama [stack top record attach dap] Yama"
        ]
    );
    assert_eq!(check_machine("yama-1-root"), NOTHING);
    assert_eq!(check_machine("yama-3-root"), ["No yama [stack top record attach dap] Yama"]);
}

#[test]
fn no_capability_is_said_to_be_needed_where_one_would_help() {
    recorded("yama");
    let told = |machine, pid| all(machine, pid).iter().any(|said| said.rule == "capabilities");
    for (machine, pid, expected) in
        [("yama-0", 4711, true), ("yama-1", 1, false), ("yama-1", 4711, false), ("yama-1-root", 4711, true)]
    {
        assert_eq!(told(machine, pid), expected, "{machine} {pid}");
    }
}

#[test]
fn apparmor_lets_the_unconfined_and_the_same_profile_through() {
    recorded("apparmor");
    assert_eq!(check("apparmor", 4711), NOTHING);
    assert_eq!(check("apparmor", 4712), ["No security-module [stack top record attach dap] SecurityModule"]);
    assert_eq!(check("apparmor", 4713), ["No security-module [stack top record attach dap] SecurityModule"]);
    assert_eq!(check("apparmor-host", 4711), NOTHING);
}

#[test]
fn selinux_keeps_containers_of_other_categories_apart() {
    recorded("selinux");
    assert_eq!(check("selinux", 4711), NOTHING);
    assert_eq!(check("selinux", 4712), ["No security-module [stack top record attach dap] SecurityModule"]);
    assert_eq!(check("selinux-permissive", 4712), NOTHING);
    assert_eq!(
        check("selinux-deny", 4711),
        ["No security-module [stack top record attach dap] SecurityModule"]
    );
    assert_eq!(
        check_machine("selinux-deny"),
        ["No security-module [stack top record attach dap] SecurityModule"]
    );
}
