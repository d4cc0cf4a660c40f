//! System calls in which threads wait, and what their arguments mean.

use std::time::Duration;

use pepo_process::Memory;

/// What an argument is. Those not named are not told.
#[derive(Clone, Copy)]
enum Argument {
    /// A descriptor.
    Descriptor,
    /// How many bytes at most.
    Bytes,
    /// Milliseconds; negative for no limit.
    Millis,
    /// The address of a time span in seconds and parts of a second, each so many nanoseconds; or nothing for no limit.
    Span(u64),
    /// The address of descriptors to poll, and their number.
    Polled,
    /// A process, a group of them, or any.
    Child,
    /// An address.
    Address,
    /// Not told.
    Other,
}

use Argument::{Address, Bytes, Child, Descriptor, Millis, Other, Polled, Span};

/// The most descriptors of one `poll` that are told.
const MOST_POLLED: u64 = 16;

/// Calls that wait, by the numbers of this architecture.
const WAITING: &[(i64, &str, &[Argument])] = &[
    (libc::SYS_read, "read", &[Descriptor, Other, Bytes]),
    (libc::SYS_write, "write", &[Descriptor, Other, Bytes]),
    (libc::SYS_readv, "readv", &[Descriptor]),
    (libc::SYS_writev, "writev", &[Descriptor]),
    (libc::SYS_pread64, "pread64", &[Descriptor, Other, Bytes]),
    (libc::SYS_recvfrom, "recvfrom", &[Descriptor, Other, Bytes]),
    (libc::SYS_recvmsg, "recvmsg", &[Descriptor]),
    (libc::SYS_sendto, "sendto", &[Descriptor, Other, Bytes]),
    (libc::SYS_sendmsg, "sendmsg", &[Descriptor]),
    (libc::SYS_accept, "accept", &[Descriptor]),
    (libc::SYS_accept4, "accept4", &[Descriptor]),
    (libc::SYS_connect, "connect", &[Descriptor]),
    (libc::SYS_flock, "flock", &[Descriptor]),
    (libc::SYS_fcntl, "fcntl", &[Descriptor]),
    (libc::SYS_fsync, "fsync", &[Descriptor]),
    (libc::SYS_fdatasync, "fdatasync", &[Descriptor]),
    (libc::SYS_ioctl, "ioctl", &[Descriptor]),
    (libc::SYS_epoll_pwait, "epoll_pwait", &[Descriptor, Other, Other, Millis]),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", &[Descriptor, Other, Other, Span(1)]),
    (libc::SYS_ppoll, "ppoll", &[Polled, Other, Span(1)]),
    (libc::SYS_pselect6, "pselect6", &[Other, Other, Other, Other, Span(1)]),
    (libc::SYS_futex, "futex", &[Address]),
    (libc::SYS_nanosleep, "nanosleep", &[Span(1)]),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", &[Other, Other, Span(1)]),
    (libc::SYS_wait4, "wait4", &[Child]),
    (libc::SYS_waitid, "waitid", &[]),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", &[Other, Other, Span(1)]),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", &[]),
    (libc::SYS_io_getevents, "io_getevents", &[]),
    (libc::SYS_io_uring_enter, "io_uring_enter", &[Descriptor]),
    (libc::SYS_restart_syscall, "restart_syscall", &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", &[Polled, Other, Millis]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", &[Other, Other, Other, Other, Span(1000)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause", &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", &[Descriptor, Other, Other, Millis]),
];

/// A call, as far as it is understood.
pub(super) struct Call {
    name: String,
    /// What is told of the arguments; a descriptor stands there by its number in `descriptors`.
    told: Vec<Told>,
    /// The descriptors it waits for.
    pub(super) descriptors: Vec<u64>,
}

enum Told {
    Words(String),
    Descriptors(std::ops::Range<usize>, bool),
}

/// Takes a call apart.
pub(super) fn decode(memory: &Memory, number: u64, arguments: &[u64; 6]) -> Call {
    let Some((_, name, known)) = WAITING.iter().find(|(known, ..)| u64::try_from(*known) == Ok(number))
    else {
        return Call { name: format!("system call {number}"), told: Vec::new(), descriptors: Vec::new() };
    };
    let mut call = Call { name: (*name).to_owned(), told: Vec::new(), descriptors: Vec::new() };
    // A sleep until a time is told by that time's clock, which nobody reads.
    let is_span = !(*name == "clock_nanosleep" && arguments[1] & 1 == 1);
    for (index, kind) in known.iter().enumerate() {
        let value = arguments[index];
        let next = arguments.get(index + 1).copied().unwrap_or(0);
        call.add(memory, *kind, value, next, is_span);
    }
    call
}

impl Call {
    fn add(&mut self, memory: &Memory, kind: Argument, value: u64, next: u64, is_span: bool) {
        let words = match kind {
            Other => return,
            Span(_) if !is_span => "until a given time".to_owned(),
            Descriptor => return self.add_descriptors(&[value & 0xffff_ffff], false),
            Polled => {
                let size = next.min(MOST_POLLED) as usize * 8;
                let entries = memory.read_up_to(value, size).unwrap_or_default();
                let of = |entry: &[u8; 8]| i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
                let all: Vec<u64> =
                    entries.as_chunks::<8>().0.iter().filter_map(|entry| of(entry).try_into().ok()).collect();
                return self.add_descriptors(&all, true);
            }
            Bytes if value == 1 => "1 byte".to_owned(),
            Bytes => format!("{value} bytes"),
            Millis => match i32::try_from((value & 0xffff_ffff).cast_signed() << 32 >> 32) {
                Ok(millis @ 0..) => seconds(Duration::from_millis(millis as u64)),
                _ => "no time limit".to_owned(),
            },
            Span(unit) => span(memory, value, unit),
            Child => match value as i32 {
                -1 => "any child".to_owned(),
                pid => format!("process {pid}"),
            },
            Address => format!("{value:#x}"),
        };
        self.told.push(Told::Words(words));
    }

    fn add_descriptors(&mut self, all: &[u64], is_list: bool) {
        let start = self.descriptors.len();
        self.descriptors.extend(all);
        self.told.push(Told::Descriptors(start..self.descriptors.len(), is_list));
    }

    /// `read(3: pipe:[42], 4096 bytes)`.
    pub(super) fn words(&self, descriptor: &dyn Fn(u64) -> String) -> String {
        if self.name.contains(' ') {
            return self.name.clone();
        }
        let told = self.told.iter().map(|told| match told {
            Told::Words(words) => words.clone(),
            Told::Descriptors(range, is_list) => {
                let all: Vec<_> =
                    self.descriptors[range.clone()].iter().map(|one| descriptor(*one)).collect();
                if *is_list { format!("[{}]", all.join(", ")) } else { all.join(", ") }
            }
        });
        format!("{}({})", self.name, told.collect::<Vec<_>>().join(", "))
    }
}

/// Two numbers in memory: seconds, and parts of `unit` nanoseconds.
fn span(memory: &Memory, address: u64, unit: u64) -> String {
    if address == 0 {
        return "no time limit".to_owned();
    }
    match memory.read_u64s::<2>(address) {
        Ok([whole, parts]) => {
            let parts = Duration::from_nanos(parts.saturating_mul(unit).min(999_999_999));
            seconds(Duration::from_secs(whole).saturating_add(parts))
        }
        Err(_) => "?".to_owned(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
