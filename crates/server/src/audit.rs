//! What was decided and done: one JSON object a line, never a value of a variable, never a token.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// One line.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Line<'a> {
    /// `link`, `unlink`, `reach`, `refuse`, `end`.
    pub(crate) act: &'a str,
    pub(crate) who: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) target: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) rights: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) why: &'a str,
}

#[derive(Serialize)]
struct Timed<'a> {
    /// Milliseconds since 1970.
    time: u64,
    #[serde(flatten)]
    line: Line<'a>,
}

/// The log; each line is written whole.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Mutex<File>,
    /// Did the last line fail?
    failed: AtomicBool,
}

impl Audit {
    pub(crate) fn open(path: &Path) -> io::Result<Audit> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Audit { file: Mutex::new(file), failed: AtomicBool::new(false) })
    }

    /// Writes a line. What cannot be written down must not be done: the caller refuses then.
    pub(crate) fn write(&self, line: Line<'_>) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut text = serde_json::to_vec(&Timed { time, line })?;
        text.push(b'\n');
        let written = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text);
        self.failed.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Whether the last line could be written.
    pub(crate) fn is_written(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_is_a_line_that_goes_behind_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for who in ["ann", "bob\n{}"] {
            let audit = Audit::open(&path).unwrap();
            audit.write(Line { act: "reach", who, target: "docker/shop@a", ..Line::default() }).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["who"], &lines[1]["who"]), (&"ann".into(), &"bob\n{}".into()));
        assert!(lines[0]["time"].as_u64().unwrap() > 1_600_000_000_000 && lines[0].get("why").is_none());
    }
}
