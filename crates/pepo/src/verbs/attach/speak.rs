//! Between the person, or the script, and the debugger: lines in, sayings out, signals heard, and the target let go on every
//! way out.

use std::{io::IsTerminal as _, sync::Arc};

use pepo_dap::console::{
    Flow,
    group::Group,
    output::{Output, Trouble},
    render::Style,
};
use pepo_wire::{Code, Failure, FailureExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Stdin},
    sync::Notify,
};

use super::prompt::{Above, Prompt, Typed, end_of_input};
use crate::{
    config::Context,
    render::{End, Outcome, Printer},
    signals::{Signal, Signals},
};

/// Prints sayings, and remembers how the session ended and whether anybody still reads.
pub(super) struct Voice {
    printer: Printer,
    /// A script's failure is told once, when the verb ends.
    script: bool,
    /// Where words go while a line is being typed.
    above: Option<Above>,
    /// The end of the session, to be told when the line editor has left the terminal: it drops what comes last.
    end: Option<String>,
    /// The debugger is still being put in place: its own remarks on that are of no use to a person.
    beginning: bool,
    gone: Arc<Notify>,
    is_gone: bool,
    failed: Option<Code>,
}

impl Voice {
    pub(super) fn new(printer: Printer, script: bool) -> Voice {
        Voice {
            printer,
            script,
            above: None,
            end: None,
            beginning: true,
            gone: Arc::default(),
            is_gone: false,
            failed: None,
        }
    }

    /// Says one thing.
    pub(super) fn say(&mut self, saying: &Output) {
        if let Output::Closed { failure: Some(trouble), .. } = saying.bare() {
            self.failed = Some(code(trouble));
        }
        let told = if self.printer.json_wanted() {
            self.printer.json_line(&serde_json::to_value(saying).unwrap_or_default())
        } else {
            match self.text(saying) {
                text if text.is_empty() => Ok(()),
                text if self.above.is_some() && matches!(saying.bare(), Output::Closed { .. }) => {
                    self.end.get_or_insert_default().push_str(&text);
                    Ok(())
                }
                text if self.above.as_ref().is_some_and(|above| above.show(&text)) => Ok(()),
                text => self.printer.data(text.trim_end_matches('\n')),
            }
        };
        self.check(told);
    }

    /// The session goes on: what ended was that of one of several targets.
    fn go_on(&mut self) {
        if let Some(end) = self.end.take()
            && !self.above.as_ref().is_some_and(|above| above.show(&end))
        {
            let told = self.printer.data(end.trim_end_matches('\n'));
            self.check(told);
        }
    }

    /// The line editor has left: what it would have dropped is told.
    fn leave_editor(&mut self) {
        self.above = None;
        if let Some(end) = self.end.take() {
            let told = self.printer.data(end.trim_end_matches('\n'));
            self.check(told);
        }
    }

    fn check(&mut self, told: Outcome) {
        if told.is_err() {
            self.is_gone = true;
            self.gone.notify_one();
        }
    }

    fn text(&self, saying: &Output) -> String {
        let style = Style { colour: self.printer.paint.0 };
        let text = match saying.bare() {
            Output::Program { category, .. } if self.beginning && category == "console" => String::new(),
            // What only some targets could not do ends no script.
            Output::Failed(_) if self.script && !saying.is_of_one_of_several() => String::new(),
            Output::Closed { reason, stood_still_millis, left_behind, failure: Some(_) } if self.script => {
                let (reason, left_behind) = (reason.clone(), left_behind.clone());
                let bare = Output::Closed {
                    reason,
                    stood_still_millis: *stood_still_millis,
                    left_behind,
                    failure: None,
                };
                saying.instead(bare).to_text(style)
            }
            _ => saying.to_text(style),
        };
        clean(&text, style.colour)
    }
}

/// Values, names and output are the target's own and may hold anything: nothing of it steers the terminal but a colour.
fn clean(text: &str, colour: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if colour { colour_change(rest) } else { None }.unwrap_or(c.len_utf8());
        let (part, after) = rest.split_at(length);
        match c {
            c if c.is_control() && length == c.len_utf8() && !matches!(c, '\n' | '\t') => {
                out.push('\u{fffd}')
            }
            _ => out.push_str(part),
        }
        rest = after;
    }
    out
}

/// The length of a change of colour (ECMA-48, SGR) at the beginning of the text.
fn colour_change(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|end| *end <= 8)?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// The code in a saying; one of a newer side's counts as internal.
fn code(trouble: &Trouble) -> Code {
    trouble.code.trim_start_matches('P').parse().ok().and_then(Code::from_number).unwrap_or(Code::Internal)
}

/// Where lines come from.
pub(super) enum Lines {
    /// A person at a terminal.
    Prompt(Box<Prompt>),
    /// A pipe or a file.
    Plain(tokio::io::Lines<BufReader<Stdin>>),
}

impl Lines {
    /// The line editor on a terminal that can draw one.
    pub(super) fn new(context: &Context) -> Result<Lines, Failure> {
        let dumb = context.environment.term.as_deref() == Some("dumb");
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() || dumb {
            return Ok(Lines::Plain(BufReader::new(tokio::io::stdin()).lines()));
        }
        Ok(Lines::Prompt(Box::new(Prompt::start(&context.environment, context.printer.paint.0)?)))
    }

    async fn next(&mut self) -> Typed {
        match self {
            Lines::Prompt(prompt) => prompt.next().await,
            Lines::Plain(lines) => match lines.next_line().await {
                Ok(Some(line)) => Typed::Line(line),
                _ => Typed::End,
            },
        }
    }

    async fn close(&mut self) {
        if let Lines::Prompt(prompt) = self {
            prompt.close().await;
        }
    }
}

/// What comes next.
enum Next {
    Typed(Typed),
    Idle(Flow),
    Signal(Signal),
    Gone,
}

/// How a conversation goes on.
#[derive(PartialEq)]
enum Way {
    On,
    Out,
    Terminated,
}

/// One session in words.
pub(super) struct Speaker {
    console: Group,
    voice: Voice,
    signals: Signals,
    interrupt: Arc<Notify>,
}

impl Speaker {
    pub(super) fn new(console: Group, mut voice: Voice, signals: Signals, interrupt: Arc<Notify>) -> Speaker {
        voice.beginning = false;
        Speaker { console, voice, signals, interrupt }
    }

    /// A script: every command in its order, then lets go. Ctrl-C ends it.
    pub(super) async fn recite(&mut self, commands: &[String]) -> Outcome {
        let gone = Arc::clone(&self.voice.gone);
        let outcome = {
            let voice = &mut self.voice;
            let mut show = |saying: Output| voice.say(&saying);
            tokio::select! {
                outcome = self.console.run_script(commands, &mut show) => outcome.map_err(End::from),
                _ = self.signals.next() => Err(super::interrupted().into()),
                () = gone.notified() => Err(End::OutputClosed),
            }
        };
        self.let_go().await?;
        outcome
    }

    /// A person, or lines from a pipe, until one lets go or the session ends.
    pub(super) async fn converse(&mut self, mut lines: Lines) -> Outcome {
        if let Lines::Prompt(prompt) = &lines {
            self.voice.above = Some(prompt.above());
        }
        let way = loop {
            let way = match self.next(&mut lines).await {
                Next::Typed(Typed::Line(line)) => {
                    self.execute(&line, matches!(lines, Lines::Prompt(_))).await
                }
                Next::Typed(Typed::Interrupt) => self.pause().await,
                Next::Typed(Typed::Complete(line, answer)) => {
                    // The editor may have given up waiting.
                    let _ = answer.send(self.console.complete(&line));
                    Way::On
                }
                Next::Signal(Signal::Interrupt) => self.pause().await,
                Next::Signal(Signal::Terminate) => Way::Terminated,
                Next::Typed(Typed::End) | Next::Idle(Flow::Ended) | Next::Gone => Way::Out,
                Next::Idle(Flow::Stay) => Way::On,
            };
            if way != Way::On {
                break way;
            }
            self.voice.go_on();
        };
        lines.close().await;
        self.voice.leave_editor();
        self.let_go().await?;
        match (way, self.voice.failed) {
            (Way::Terminated, _) => Err(super::interrupted().into()),
            _ if self.voice.is_gone => Err(End::OutputClosed),
            (_, Some(code)) => Err(End::Told(code.exit())),
            _ => Ok(()),
        }
    }

    async fn next(&mut self, lines: &mut Lines) -> Next {
        let gone = Arc::clone(&self.voice.gone);
        let voice = &mut self.voice;
        let mut show = |saying: Output| voice.say(&saying);
        tokio::select! {
            biased;
            signal = self.signals.next() => Next::Signal(signal),
            () = gone.notified() => Next::Gone,
            typed = lines.next() => Next::Typed(typed),
            flow = self.console.idle(&mut show) => Next::Idle(flow),
        }
    }

    /// Carries out a line; Ctrl-C meanwhile pauses the target, and at a `prompt` Ctrl-D lets it go.
    async fn execute(&mut self, line: &str, prompt: bool) -> Way {
        let result = {
            let voice = &mut self.voice;
            let mut show = |saying: Output| voice.say(&saying);
            let execution = self.console.execute(line, &mut show);
            tokio::pin!(execution);
            loop {
                tokio::select! {
                    result = &mut execution => break result,
                    signal = self.signals.next() => match signal {
                        Signal::Interrupt => self.interrupt.notify_one(),
                        Signal::Terminate => return Way::Terminated,
                    },
                    () = end_of_input(), if prompt => return Way::Out,
                }
            }
        };
        match result {
            Ok(Flow::Ended) => Way::Out,
            Ok(Flow::Stay) => Way::On,
            Err(failure) => {
                self.tell(&failure);
                Way::On
            }
        }
    }

    async fn pause(&mut self) -> Way {
        self.execute("pause", false).await
    }

    /// A line that could not be carried out, beside the data.
    fn tell(&mut self, failure: &Failure) {
        if self.voice.printer.json_wanted() {
            self.voice.say(&Output::Failed(Trouble::from(failure)));
        } else {
            self.voice.printer.error(failure);
        }
    }

    /// Lets the target go and says how long it stood still, unless that is done already.
    async fn let_go(&mut self) -> Result<(), Failure> {
        if self.console.over() {
            return Ok(());
        }
        let voice = &mut self.voice;
        let mut show = |saying: Output| voice.say(&saying);
        self.console.detach(&mut show).await.map_err(|error| error.failure())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_steers_no_terminal() {
        for (text, colour, expected) in [
            ("a\tb\n", true, "a\tb\n"),
            ("\x1b[31mred\x1b[0m", true, "\x1b[31mred\x1b[0m"),
            ("\x1b[31mred", false, "\u{fffd}[31mred"),
            ("\x1b[2J\x1b]0;title\x07", true, "\u{fffd}[2J\u{fffd}]0;title\u{fffd}"),
            ("\x1b[999999999m", true, "\u{fffd}[999999999m"),
            ("\x1b[", true, "\u{fffd}["),
            ("\r\u{9b}2J\u{1f383}", true, "\u{fffd}\u{fffd}2J\u{1f383}"),
        ] {
            assert_eq!(clean(text, colour), expected, "{text:?}");
        }
    }
}
