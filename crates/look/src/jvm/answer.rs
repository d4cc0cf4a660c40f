//! An answer of the JVM, read line by line with a bound on each and on all.

use std::{
    io::{self, Read as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Most bytes of an answer: the threads of a large server are a few.
const MOST: usize = 64 << 20;
/// Most bytes of a line; what is longer is cut.
const LINE: usize = 16 << 10;

/// What the JVM says.
pub(super) struct Answer<'a> {
    stream: &'a UnixStream,
    end: Instant,
    /// What has come and was not handed on yet.
    held: Vec<u8>,
    at: usize,
    total: usize,
}

impl Answer<'_> {
    /// To be read until then.
    pub(super) fn new(stream: &UnixStream, end: Instant) -> Answer<'_> {
        Answer { stream, end, held: Vec::new(), at: 0, total: 0 }
    }

    /// The next line, without its end; nothing at the end of all.
    ///
    /// # Errors
    /// The JVM was silent for too long, says too much, or the connection was lost.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let rest = &self.held[self.at..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            line.extend_from_slice(&part[..part.len().min(LINE - line.len())]);
            match end {
                Some(end) => {
                    self.at += end + 1;
                    return Ok(Some(line));
                }
                None if self.fill()? == 0 => return Ok((!line.is_empty()).then_some(line)),
                None => {}
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.held.resize(LINE, 0);
        self.at = 0;
        let read = self.read();
        let count = *read.as_ref().unwrap_or(&0);
        self.held.truncate(count);
        self.total += count;
        if self.total > MOST {
            return Err(io::Error::other(format!("it says more than {} MiB", MOST >> 20)));
        }
        read
    }

    fn read(&mut self) -> io::Result<usize> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut self.held) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was said before the other side hung up stands.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                Ok(count) => {
                    if Instant::now() > self.end {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    return Ok(count);
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn lines_come_one_by_one_and_long_ones_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let long = vec![b'x'; 3 * LINE];
        let writer = std::thread::spawn(move || {
            theirs.write_all(b"0\n\none\n").unwrap();
            theirs.write_all(&long).unwrap();
            theirs.write_all(b"\nthe last").unwrap();
        });
        let mut answer = Answer::new(&ours, soon());
        let lines: Vec<Vec<u8>> = std::iter::from_fn(|| answer.line().unwrap()).collect();
        assert_eq!(lines, [b"0".to_vec(), vec![], b"one".to_vec(), vec![b'x'; LINE], b"the last".to_vec()]);
        writer.join().unwrap();
    }

    #[test]
    fn who_is_silent_or_never_ends_is_left() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let silent = Answer::new(&ours, Instant::now() + Duration::from_millis(20)).line();
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let writer = std::thread::spawn(move || while theirs.write_all(&[b'x'; 1 << 16]).is_ok() {});
        assert!(Answer::new(&ours, soon()).line().unwrap_err().to_string().contains("MiB"));
        drop(ours);
        writer.join().unwrap();
    }
}
