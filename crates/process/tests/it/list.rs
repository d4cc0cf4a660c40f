//! Lists of many processes.

use std::time::Instant;

use pepo_process::list;

use crate::helper::{Helper, NOBODY, With, is_root};

#[test]
fn a_list_shows_what_each_process_is() {
    let helper = Helper::waiting(if is_root() { With::user(NOBODY) } else { With::default() });
    let all = list::all();
    let found = all.iter().find(|process| process.agent_pid == helper.pid()).unwrap();
    assert_eq!(found.parent, std::process::id());
    assert_eq!(found.start_time, helper.process().start_time());
    assert!(found.command_line.contains(&"helper::helper_process".to_owned()), "{found:?}");
    assert_eq!(found.look.as_ref().unwrap().yes, found.stop.as_ref().unwrap().yes);
    if is_root() {
        assert_eq!(found.uid, NOBODY);
    }
}

/// Measured with the processes there are and three hundred more; the bound is for a machine that is busy with other tests
/// and a program that is not optimised.
#[test]
fn a_thousand_processes_are_listed_fast() {
    let children: Vec<_> =
        (0..300).map(|_| std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap()).collect();
    let _ = list::all();
    let (mut best, mut count) = (f64::MAX, 0);
    for _ in 0..5 {
        let start = Instant::now();
        count = list::all().len();
        best = best.min(start.elapsed().as_secs_f64() / count as f64);
    }
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert!(count >= 300);
    eprintln!("{:.1} microseconds a process, {count} processes", best * 1e6);
    assert!(best < 500e-6, "{:.0} microseconds a process", best * 1e6);
}
