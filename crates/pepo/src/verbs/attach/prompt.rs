//! The line editor of `pepo attach`: history, completion, and words that come while a line is being typed.
//!
//! One thread, because the editor blocks: it waits to be asked, edits one line, sends [`Typed`], waits again. It ends when
//! the [`Prompt`] is dropped. What is printed meanwhile goes through the editor, which keeps the line below it.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    time::Duration,
};

use pepo_wire::{Code, Failure};
use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, ExternalPrinter, FileBackedHistory, KeyCode,
    KeyModifiers, MenuBuilder as _, PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, Span, Suggestion, default_emacs_keybindings,
};
use tokio::sync::mpsc;

use crate::environment::Environment;

/// Lines kept in the history.
const HISTORY: usize = 1_000;
/// Sayings on their way to the editor.
const WORDS: usize = 256;
/// How long a completion may take.
const COMPLETING: Duration = Duration::from_millis(500);

/// How often it is looked whether the input has ended while no line is being edited.
#[cfg(unix)]
const GLANCE: Duration = Duration::from_millis(100);

/// What the person did.
#[derive(Debug)]
pub(super) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
    /// Tab: what could stand here? Answered with whole lines.
    Complete(String, blocking::Sender<Vec<String>>),
}

/// The editor, from outside its thread.
pub(super) struct Prompt {
    ask: blocking::Sender<()>,
    typed: mpsc::UnboundedReceiver<Typed>,
    words: blocking::SyncSender<String>,
    stop: Arc<AtomicBool>,
    /// A line is being edited.
    open: Arc<AtomicBool>,
}

/// Shows words above the line that is being edited.
#[derive(Clone)]
pub(super) struct Above {
    words: blocking::SyncSender<String>,
    open: Arc<AtomicBool>,
}

impl Above {
    /// False when no line is being edited: then the terminal is free.
    pub(super) fn show(&self, text: &str) -> bool {
        self.open.load(Ordering::Relaxed) && self.words.try_send(text.to_owned()).is_ok()
    }
}

impl Prompt {
    /// Starts the editor.
    ///
    /// # Errors
    /// [`Code::Internal`] when no thread can be started.
    pub(super) fn start(environment: &Environment, colour: bool) -> Result<Prompt, Failure> {
        let (ask, asked) = blocking::channel();
        let (typing, typed) = mpsc::unbounded_channel();
        let printer = ExternalPrinter::new(WORDS);
        let words = printer.sender();
        let stop = Arc::new(AtomicBool::new(false));
        let editor =
            Editor { history: history_file(environment), printer, stop: Arc::clone(&stop), colour, typing };
        std::thread::Builder::new().name("prompt".into()).spawn(move || editor.run(&asked)).map_err(
            |error| Failure::new(Code::Internal, "the line editor could not be started").because(error),
        )?;
        Ok(Prompt { ask, typed, words, stop, open: Arc::default() })
    }

    /// What the person does next; opens a line when none is open. Loses nothing when dropped half-way.
    pub(super) async fn next(&mut self) -> Typed {
        if !self.open.load(Ordering::Relaxed) {
            self.open.store(self.ask.send(()).is_ok(), Ordering::Relaxed);
        }
        self.typed().await
    }

    /// Where words go while a line is being edited.
    pub(super) fn above(&self) -> Above {
        Above { words: self.words.clone(), open: Arc::clone(&self.open) }
    }

    async fn typed(&mut self) -> Typed {
        let typed = self.typed.recv().await.unwrap_or(Typed::End);
        self.open.store(matches!(typed, Typed::Complete(..)), Ordering::Relaxed);
        typed
    }

    /// Gives the terminal back as it was: the editor leaves its line.
    pub(super) async fn close(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.open.load(Ordering::Relaxed) {
            self.typed().await;
        }
    }
}

/// Waits for Ctrl-D while no line is being edited: the terminal then keeps it as an end of input with nothing before it
/// (termios(3), VEOF), which is taken from it, lest it end the shell behind us.
#[cfg(unix)]
pub(super) async fn end_of_input() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let input = std::io::stdin();
    let mut ticks = tokio::time::interval(GLANCE);
    loop {
        ticks.tick().await;
        let mut wanted = [PollFd::new(&input, PollFlags::IN)];
        let ready = poll(&mut wanted, Some(&Timespec::default())).is_ok_and(|count| count > 0);
        // Lines that were typed ahead are left to the editor.
        if ready && rustix::io::ioctl_fionread(&input).is_ok_and(|bytes| bytes == 0) {
            let _ = rustix::io::read(&input, &mut [0_u8; 1]);
            return;
        }
    }
}

/// Elsewhere only the line editor reads keys.
#[cfg(not(unix))]
pub(super) async fn end_of_input() {
    std::future::pending().await
}

/// Where lines are kept from one session to the next.
fn history_file(environment: &Environment) -> Option<PathBuf> {
    Some(environment.state_folder()?.join("history"))
}

/// The editor, inside its thread.
struct Editor {
    history: Option<PathBuf>,
    printer: ExternalPrinter<String>,
    stop: Arc<AtomicBool>,
    colour: bool,
    typing: mpsc::UnboundedSender<Typed>,
}

impl Editor {
    fn run(self, asked: &blocking::Receiver<()>) {
        let typing = self.typing.clone();
        let mut line = self.line();
        while asked.recv().is_ok() {
            let typed = match line.read_line(&Pepo) {
                Ok(Signal::Success(text)) => {
                    // At the end nobody waits for this thread. Without a place for it, the history is that of this session.
                    let _ = line.sync_history();
                    Typed::Line(text)
                }
                Ok(Signal::CtrlC) => Typed::Interrupt,
                _ => Typed::End,
            };
            if typing.send(typed).is_err() {
                return;
            }
        }
    }

    fn line(self) -> Reedline {
        let completer = Words { typing: self.typing };
        let menu = ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name("words")));
        let mut keys = default_emacs_keybindings();
        let tab = vec![ReedlineEvent::Menu("words".into()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(tab));
        let mut line = Reedline::create()
            .with_ansi_colors(self.colour)
            .with_external_printer(self.printer)
            .with_break_signal(self.stop)
            .with_completer(Box::new(completer))
            .with_menu(menu)
            .with_edit_mode(Box::new(Emacs::new(keys)));
        // Without a place for it, the history is that of this session.
        if let Some(history) = self.history.and_then(|file| FileBackedHistory::with_file(HISTORY, file).ok())
        {
            line = line.with_history(Box::new(history));
        }
        line
    }
}

/// Completion, asked of whoever drives the debugger.
struct Words {
    typing: mpsc::UnboundedSender<Typed>,
}

impl Completer for Words {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let (answer, answered) = blocking::channel();
        let begun = line.get(..pos).unwrap_or(line);
        // The editor is being closed: there is nobody to ask.
        let _ = self.typing.send(Typed::Complete(begun.to_owned(), answer));
        let lines = answered.recv_timeout(COMPLETING).unwrap_or_default();
        let suggestion = |value: String| Suggestion {
            value,
            span: Span::new(0, pos),
            append_whitespace: false,
            ..Suggestion::default()
        };
        CompletionResult::fresh(lines.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// `(pepo) `.
struct Pepo;

impl reedline::Prompt for Pepo {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("(pepo) ")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(history: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_lies_in_the_state_folder() {
        let environment = |state: Option<&str>, home: Option<&str>| Environment {
            state_home: state.map(str::to_owned),
            home: home.map(str::to_owned),
            ..Environment::default()
        };
        for (state, home, expected) in [
            (Some("/s"), Some("/h"), Some("/s/pepo/history")),
            (None, Some("/h"), Some("/h/.local/state/pepo/history")),
            (None, None, None),
        ] {
            assert_eq!(history_file(&environment(state, home)), expected.map(PathBuf::from));
        }
    }
}
