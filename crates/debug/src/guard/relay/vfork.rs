//! A child that borrows the target's memory until it executes a program (vfork(2), and with it `system` and `posix_spawn`).
//!
//! Its breakpoints would be the child's, too. LLDB takes them out for so long, but not while it evaluates a call: there it takes the stop
//! for the call's end, puts the registers back under it, and never lets the child go, which ends the target. So it does not hear of such
//! children: the relay does for it what it does otherwise. gdb deals with them itself.

use std::io;

use super::{Interrupt, Relay};
use crate::guard::request::{Point, process_of};

/// What the report of a stop tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It has begun; its number.
    Began(u64),
    /// It has executed a program, or ended.
    Done,
}

impl Event {
    fn of(report: &[u8]) -> Option<Event> {
        let pairs = report.strip_prefix(b"T")?.get(2..)?.split(|&byte| byte == b';');
        pairs.into_iter().find_map(|pair| {
            let (key, value) = pair.split_at(pair.iter().position(|&byte| byte == b':')?);
            match key {
                b"vfork" => process_of(&value[1..]).map(Event::Began),
                b"reason" if value == b":vforkdone" => Some(Event::Done),
                _ => None,
            }
        })
    }
}

impl Relay<'_> {
    /// Deals with a stop that is about such a child, and lets the target run on; whether it was.
    pub(super) fn is_about_a_borrower(&mut self, report: &[u8]) -> io::Result<bool> {
        match Event::of(report) {
            Some(Event::Began(child)) => {
                if !self.state.memory_is_lent {
                    self.each_in_text(Point::removal)?;
                }
                self.state.memory_is_lent = true;
                self.link.ask(format!("D;{child:x}").as_bytes())?;
            }
            Some(Event::Done) => self.takes_memory_back()?,
            None => return self.takes_memory_back().map(|()| false),
        }
        let again = self.state.last_resume.clone();
        self.link.send(&again)?;
        // The stub may have taken an interrupt for answered by this stop.
        if self.state.interrupt == Interrupt::Asked {
            self.link.interrupt(self.process)?;
        }
        Ok(true)
    }

    /// Breakpoints are where the debugger believes them to be.
    fn takes_memory_back(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.state.memory_is_lent) {
            self.each_in_text(Point::insertion)?;
        }
        Ok(())
    }

    fn each_in_text(&mut self, packet: impl Fn(&Point) -> Vec<u8>) -> io::Result<()> {
        for point in self.state.facts.points.iter().filter(|point| point.kind == 0) {
            self.link.ask(&packet(point))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_a_child_are_told_from_others() {
        let lldb = b"T13thread:p10.10;name:l;threads:10;reason:vfork;vfork:p1a2b.1a2b;";
        assert_eq!(Event::of(lldb), Some(Event::Began(0x1a2b)));
        assert_eq!(Event::of(b"T05thread:p10.10;00:07;reason:vforkdone;"), Some(Event::Done));
        for other in [&b"T05fork:p1.1;"[..], b"T05thread:p1.1;reason:breakpoint;", b"W00", b"OK", b"T", b""] {
            assert_eq!(Event::of(other), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
