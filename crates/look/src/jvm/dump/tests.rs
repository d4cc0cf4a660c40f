//! Dumps of three versions, and hostile ones.

use super::*;

fn read(text: &str) -> Dump {
    let mut dump = Dump::new(512);
    text.lines().for_each(|line| dump.line(line.as_bytes()));
    dump.finish();
    dump
}

/// As versions 8, 17 and 25 print it, two threads of each.
const DUMPS: [&str; 3] = [
    r#"2026-01-01 00:00:00
Full thread dump OpenJDK 64-Bit Server VM (25.392-b08 mixed mode):

"left" #10 prio=5 os_prio=0 tid=0x00007f8c1c0f1000 nid=0x4b0a waiting for monitor entry [0x00007f8bf5ffe000]
   java.lang.Thread.State: BLOCKED (on object monitor)
	at Shop.lambda$main$0(Shop.java:7)
	- waiting to lock <0x00000000ffd17020> (a java.lang.Object)
	- locked <0x00000000ffd17010> (a java.lang.Object)
	at Shop$$Lambda$1/1324119927.run(Unknown Source)
	at java.lang.Thread.run(Thread.java:750)

"right" #11 daemon prio=5 os_prio=0 tid=0x00007f8c1c0f2000 nid=0x4b0b runnable [0x00007f8bf5efe000]
   java.lang.Thread.State: RUNNABLE
	at Shop.serve(Shop.java:9)
	- locked <0x00000000ffd17020> (a java.lang.Object)

"VM Thread" os_prio=0 tid=0x00007f8c1c06a000 nid=0x4b04 runnable
"#,
    r#""left" #10 prio=5 os_prio=0 cpu=0.39ms elapsed=2.22s tid=0x00007f8c1c0f1000 nid=0x4b0a waiting for monitor entry  [0x00007f8bf5ffe000]
   java.lang.Thread.State: BLOCKED (on object monitor)
	at Shop.lambda$main$0(Shop.java:7)
	- waiting to lock <0x00000000ffd17020> (a java.lang.Object)
	- locked <0x00000000ffd17010> (a java.lang.Object)
	at Shop$$Lambda$1/0x00007fad44001c00.run(Unknown Source)
	at java.lang.Thread.run(java.base@17.0.15/Thread.java:750)

   Locked ownable synchronizers:
	- None

"right" #11 daemon prio=5 os_prio=0 cpu=0.11ms elapsed=2.21s tid=0x00007f8c1c0f2000 nid=0x4b0b runnable  [0x00007f8bf5efe000]
   java.lang.Thread.State: RUNNABLE
	at Shop.serve(Shop.java:9)

   Locked ownable synchronizers:
	- <0x00000000ffd17020> (a java.util.concurrent.locks.ReentrantLock$NonfairSync)

"VM Thread" os_prio=0 cpu=0.79ms elapsed=2.23s tid=0x00007f8c1c06a000 nid=0x4b04 runnable
"#,
    r#""left" #10 [19210] prio=5 os_prio=0 cpu=0.39ms elapsed=2.22s tid=0x00007f8c1c0f1000 nid=19210 waiting for monitor entry  [0x00007f8bf5ffe000]
   java.lang.Thread.State: BLOCKED (on object monitor)
	at Shop.lambda$main$0(Shop.java:7)
	- waiting to lock <0x00000000ffd17020> (a java.lang.Object)
	- locked <0x00000000ffd17010> (a java.lang.Object)
	at Shop$$Lambda/0x0000000014040210.run(Unknown Source)
	at java.lang.Thread.run(java.base@25.0.3/Thread.java:750)

"right" #11 [19211] daemon prio=5 os_prio=0 cpu=0.11ms elapsed=2.21s tid=0x00007f8c1c0f2000 nid=19211 runnable  [0x00007f8bf5efe000]
   java.lang.Thread.State: RUNNABLE
	at Shop.serve(Shop.java:9)
	- locked <0x00000000ffd17020> (a java.lang.Object)

"VM Thread" os_prio=0 cpu=0.79ms elapsed=2.23s tid=0x00007f8c1c06a000 nid=19204 runnable
"#,
];

#[test]
fn versions_8_to_25_are_read_alike() {
    for text in DUMPS {
        let dump = read(text);
        let [left, right, own] = &dump.threads[..] else { panic!("{dump:#?}") };
        assert_eq!((left.name.as_str(), left.tid, right.tid, own.tid), ("left", 0x4b0a, 0x4b0b, 0x4b04));
        assert_eq!(left.state, "BLOCKED (on object monitor)");
        let told: Vec<_> =
            left.frames.iter().map(|one| (one.function.as_str(), one.file.as_str(), one.line)).collect();
        assert_eq!(
            told,
            [
                ("Shop.main{lambda 0}", "Shop.java", 7),
                ("Shop{lambda}.run", "", 0),
                ("java.lang.Thread.run", "Thread.java", 750)
            ]
        );
        let wait = left.wait.as_ref().unwrap();
        assert_eq!(
            (wait.kind, wait.class.as_str(), wait.object),
            ("monitor", "java.lang.Object", 0xffd1_7020)
        );
        assert_eq!(dump.holder(wait.object), Some(right));
        assert_eq!((own.name.as_str(), &own.state[..], own.frames.len()), ("VM Thread", "", 0));
    }
}

#[test]
fn what_waits_to_be_notified_does_not_hold_its_monitor_meanwhile() {
    let dump = read(
        r#""one" #1 nid=5 in Object.wait()
	at java.lang.Object.wait0(java.base@25.0.3/Native Method)
	- waiting on <0x0000000000000010> (a java.lang.Object)
	at Shop.serve(Shop.java:11)
	- locked <0x0000000000000010> (a java.lang.Object)
	- locked <0x0000000000000020> (a java.lang.Object)
"#,
    );
    assert_eq!(dump.threads[0].wait.as_ref().unwrap().kind, "notify");
    assert_eq!((dump.holder(0x10), dump.holder(0x20)), (None, Some(&dump.threads[0])));
}

#[test]
fn deadlocks_name_their_threads_and_the_holders_of_locks_that_are_no_monitors() {
    let dump = read(
        r#""up" #1 nid=5 waiting on condition
	- parking to wait for  <0x00000000ffd17168> (a java.util.concurrent.locks.ReentrantLock$NonfairSync)
"down" #2 nid=6 waiting on condition
	- parking to wait for  <0x00000000ffd17138> (a java.util.concurrent.locks.ReentrantLock$NonfairSync)
"down" #3 nid=7 runnable

Found one Java-level deadlock:
=============================
"up":
  waiting for ownable synchronizer 0x00000000ffd17168, (a java.util.concurrent.locks.ReentrantLock$NonfairSync),
  which is held by "down"

"down":
  waiting to lock monitor 0x00007f63dc001450 (object 0x00000000ffd17138, a java.util.concurrent.locks.ReentrantLock$NonfairSync),
  which is held by "up"

Java stack information for the threads listed above:
===================================================
"up":
	at Shop.serve(Shop.java:11)
"#,
    );
    assert_eq!(dump.deadlocks, [[5, 6]]);
    let holder = |index: usize| dump.holder(dump.threads[index].wait.as_ref()?.object).map(|one| one.tid);
    assert_eq!((holder(0), holder(1)), (Some(6), Some(5)));
    assert!(dump.threads[0].frames.is_empty());
}

#[test]
fn names_of_threads_may_hold_anything() {
    let dump = read(
        "\"a \" nid=1 \"b\" #1 prio=5 nid=0x7 runnable\n\"\" #2 nid=8 runnable\n\"no number\" #3 prio=5\n",
    );
    let told: Vec<_> = dump.threads.iter().map(|one| (one.name.as_str(), one.tid)).collect();
    assert_eq!(told, [("a \" nid=1 \"b", 7), ("", 8)]);
}

#[test]
fn hostile_bytes_are_bounded_and_no_panic() {
    let header = "\"x\" #1 nid=1 runnable\n";
    for text in [
        "\"",
        "\" nid=",
        "\"x\" nid=0x",
        "\"x\" nid=99999999999",
        "Found one Java-level deadlock:\n\":\n\"\":\n  waiting 0x",
    ] {
        read(text);
        read(&format!("{header}{text}"));
    }
    for line in [
        "at (",
        "at )",
        "at .()",
        "at a.b(:)",
        "- <",
        "- <0x> (a ",
        "- locked <0xfffffffffffffffff> (a b)",
        "- >0x1<",
    ] {
        read(&format!("{header}\t{line}\n"));
    }
    let mut dump = Dump::new(10);
    dump.line(header.trim().as_bytes());
    let frame = format!("\tat {}.b(C.java:1)", "a".repeat(16 << 10));
    (0..5000).for_each(|_| dump.line(frame.as_bytes()));
    dump.line(&[0xff; 100]);
    (0..MOST_THREADS + 5).for_each(|_| dump.line(header.trim().as_bytes()));
    dump.finish();
    assert!(dump.is_cut && dump.threads[0].is_cut);
    assert_eq!(dump.threads[0].frames.len(), 10);
    assert!(dump.threads.len() <= MOST_THREADS);
}
