//! Lists of many processes.

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

/// Counted in processor time, since other tests run beside; a program that is not optimised takes several times as long.
#[test]
fn a_list_of_many_processes_costs_little() {
    let children: Vec<_> =
        (0..300).map(|_| pepo_testkit::command("/bin/sleep").arg("60").spawn().unwrap()).collect();
    let _ = list::all();
    let (mut best, mut count) = (f64::MAX, 0);
    for _ in 0..5 {
        let start = processor_seconds();
        count = list::all().len();
        best = best.min((processor_seconds() - start) / count as f64);
    }
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert!(count >= 300);
    eprintln!("{:.0} microseconds a process, {count} processes", best * 1e6);
    assert!(best < 2e-3, "{:.0} microseconds a process", best * 1e6);
}

/// Of the whole process: other tests count too, so this is an upper bound.
fn processor_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
