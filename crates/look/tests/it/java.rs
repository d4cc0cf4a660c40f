//! Stacks of JVMs, with every JDK of this machine.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pepo_look::{answers, stack};
use pepo_process::{AgentPid, Process, runtime};
use pepo_testkit::{Java, Life as _, Running, command, hot_classes, javas, only_child, spawn_command, wait};
use pepo_wire::agent::{StackRequest, StackResponse, Thread};
use rustix::process::Signal;

/// The program, run by this JVM; at work when this returns.
pub(crate) fn hot(java: &Java, options: &[&str], mode: &str) -> Running {
    let target = spawn_command(&mut java.hot(options, &[mode]));
    target.wait_started();
    target
}

fn look(pid: u32, request: &StackRequest) -> StackResponse {
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    stack(&process, request).unwrap()
}

fn all(target: &Running) -> StackResponse {
    look(target.pid(), &StackRequest::default())
}

fn named<'a>(stack: &'a StackResponse, name: &str) -> &'a Thread {
    stack
        .threads
        .iter()
        .find(|thread| thread.given_name == name)
        .unwrap_or_else(|| panic!("no {name}: {stack:#?}"))
}

fn functions(thread: &Thread) -> Vec<&str> {
    thread.frames.iter().map(|frame| frame.function.as_str()).collect()
}

/// Number of the source's line that has this text.
pub(crate) fn line(text: &str) -> u32 {
    let source = include_str!("../../../../fixtures/hot/Hot.java");
    u32::try_from(source.lines().position(|line| line.contains(text)).unwrap() + 1).unwrap()
}

fn mark(target: &Running) -> PathBuf {
    PathBuf::from(format!("/tmp/.attach_pid{}", target.pid()))
}

fn socket(target: &Running) -> PathBuf {
    PathBuf::from(format!("/tmp/.java_pid{}", target.pid()))
}

/// It goes on, says nothing that it would not say by itself, and no file of ours is there.
pub(crate) fn assert_as_before(target: &Running) {
    target.assert_goes_on();
    assert!(!target.output().contains("thread dump"), "{}", target.output());
    assert!(!mark(target).exists());
}

/// The outermost frames of what works in the program, innermost first: main, and the lambda that it runs.
pub(crate) fn assert_begins_in_main(names: &[&str]) {
    let [.., work, lambda, run, outermost] = names[..] else { panic!("{names:?}") };
    assert_eq!([work, run, outermost], ["Hot.workForEver", "Hot{lambda}.run", "Hot.main"]);
    assert!(lambda.starts_with("Hot.main{lambda "), "{lambda}");
}

#[test]
fn every_jvm_shows_its_threads_by_name_and_where_each_is() {
    let all_jvms = javas();
    assert!(all_jvms.len() >= 2, "{all_jvms:?}");
    for java in all_jvms {
        let target = hot(&java, &[], "threads");
        for _ in 0..3 {
            let stack = all(&target);
            assert!(stack.longest_pause_micros > 0 && stack.deadlocks.is_empty(), "{stack:#?}");
            assert!(
                stack.notes.iter().any(|note| note.contains("held all its threads")),
                "{:?}",
                stack.notes
            );
            let idle: HashSet<_> = stack
                .threads
                .iter()
                .filter(|one| one.given_name.starts_with("idle-"))
                .map(|one| one.container_tid)
                .collect();
            assert_eq!(idle.len(), 20, "{java:?}");
            let idle = named(&stack, "idle-7");
            assert_eq!(idle.runtime_state, "WAITING (parking)");
            let wait = idle.runtime_wait.as_ref().unwrap();
            assert_eq!((wait.kind.as_str(), &idle.waits_for), ("park", &None), "{wait:?}");
            assert!(wait.r#type.starts_with("java.util.concurrent.CountDownLatch"), "{wait:?}");
            assert!(functions(idle).contains(&"Hot.await"), "{idle:#?}");
            let main = named(&stack, "main");
            assert_eq!(main.runtime_state, "RUNNABLE");
            assert_begins_in_main(&functions(main));
            let last = main.frames.last().unwrap();
            assert_eq!((last.file.as_str(), last.line), ("Hot.java", line("run.run();")), "{java:?}");
            assert_eq!(last.language, "java");
            named(&stack, "a \"name\" nid=1");
        }
        assert!(socket(&target).exists());
        assert_as_before(&target);
    }
}

#[test]
fn a_deadlock_is_told_with_its_threads_and_who_holds_what() {
    for java in javas() {
        let target = hot(&java, &[], "deadlock");
        let waits = |stack: &StackResponse| stack.deadlocks.len() == 2;
        let stack =
            wait::try_until(Duration::from_secs(20), || Some(all(&target)).filter(waits).ok_or(())).unwrap();
        assert!(!stack.notes.iter().any(|note| note.contains("deadlock")), "told twice: {:?}", stack.notes);
        let tid = |name: &str| named(&stack, name).container_tid;
        let mut told: Vec<Vec<u32>> = stack.deadlocks.iter().map(|one| one.threads.clone()).collect();
        told.iter_mut().for_each(|threads| threads.sort_unstable());
        let mut wanted = [["left", "right"], ["up", "down"]].map(|names| names.map(tid).to_vec());
        wanted.iter_mut().for_each(|threads| threads.sort_unstable());
        told.sort();
        wanted.sort();
        assert_eq!(told, wanted, "{java:?}");
        for (name, other, kind) in [
            ("left", "right", "monitor"),
            ("right", "left", "monitor"),
            ("up", "down", "park"),
            ("down", "up", "park"),
        ] {
            let thread = named(&stack, name);
            let waited_for = thread
                .waits_for
                .as_ref()
                .map(|one| (one.container_tid, one.name.as_str(), one.what.as_str()));
            assert_eq!(waited_for, Some((tid(other), other, "lock")), "{java:?}: {thread:#?}");
            assert_eq!(thread.runtime_wait.as_ref().unwrap().kind, kind);
        }
        assert_as_before(&target);
    }
}

#[test]
fn holders_of_locks_that_are_no_monitors_are_told_when_they_are_asked_for() {
    for java in javas() {
        let target = hot(&java, &[], "deadlock");
        let request = StackRequest { locks: true, ..StackRequest::default() };
        let stack = look(target.pid(), &request);
        assert!(functions(named(&stack, "main")).contains(&"Hot.workForEver"), "{java:?}");
        assert_as_before(&target);
    }
}

/// With -Xrs a JVM does not catch SIGQUIT. It listens from its beginning; when its socket is gone nothing is sent.
#[test]
fn a_jvm_that_would_die_of_the_signal_is_not_sent_it() {
    for java in javas() {
        let target = hot(&java, &["-Xrs"], "steady");
        assert!(functions(named(&all(&target), "main")).contains(&"Hot.workForEver"), "{java:?}");
        fs::remove_file(socket(&target)).unwrap();
        let stack = all(&target);
        assert!(
            stack.notes.iter().any(|note| note.contains("native frames only") && note.contains("-Xrs")),
            "{:?}",
            stack.notes
        );
        assert!(stack.threads.iter().any(|thread| !thread.frames.is_empty()));
        assert_as_before(&target);
    }
}

/// Its own thread dump would stand in its log. The option may come by ways that no command line shows.
#[test]
fn a_jvm_that_was_told_not_to_listen_is_not_asked() {
    for java in javas() {
        let mut line = java.hot(&[], &["steady"]);
        line.env("JAVA_TOOL_OPTIONS", "-XX:+DisableAttachMechanism");
        let target = spawn_command(&mut line);
        target.wait_started();
        let stack = all(&target);
        let said = |text: &str| stack.notes.iter().any(|note| note.contains(text));
        assert!(said("native frames only") && said("DisableAttachMechanism"), "{:?}", stack.notes);
        let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
        let foreseen = answers(&process, &runtime::detect(&process)).unwrap();
        assert!(foreseen.unwrap_err().contains("DisableAttachMechanism"));
        assert!(!socket(&target).exists());
        assert_as_before(&target);
    }
}

#[test]
fn many_who_ask_at_once_wake_it_once() {
    for java in javas() {
        let target = hot(&java, &[], "steady");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(named(&all(&target), "main").runtime_state, "RUNNABLE"));
            }
        });
        assert_as_before(&target);
    }
}

#[test]
fn a_file_of_one_who_has_died_is_not_waited_for() {
    let java = javas().pop().unwrap();
    let target = hot(&java, &[], "steady");
    fs::write(mark(&target), "").unwrap();
    named(&all(&target), "main");
    assert_as_before(&target);
}

#[test]
fn a_jvm_that_stands_still_is_told_to_and_hears_nothing_of_it_later() {
    let java = javas().pop().unwrap();
    let target = hot(&java, &[], "steady");
    target.signal(Signal::STOP);
    let state = || fs::read_to_string(format!("/proc/{}/stat", target.pid())).unwrap();
    wait::until("it is stopped", Duration::from_secs(10), || {
        if state().contains(") T ") { Ok(()) } else { Err(state()) }
    });
    let stack = all(&target);
    assert!(stack.notes.iter().any(|note| note.contains("it is stopped")), "{:?}", stack.notes);
    target.signal(Signal::CONT);
    assert_as_before(&target);
}

/// In namespaces of its own, with its own /tmp, as another user, who may read nothing of ours.
pub(crate) fn apart(java: &Java, then: &str) -> (Running, u32) {
    let mut shell = command("unshare");
    shell.args(["--pid", "--mount", "--net", "--fork", "--kill-child", "sh", "-ec"]);
    shell.arg(format!(
        "mount -t tmpfs -o mode=1777 none /tmp; cp -r \"$1\" /tmp/classes; chmod -R a+rX /tmp/classes; {then}
         exec setpriv --reuid 65534 --regid 65534 --clear-groups --pdeathsig KILL \"$2\" -Xmx64m -cp /tmp/classes Hot steady"
    ));
    shell.arg("sh").arg(hot_classes()).arg(java.home.join("bin/java"));
    let target = spawn_command(&mut shell);
    target.wait_started();
    let pid = only_child(target.pid());
    (target, pid)
}

/// For what takes long.
pub(crate) fn oldest_and_newest() -> [Java; 2] {
    let mut all = javas();
    [all.remove(0), all.pop().expect("this machine has two")]
}

/// A JDK that every user may read.
pub(crate) fn public() -> Java {
    javas().into_iter().find(|java| java.home.starts_with("/usr")).unwrap()
}

#[test]
fn a_jvm_of_another_user_in_namespaces_of_its_own_answers() {
    let (target, pid) = apart(&public(), "");
    let stack = look(pid, &StackRequest::default());
    assert!(functions(named(&stack, "main")).contains(&"Hot.workForEver"), "{stack:#?}");
    let left: HashSet<_> = fs::read_dir(format!("/proc/{pid}/root/tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["classes", "hsperfdata_nobody", ".java_pid1"].map(str::to_owned).into());
    target.assert_goes_on();
}

#[test]
fn a_read_only_tmp_is_a_clear_no() {
    let (target, pid) = apart(&public(), "mount -o remount,ro /tmp;");
    let stack = look(pid, &StackRequest::default());
    assert!(stack.notes.iter().any(|note| note.contains("/tmp is read-only")), "{:?}", stack.notes);
    target.assert_goes_on();
}

/// A link in the target that leads to a socket elsewhere, and a socket that is another's.
#[test]
fn what_is_not_the_jvms_own_socket_is_not_spoken_to() {
    let java = javas().pop().unwrap();
    let target = hot(&java, &[], "steady");
    let elsewhere = tempfile(&target);
    let listener = std::os::unix::net::UnixListener::bind(&elsewhere).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::os::unix::fs::symlink(&elsewhere, socket(&target)).unwrap();
    assert!(all(&target).notes.iter().any(|note| note.contains("cannot be used")));
    fs::remove_file(socket(&target)).unwrap();
    fs::rename(&elsewhere, socket(&target)).unwrap();
    assert!(all(&target).notes.iter().any(|note| note.contains("not this one")));
    fs::remove_file(socket(&target)).unwrap();
    assert_as_before(&target);
}

fn tempfile(target: &Running) -> PathBuf {
    Path::new("/tmp").join(format!("pepo-test-{}", target.pid()))
}

#[test]
fn native_frames_stand_within_those_of_java() {
    for java in javas() {
        let target = hot(&java, &[], "threads");
        let stack = look(target.pid(), &StackRequest { native: true, ..StackRequest::default() });
        let idle = named(&stack, "idle-3");
        let first_of_java = idle.frames.iter().position(|frame| frame.language == "java").unwrap();
        assert!(
            first_of_java > 0 && idle.frames[..first_of_java].iter().all(|frame| !frame.module.is_empty()),
            "{idle:#?}"
        );
        let own = named(&stack, "VM Thread");
        assert!(!own.frames.is_empty() && own.frames.iter().all(|frame| frame.language.is_empty()));
        assert_as_before(&target);
    }
}

/// Whoever asks may be killed at any moment: the JVM goes on, and the next one who asks is answered.
#[test]
fn whoever_asks_may_be_killed_in_the_act() {
    let java = javas().pop().unwrap();
    for millis in [1, 4, 12, 30] {
        let target = hot(&java, &[], "steady");
        let mut asker = command(std::env::current_exe().unwrap());
        asker
            .args(["--exact", "--ignored", "--nocapture", "java::asks_for_ever"])
            .env("PEPO_TEST_TARGET", target.pid().to_string());
        let asker = spawn_command(&mut asker);
        wait::try_until(Duration::from_secs(20), || {
            if asker.output().contains("asking") { Ok(()) } else { Err(()) }
        })
        .unwrap();
        let _ = wait::try_until(Duration::from_millis(millis), || Err::<(), ()>(()));
        // Killed by being dropped.
        drop(asker);
        target.assert_goes_on();
        // What it left is taken away as soon as it is old enough to be nobody's.
        wait::until("the next one's answer", Duration::from_secs(20), || {
            named(&all(&target), "main");
            if mark(&target).exists() { Err("its file is there") } else { Ok(()) }
        });
        assert_as_before(&target);
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn asks_for_ever() {
    let pid = std::env::var("PEPO_TEST_TARGET").unwrap().parse().unwrap();
    eprintln!("asking");
    loop {
        look(pid, &StackRequest::default());
    }
}
