//! Memory that lies: no answer takes more time or memory than a true one would, and none is a panic.

use pepo_process::{Memory, Process};

use super::{Go, MOST, layout::Layout, layout::SIZE};

/// A runtime whose list has this header, in this very process.
fn with_header<T>(header: [u64; 3], act: impl FnOnce(&Go<'_>) -> T) -> T {
    let memory: Memory = Process::own().unwrap().memory().unwrap();
    let layout = Layout::of(Some((1, 26))).unwrap();
    act(&Go { memory: &memory, layout, list: header.as_ptr().addr() as u64, reasons: vec![String::new(); 3] })
}

#[test]
fn a_list_that_is_said_to_be_endless_is_read_as_far_as_there_is_any_or_is_wanted() {
    let list = vec![8_u64; MOST + 10];
    let first = list.as_ptr().addr() as u64;
    let (addresses, left_out) = with_header([first, u64::MAX, u64::MAX], |go| go.addresses());
    assert_eq!((addresses.len(), left_out > 0), (MOST, true));
    for first in [0, 1, u64::MAX, 1 << 47] {
        assert!(with_header([first, 1000, 1000], |go| go.addresses()).0.is_empty());
    }
}

#[test]
fn what_is_no_goroutine_is_none() {
    for fill in [0, 1, 2, 3, 4, 0x55, 0xff_u8] {
        let lies = [fill; SIZE];
        let goroutine = with_header([0; 3], |go| go.goroutine(lies.as_ptr().addr() as u64));
        assert_eq!(goroutine, None, "{fill}");
    }
    assert_eq!(with_header([0; 3], |go| go.goroutine(8)), None);
}

#[test]
fn one_that_knows_itself_but_points_nowhere_is_told_as_far_as_it_goes() {
    let mut words = [u64::MAX; SIZE / 8];
    let address = words.as_ptr().addr() as u64;
    // Stack, itself, status and number.
    (words[0], words[1], words[9], words[18], words[19]) = (16, u64::MAX, address, 4, 77);
    let seen = std::hint::black_box(&words);
    with_header([0; 3], |go| {
        let goroutine = go.goroutine(seen.as_ptr().addr() as u64).unwrap();
        assert_eq!((goroutine.id, go.thread(&goroutine)), (77, None));
        // A reason without words.
        assert_eq!(go.words(&goroutine), "waiting");
        assert_eq!(super::since(goroutine.since), None);
    });
}
