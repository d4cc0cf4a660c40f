//! A whole terminal for a live display: its other screen, keys as they are pressed, and everything as it was before at the end, whoever
//! ends it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossterm::{
    event::{self, Event, KeyEvent, KeyEventKind},
    terminal,
};
use pepo_wire::{Code, Failure};
use tokio::sync::mpsc;

use super::{End, Outcome, ended};

/// The other screen, cleared; no cursor, and no line that goes on below itself (xterm's private modes 1049, 25 and 7).
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[?25l\x1b[?7l";
/// Back.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How often the thread that reads keys looks whether anybody still wants them.
const LOOK: Duration = Duration::from_millis(100);

/// Is the terminal ours?
static ENTERED: AtomicBool = AtomicBool::new(false);

/// What the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A key is pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
}

/// The terminal, until it is dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    input: mpsc::UnboundedReceiver<Input>,
    /// What stands there.
    shown: Vec<String>,
}

impl Screen {
    /// Takes the terminal; nothing where a person does not sit at both its keys and its screen.
    ///
    /// # Errors
    /// [`Code::Internal`]: it does not let itself be taken.
    pub(crate) fn take() -> Result<Option<Screen>, Failure> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let denied = |error: io::Error| {
            Failure::new(Code::Internal, "the terminal cannot be used")
                .because(error)
                .hint("try it with `--once`")
        };
        terminal::enable_raw_mode().map_err(denied)?;
        ENTERED.store(true, Ordering::SeqCst);
        let (sender, input) = mpsc::unbounded_channel();
        let screen = Screen { input, shown: Vec::new() };
        write(ENTER).map_err(denied)?;
        thread::spawn(move || listen(&sender));
        Ok(Some(screen))
    }

    /// What the user does next; nothing when no more can come.
    pub(crate) async fn next(&mut self) -> Option<Input> {
        let next = self.input.recv().await;
        if next == Some(Input::Resized) {
            // Terminals do with old lines what they like.
            self.shown.clear();
        }
        next
    }

    /// Columns and lines.
    pub(crate) fn size() -> (usize, usize) {
        let (columns, lines) = terminal::size().unwrap_or_default();
        match (columns, lines) {
            (0, _) | (_, 0) => (80, 24),
            (columns, lines) => (columns.into(), lines.into()),
        }
    }

    /// Shows these lines, which are no wider than the terminal. Only what has changed is written.
    pub(crate) fn show(&mut self, lines: Vec<String>) -> Outcome {
        if !ENTERED.load(Ordering::SeqCst) {
            // A fault somewhere has given the terminal back, and has been told.
            return Err(End::Panicked);
        }
        let mut text = if self.shown.is_empty() { "\x1b[2J".to_owned() } else { String::new() };
        for (at, line) in lines.iter().enumerate() {
            if self.shown.get(at) != Some(line) {
                text.push_str(&format!("\x1b[{};1H{line}\x1b[K", at + 1));
            }
        }
        if lines.len() < self.shown.len() {
            text.push_str(&format!("\x1b[{};1H\x1b[J", lines.len() + 1));
        }
        self.shown = lines;
        write(&text).map_err(ended)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back as it was, if it was taken.
pub(super) fn leave() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        // Whoever closed it wants nothing back.
        let _ = write(LEAVE);
        let _ = terminal::disable_raw_mode();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Reads until the terminal is given back or gone.
fn listen(sender: &mpsc::UnboundedSender<Input>) {
    while ENTERED.load(Ordering::SeqCst) {
        let read = match event::poll(LOOK) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(_) => return,
        };
        let input = match read {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Input::Key(key),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(_) => return,
        };
        if sender.send(input).is_err() {
            return;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[ignore = "the process that takes the terminal and fails"]
    fn a_process_that_fails_on_its_screen() {
        super::super::tell_panics();
        let mut screen = Screen::take().unwrap().unwrap();
        screen.show(vec!["shown".to_owned()]).unwrap();
        panic!("made to fail");
    }

    #[test]
    fn a_terminal_is_as_it_was_after_a_fault_of_ours() {
        let program = std::env::current_exe().unwrap();
        let name = "render::screen::tests::a_process_that_fails_on_its_screen";
        let line = format!(
            "b=$(stty -g); {} --ignored --exact {name} --nocapture; test \"$b\" = \"$(stty -g)\" && echo as it was",
            program.display()
        );
        let output = pepo_testkit::command("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words:?} in {text}"));
        assert!(place(ENTER) < place("shown") && place("shown") < place(LEAVE), "{text}");
        assert!(place(LEAVE) < place("a fault inside Pepo") && text.contains("made to fail"), "{text}");
        assert!(text.contains("as it was"), "{text}");
    }
}
