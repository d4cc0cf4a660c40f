//! `/proc/PID/stat`, as proc_pid_stat(5) describes it.

use std::{fmt, sync::OnceLock};

/// What a process or thread does now, as proc_pid_stat(5) writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State(char);

impl Default for State {
    /// `?`: not known.
    fn default() -> State {
        State('?')
    }
}

impl State {
    /// The state of this letter.
    #[must_use]
    pub fn new(letter: char) -> State {
        State(letter)
    }

    /// One letter: R, S, D, T, t, Z, X, I.
    #[must_use]
    pub fn letter(self) -> char {
        self.0
    }

    /// Held still by a tracer.
    #[must_use]
    pub fn is_traced(self) -> bool {
        self.0 == 't'
    }

    /// Stopped by a signal (job control).
    #[must_use]
    pub fn is_stopped(self) -> bool {
        self.0 == 'T'
    }

    /// Ended, and not yet collected by its parent.
    #[must_use]
    pub fn is_zombie(self) -> bool {
        matches!(self.0, 'Z' | 'X' | 'x')
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({})", self.0)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The fields of `/proc/PID/stat` that are of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name of the process, at most 15 bytes; what is no UTF-8 is replaced.
    pub name: String,
    /// What it does now.
    pub state: State,
    /// Its parent as the agent's `/proc` numbers it; 0 when the parent is outside the PID namespace.
    pub parent: u32,
    /// Time spent in user code, in clock ticks.
    pub user_ticks: u64,
    /// Time spent in the kernel, in clock ticks.
    pub system_ticks: u64,
    /// Number of threads.
    pub threads: u32,
    /// Start, in clock ticks after boot.
    pub start_time: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

impl Stat {
    /// Reads the file's text; `None` when it is not as the manual says.
    ///
    /// The name stands in parentheses and may itself hold any byte, parentheses and newlines too: the last `)` ends it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Stat> {
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        // Field 3 (state) has index 0 here.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            name,
            state: State(fields.first()?.chars().next()?),
            parent: u32::try_from(number(4)?).ok()?,
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            threads: u32::try_from(number(20)?).ok()?,
            start_time: number(22)?,
            resident_pages: number(24)?,
        })
    }

    /// Seconds since the process started, by the boot clock.
    #[must_use]
    pub fn uptime_seconds(&self) -> f64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
        (now - self.start_time as f64 / ticks_per_second() as f64).max(0.0)
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.resident_pages.saturating_mul(rustix::param::page_size() as u64)
    }
}

/// Clock ticks in a second, the unit of the kernel's process times.
#[must_use]
pub fn ticks_per_second() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(rustix::param::clock_ticks_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str =
        "S 812 1 1 0 -1 4194560 1 2 3 4 51 62 0 0 20 0 7 0 123456 99999 321 18446744073709551615 1 1 0";

    #[test]
    fn names_with_parentheses_spaces_and_newlines_do_not_shift_the_fields() {
        for name in ["sh", "a b", "x) R 1 (y", ")", "", "tmux: server\n"] {
            let stat = Stat::parse(format!("17 ({name}) {TAIL}").as_bytes()).unwrap();
            assert_eq!((stat.name.as_str(), stat.parent, stat.threads), (name, 812, 7));
            assert_eq!((stat.start_time, stat.resident_pages), (123_456, 321));
            assert_eq!((stat.user_ticks, stat.system_ticks), (51, 62));
            assert_eq!(stat.state.letter(), 'S');
        }
    }

    #[test]
    fn what_is_cut_short_or_no_number_is_refused() {
        for text in ["", "17", "17 (a", "17 (a) S", "17 (a) S x 1", ")(", "17 (a) S -1 1 1 0"] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(Stat::parse(&[b"1 (".as_slice(), &[0xff, 0xfe], b") ", TAIL.as_bytes()].concat()).is_some());
    }
}
