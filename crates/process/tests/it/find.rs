//! From names to processes; a control group named like a container's makes one as far as these rules can see.

use std::{fs, path::PathBuf};

use pepo_process::{Process, find};
use pepo_wire::{
    Code, Failure,
    agent::{ContainerTarget, ProcessTarget, Selector, Target, target::Kind},
};

use crate::helper::{Helper, With};

/// A control group that is removed with the test.
struct Group {
    id: String,
    folder: PathBuf,
}

impl Group {
    /// `None` where none can be made.
    fn make(mark: &str) -> Option<Group> {
        let id = format!("{:0>64}", format!("{mark}{:x}", std::process::id()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let tops = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4));
        tops.map(|top| PathBuf::from(top).join(&id))
            .find(|folder| fs::create_dir(folder).is_ok())
            .map(|folder| Group { id, folder })
    }

    fn add(&self, helper: &Helper) {
        fs::write(self.folder.join("cgroup.procs"), helper.pid().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group can be removed once its last process is collected, which its helper's end does.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while fs::remove_dir(&self.folder).is_err() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

macro_rules! group {
    ($mark:literal) => {
        match Group::make($mark) {
            Some(group) => group,
            None => {
                pepo_testkit::skip("process-find-cgroup", "no control group can be made here");
                return;
            }
        }
    };
}

fn container(id: &str, hint: u32, process: &str, container_pid: u32) -> Target {
    Target {
        kind: Some(Kind::Container(ContainerTarget {
            id: id.into(),
            name: "docker/shop".into(),
            pid_hint: hint,
        })),
        selector: Some(Selector { process: process.into(), container_pid }),
    }
}

fn resolve(target: &Target) -> Result<u32, Failure> {
    find::resolve(target).map(|process| process.pid().get())
}

#[test]
fn without_a_selector_the_oldest_process_from_outside_is_meant() {
    let (first, second, outside) = (
        Helper::waiting(With::default()),
        Helper::waiting(With::default()),
        Helper::waiting(With::default()),
    );
    let group = group!("a1");
    group.add(&second);
    group.add(&first);
    assert_eq!(resolve(&container(&group.id, 0, "", 0)).unwrap(), first.pid().min(second.pid()));
    assert_eq!(resolve(&container(&group.id, 0, "", second.pid())).unwrap(), second.pid());
    // A hint at a process outside is not believed.
    assert_eq!(resolve(&container(&group.id, outside.pid(), "", 0)).unwrap(), first.pid().min(second.pid()));
    let members = find::members(&container(&group.id, 0, "", 0)).unwrap();
    let members: Vec<u32> = members.iter().map(|member| member.pid().get()).collect();
    assert_eq!(members, [first.pid(), second.pid()]);
    drop((first, second));
}

#[test]
fn ambiguous_and_empty_matches_list_the_candidates_with_the_command_to_choose() {
    let (first, second) = (Helper::waiting(With::default()), Helper::waiting(With::default()));
    let group = group!("a2");
    group.add(&first);
    group.add(&second);
    let failure = resolve(&container(&group.id, 0, "helper_process", 0)).unwrap_err();
    assert_eq!(failure.code(), Code::ProcessAmbiguous);
    assert_eq!(failure.why.len(), 2);
    assert!(failure.why[0].starts_with(&format!("pid {}: ", first.pid())), "{failure:?}");
    assert_eq!(failure.hints[0].command, ["pepo", "check", "docker/shop", "--pid", &first.pid().to_string()]);
    let failure = resolve(&container(&group.id, 0, "no such thing", 0)).unwrap_err();
    assert_eq!(failure.code(), Code::ProcessNotFound);
    assert_eq!(failure.why.len(), 2, "{failure:?}");
    assert_eq!(resolve(&container(&group.id, 0, "(", 0)).unwrap_err().code(), Code::Usage);
    // The pattern sees name and arguments with spaces between them.
    let exact = "^[^ ]+ .*--exact helper::helper_process --nocapture";
    assert_eq!(resolve(&container(&group.id, 0, exact, second.pid())).unwrap(), second.pid());
    drop((first, second));
}

#[test]
fn a_number_that_cannot_be_proven_is_refused() {
    let outside = Helper::waiting(With::default());
    let absent = "f".repeat(64);
    assert_eq!(resolve(&container(&absent, outside.pid(), "", 0)).unwrap_err().code(), Code::PidNotProven);
    assert_eq!(resolve(&container(&absent, 0, "", 0)).unwrap_err().code(), Code::NotRunning);
    assert_eq!(resolve(&container("", 0, "", 0)).unwrap_err().code(), Code::Internal);
}

#[test]
fn a_process_is_proven_by_start_time_and_namespace() {
    let own = Process::own().unwrap();
    let target = |agent_pid, start_time, pid_namespace, selector: &str| Target {
        kind: Some(Kind::Process(ProcessTarget { agent_pid, start_time, pid_namespace })),
        selector: Some(Selector { process: selector.into(), container_pid: 0 }),
    };
    let (pid, start, namespace) = (own.pid().get(), own.start_time(), own.pid_namespace().unwrap());
    assert_eq!(resolve(&target(pid, start, namespace, "")).unwrap(), pid);
    assert_eq!(resolve(&target(pid, 0, 0, "")).unwrap(), pid);
    assert_eq!(resolve(&target(pid, start + 1, namespace, "")).unwrap_err().code(), Code::PidNotProven);
    assert_eq!(resolve(&target(pid, start, namespace + 1, "")).unwrap_err().code(), Code::PidNotProven);
    assert_eq!(
        resolve(&target(pid, start, namespace, "no such thing")).unwrap_err().code(),
        Code::ProcessNotFound
    );
    assert_eq!(resolve(&target(0, 0, 0, "")).unwrap_err().code(), Code::BadName);
    assert_eq!(resolve(&target(i32::MAX as u32, 0, 0, "")).unwrap_err().code(), Code::ProcessGone);
}
