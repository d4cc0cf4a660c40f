//! A terminal for the command: a pseudo-terminal (pty(7)), what was written to it, and what is typed.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use pepo_testkit::wait;
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process, kill_process_group},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::support::Surroundings;

/// How long words may take to come, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A command on a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// How it was before the command.
    modes: String,
}

impl Terminal {
    /// Starts a command that has the terminal for its three streams.
    pub(crate) fn run(surroundings: &Surroundings, arguments: &[&str]) -> Terminal {
        Terminal::of(surroundings.command(arguments), 200)
    }

    /// The same for any command, on a terminal of so many columns.
    pub(crate) fn of(mut command: Command, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = || -> OwnedFd {
            open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let modes = modes(&master);
        command.stdin(slave()).stdout(slave()).stderr(slave()).process_group(0);
        let child = command.spawn().unwrap();
        // With the command's own ends gone, the last writer is the child.
        drop(command);
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut screen = File::from(master);
        let mut keyboard = screen.try_clone().unwrap();
        let noted = Arc::clone(&said);
        let mut answers = keyboard.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut portion = [0; 4096];
            // Linux says EIO, not the end, once the last writer has gone.
            while let Ok(count @ 1..) = screen.read(&mut portion) {
                // The line editor asks where the cursor is (ECMA-48, DSR) and waits for the answer, as a terminal gives it.
                if portion[..count].windows(4).any(|four| four == b"\x1b[6n") {
                    let _ = answers.write_all(b"\x1b[1;1R");
                }
                noted.lock().unwrap().extend_from_slice(&portion[..count]);
            }
        });
        keyboard.flush().unwrap();
        Terminal { child, keyboard, said, reader: Some(reader), modes }
    }

    /// Types.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Sends SIGINT to the command and all it has started in its process group, as a terminal does for Ctrl-C unless it is read raw.
    pub(crate) fn interrupts(&self) {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Sends another signal to the command itself.
    pub(crate) fn is_sent(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Has another size from now on.
    pub(crate) fn becomes(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.keyboard, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        // No terminal that controls the command: nobody tells it but this.
        self.is_sent(Signal::WINCH);
    }

    /// Does it treat what is typed and written as it did before the command?
    pub(crate) fn is_as_it_was(&self) -> bool {
        modes(&self.keyboard) == self.modes
    }

    /// The lines that a person sees, of a display that moves about: of ECMA-48 what such a display writes.
    pub(crate) fn screen(&self) -> Vec<String> {
        screen(&self.said())
    }

    /// All that was written so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Waits until some words have come, as often as asked.
    #[track_caller]
    pub(crate) fn waits_for(&self, words: &str, times: usize) {
        let seen = wait::try_until(LIMIT, || match self.said() {
            said if said.matches(words).count() >= times => Ok(()),
            said => Err(said),
        });
        if let Err(said) = seen {
            panic!("no {words:?} ({times} times) on the terminal, but:\n{said}");
        }
    }

    /// Waits until a line is asked for again after these words: what is typed before may be lost, or end a word instead of the session.
    #[track_caller]
    pub(crate) fn asks_again_after(&self, words: &str) {
        let seen = wait::try_until(LIMIT, || match self.said() {
            said if said.rsplit_once(words).is_some_and(|(_, after)| after.contains("(pepo)")) => Ok(()),
            said => Err(said),
        });
        if let Err(said) = seen {
            panic!("no prompt after {words:?} on the terminal, but:\n{said}");
        }
    }

    /// The command's status, if it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Waits for the command's end and gives its status. What it wrote last is read by then, unless something else keeps the terminal.
    #[track_caller]
    pub(crate) fn status(&mut self) -> Option<i32> {
        let ended = wait::try_until(LIMIT, || self.child.try_wait().unwrap().ok_or(()));
        let status = ended.unwrap_or_else(|()| panic!("the command does not end:\n{}", self.said()));
        let is_read = || self.reader.as_ref().is_none_or(JoinHandle::is_finished);
        let _ = wait::try_until(Duration::from_secs(1), || is_read().then_some(()).ok_or(()));
        status.code()
    }

    /// Waits for the command's end and gives all that was written.
    pub(crate) fn said_in_all(mut self) -> String {
        self.status();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.said()
    }
}

/// How a terminal treats what is typed and written (termios(3)).
fn modes(terminal: impl AsFd) -> String {
    let modes = tcgetattr(terminal).unwrap();
    format!("{:?} {:?} {:?}", modes.input_modes, modes.output_modes, modes.local_modes)
}

fn screen(said: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = Vec::new();
    let (mut row, mut column) = (0, 0);
    let mut rest = said.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                let mut numbers = String::new();
                let ends = |c: &char| c.is_ascii_alphabetic();
                let what = rest.by_ref().skip(1).inspect(|c| numbers.push(*c)).find(ends);
                numbers.pop();
                match what {
                    Some('H') => {
                        let mut at = numbers.split(';').map(|number| number.parse().unwrap_or(1) - 1);
                        (row, column) = (at.next().unwrap(), at.next().unwrap_or(0));
                    }
                    Some('K') => lines.get_mut(row).into_iter().for_each(|line| line.truncate(column)),
                    Some('J') if numbers == "2" => lines.clear(),
                    Some('J') => lines.truncate(row),
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c => {
                lines.resize(lines.len().max(row + 1), Vec::new());
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
