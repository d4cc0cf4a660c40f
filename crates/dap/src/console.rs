//! The debugger in the terminal: the same words for every language, with or without a TTY.
//!
//! It has no task of its own. Whoever shows it makes a [`Group`](group::Group) of it, calls `execute` for each line and `idle` while no
//! line is there; what is said comes out as [`Output`] values through the given `show`.

/// Several targets.
pub mod group;
/// Frames, variables, values.
pub mod inspect;
/// Going on, and what comes of it.
pub mod motion;
/// What is said, as data.
pub mod output;
/// A line, read.
pub mod parse;
/// Breakpoints and watches, and how they are told to the adapter.
pub mod points;
/// What is said, as text.
pub mod render;
/// Source lines.
pub mod sources;
/// The words.
pub mod words;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pepo_wire::{
    Failure, FailureExt as _,
    agent::{Closed, Opened},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::{
    inspect::Selection,
    output::{Attached, Output, Session, SourcePair, TargetRow, Trouble},
    parse::{Command, Topic},
    points::Points,
    render::Style,
    sources::Texts,
};
use crate::{
    error::DapError,
    link::Link,
    session::{Debuggee, Quirks},
    source_map::SourceMap,
};

/// Where what is said goes.
pub type Show<'a> = &'a mut (dyn FnMut(Output) + Send);

/// Reads files of the target's, for sources that are nowhere else.
#[async_trait]
pub trait Files: Send + Sync {
    /// The content of the file at `path`, as the target sees it.
    ///
    /// # Errors
    /// As the agent says.
    async fn read(&self, path: &str) -> Result<Vec<u8>, Failure>;
}

/// What a console is made with.
#[derive(Default)]
pub struct ConsoleOptions {
    /// As the user named the target.
    pub target: String,
    /// Paths here and there.
    pub source_map: SourceMap,
    /// Files of the target's; none when its files are this machine's own.
    pub files: Option<Arc<dyn Files>>,
    /// Stand still once attached?
    pub stop_on_entry: bool,
    /// How long `continue` and the like wait for the next stop; none: until it comes.
    pub wait: Option<Duration>,
    /// Notified by Ctrl-C.
    pub interrupt: Arc<Notify>,
    /// The user has the right `raw`.
    pub raw: bool,
    /// All lines are known beforehand: more breakpoints may follow the first.
    pub scripted: bool,
}

/// Does the session go on after a line?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Stay,
    /// It is over.
    Ended,
}

/// A debugger on one target, spoken to in words.
pub struct Console {
    debuggee: Debuggee,
    quirks: Quirks,
    attached: Attached,
    session: String,
    source_map: SourceMap,
    texts: Texts,
    points: Points,
    selection: Selection,
    wait: Option<Duration>,
    interrupt: Arc<Notify>,
    raw: bool,
    scripted: bool,
    /// It was said that calls may come.
    calls_may_come: bool,
    last: Option<Command>,
    /// `list` again: further down.
    listing: bool,
    /// A stop that was not shown yet.
    unshown_stop: bool,
    /// Temporary breakpoints that were met and are still set.
    leaving: Vec<u32>,
    exit_code: Option<i64>,
    stood_still_millis: u64,
    pause_told: u64,
    over: bool,
}

impl Console {
    /// Takes a session that was opened and brings it to where words can be said.
    ///
    /// # Errors
    /// What the adapter or the agent says.
    pub async fn start(
        link: Box<dyn Link>,
        opened: &Opened,
        options: ConsoleOptions,
        show: Show<'_>,
    ) -> Result<Console, Failure> {
        let mut debuggee = Debuggee::new(crate::paced::paced(link, opened)).on(&options.target);
        let quirks = Quirks::of(opened);
        // A person says when what is held goes on.
        if let Err(error) = debuggee.begin(opened, options.stop_on_entry || quirks.held).await {
            // The target is let go whatever went wrong; the first reason is the one to tell.
            let _ = debuggee.detach().await;
            return Err(error.failure());
        }
        let mut console = Console {
            quirks,
            attached: attached(opened, options.target),
            session: opened.session.clone(),
            source_map: options.source_map,
            texts: Texts::new(options.files),
            points: Points::default(),
            selection: Selection::default(),
            wait: options.wait,
            interrupt: options.interrupt,
            raw: options.raw,
            scripted: options.scripted,
            calls_may_come: false,
            last: None,
            listing: false,
            unshown_stop: false,
            leaving: Vec::new(),
            exit_code: None,
            stood_still_millis: 0,
            pause_told: 0,
            over: false,
            debuggee,
        };
        console.source_map.know(opened.sources.iter().map(String::as_str));
        console.learn_sources().await;
        show(Output::Attached(console.attached.clone()));
        if quirks.held {
            let counts =
                if opened.pause_budget_millis == 0 { "" } else { "; the pause budget counts from then on" };
            let text = format!("it was held at its start, and goes on by `continue`{counts}");
            show(Output::Notice { text });
        }
        console.drain(show).await;
        console.show_stop(show).await;
        Ok(console)
    }

    /// Asks the adapter which sources are loaded, where it can say. Not where parts of paths are enough: gdb would read the
    /// debug information of all libraries for it.
    async fn learn_sources(&mut self) {
        if !self.quirks.paths_by_suffix
            && self.debuggee.offers("loadedSources")
            && let Ok(body) = self.debuggee.request("loadedSources", Value::Null).await
        {
            let sources: Vec<crate::views::Source> = crate::views::items(&body, "sources");
            self.source_map.know(sources.iter().filter_map(|source| source.path.as_deref()));
        }
    }

    /// Waits for something to happen while no line is there, and says it. Loses nothing when dropped half-way.
    async fn idle(&mut self, show: Show<'_>) -> Flow {
        if self.over {
            return Flow::Ended;
        }
        if self.unshown_stop || !self.leaving.is_empty() {
            self.show_stop(show).await;
        } else if let Some(happening) = self.debuggee.next().await {
            self.take(happening, show);
        } else {
            self.over = true;
        }
        if self.over { Flow::Ended } else { Flow::Stay }
    }

    /// Says, once, that calls which are held for this debugger may come: what they are to meet is set.
    async fn let_calls_come(&mut self) -> Result<(), DapError> {
        if self.calls_may_come {
            return Ok(());
        }
        self.calls_may_come = true;
        self.debuggee.ready().await
    }

    /// Lets the target go. Fails when the agent's last word does not come.
    async fn detach(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        if !self.over {
            self.debuggee.detach().await?;
            self.drain(show).await;
            self.over = true;
        }
        Ok(Flow::Ended)
    }

    async fn carry_out(&mut self, command: Command, show: Show<'_>) -> Result<Flow, DapError> {
        self.drain(show).await;
        if self.over {
            // Whoever waits for the next stop or the end has it.
            let reason = self.debuggee.closed().map(|closed| closed.reason.clone()).unwrap_or_default();
            return if command == Command::Continue {
                Ok(Flow::Ended)
            } else {
                Err(DapError::Over { reason })
            };
        }
        let command = match (command, &self.last) {
            (Command::Empty, Some(last)) => last.clone(),
            (Command::Empty, None) => return Ok(Flow::Stay),
            (command, _) => command,
        };
        let repeats = matches!(
            command,
            Command::Continue | Command::Move(..) | Command::List(None) | Command::Climb(_)
        );
        self.listing = command == Command::List(None) && self.last == Some(Command::List(None));
        self.last = repeats.then(|| command.clone());
        if command != Command::Continue {
            self.show_stop(show).await;
        }
        match command {
            Command::Detach => self.detach(show).await,
            Command::Continue => self.go_on(show).await,
            Command::Move(request, times) => self.step(request, times, show).await,
            Command::Until(location) => self.until(location, show).await,
            Command::Pause => self.pause(show).await,
            other => self.look(other, show).await.map(|()| Flow::Stay),
        }
    }

    /// The words after which the target is where it was.
    async fn look(&mut self, command: Command, show: Show<'_>) -> Result<(), DapError> {
        match command {
            Command::Break(wish) => self.add_point(wish, show).await,
            Command::Watch { expression, data } => self.add_watch(expression, data, show).await,
            Command::Delete(numbers) => self.delete_points(&numbers, show).await,
            Command::Rearm => self.rearm(show).await,
            Command::Threads | Command::Info(Topic::Threads) => self.threads(show).await,
            Command::Thread(id) => self.choose_thread(id, show).await,
            Command::Backtrace(count) => self.backtrace(count, show).await,
            Command::Climb(by) => self.climb(by, show).await,
            Command::Frame(number) => self.choose_frame(number, show).await,
            Command::Locals => self.locals(show).await,
            Command::Print(expression) => self.print(&expression, show).await,
            Command::Set { name, value } => self.set(&name, &value, show).await,
            Command::List(location) => self.list(location, show).await,
            Command::Info(topic) => {
                show(self.info(topic));
                Ok(())
            }
            Command::Raw(text) => self.raw(&text, show).await,
            Command::Targets => {
                let target = self.attached.target.clone();
                let row = TargetRow { number: 1, target, state: self.state(), current: true };
                show(Output::Targets { targets: vec![row] });
                Ok(())
            }
            Command::Target(_) => Err(DapError::word(
                "this session has one target",
                "`pepo attach --all` opens one with several",
            )),
            Command::Help(word) => {
                show(Output::Text { text: words::help(word) });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn info(&self, topic: Topic) -> Output {
        match topic {
            Topic::Breakpoints | Topic::Threads => Output::Breakpoints { points: self.points.all() },
            Topic::Sources => {
                let pair = |(remote, local)| SourcePair { remote, local };
                Output::Sources { pairs: self.source_map.pairs().into_iter().map(pair).collect() }
            }
            Topic::Session => Output::Session(Session {
                attached: self.attached.clone(),
                session: self.session.clone(),
                standing: self.debuggee.stopped().is_some(),
                stood_still_millis: self.stood_still_millis,
                abilities: abilities(self.debuggee.capabilities()),
            }),
        }
    }

    fn state(&self) -> &'static str {
        match (self.over, self.debuggee.stopped().is_some()) {
            (true, _) => "over",
            (false, true) => "stands still",
            (false, false) => "running",
        }
    }

    fn last_was_list(&self) -> bool {
        self.listing
    }

    /// A command of the debugger's own language.
    async fn raw(&mut self, text: &str, show: Show<'_>) -> Result<(), DapError> {
        if !self.raw {
            let words = "the debugger's own commands run with all its rights".to_owned();
            return Err(DapError::Word {
                what: format!("`raw` was not asked for: {words}"),
                hint: "open the session with --raw".into(),
            });
        }
        let mut arguments = json!({"expression": text, "context": "repl"});
        if let Some(frame) = self.selection.frame_id() {
            arguments["frameId"] = frame.into();
        }
        let body = self.debuggee.request_calling("evaluate", arguments).await?;
        let said = crate::views::view::<crate::views::Evaluated>(&body).result.unwrap_or_default();
        show(Output::Text { text: said });
        Ok(())
    }

    /// What could stand at the end of `line`, for completion: whole lines.
    #[must_use]
    fn complete(&self, line: &str) -> Vec<String> {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !line.contains(' ') {
            return words::WORDS
                .iter()
                .map(|word| word.word)
                .filter(|word| word.starts_with(head))
                .map(str::to_owned)
                .collect();
        }
        let rest = rest.trim_start();
        let options: Vec<String> = match words::find(head).map(|word| word.name) {
            Some(words::Name::Info) => parse::TOPICS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Some(words::Name::Help) => words::WORDS.iter().map(|word| word.word.to_owned()).collect(),
            Some(words::Name::Print | words::Name::Set | words::Name::Watch) => {
                self.selection.names().to_vec()
            }
            Some(
                words::Name::Break | words::Name::TemporaryBreak | words::Name::Until | words::Name::List,
            ) => self.source_map.known_names(rest, 50),
            _ => Vec::new(),
        };
        options
            .into_iter()
            .filter(|option| option.starts_with(rest))
            .map(|option| format!("{head} {option}"))
            .collect()
    }
}

/// What the debugger can do, but for ending or restarting a target, which is never done from here.
fn abilities(capabilities: &crate::views::Capabilities) -> Vec<String> {
    let ends = |name: &&str| name.contains("erminate") || name.contains("Restart");
    capabilities.names().into_iter().filter(|name| !ends(name)).map(str::to_owned).collect()
}

pub(crate) fn attached(opened: &Opened, target: String) -> Attached {
    Attached {
        target,
        debugger: format!("{} {}", opened.debugger, opened.debugger_version).trim_end().to_owned(),
        guard: opened.guard.clone(),
        stood_still_micros: opened.stood_still_micros,
        pause_budget_millis: opened.pause_budget_millis,
        budget_source: opened.budget_source.clone(),
        warnings: opened.warnings.iter().map(Trouble::from).collect(),
    }
}

/// The agent's last word as it is said.
pub(crate) fn closed(closed: &Closed) -> Output {
    Output::Closed {
        reason: closed.reason.clone(),
        stood_still_millis: closed.stood_still_millis,
        left_behind: closed.left_behind.clone(),
        failure: closed.failure.as_ref().map(Trouble::from),
    }
}

/// A saying as text without colour, for whoever has no style of his own.
#[must_use]
pub fn plain(output: &Output) -> String {
    output.to_text(Style::default())
}
