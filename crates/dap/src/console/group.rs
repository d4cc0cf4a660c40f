//! Several targets in one session: a breakpoint is set in each, any of them may stop, and other words mean the one that is looked
//! at. As a [`Console`] it has no task of its own; with one target from the beginning it is nothing but its console.

use futures::future::{join, join_all, select_all};

use super::{
    Console, Flow, Show,
    output::{Output, Said, TargetRow, Trouble},
    parse::{Command, Location, Wish, parse},
    words,
};
use crate::error::DapError;
use pepo_wire::{Failure, FailureExt as _, agent::Closed};

/// What the targets of a group do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// All are kept; any of them may stop.
    All,
    /// The first that stops is kept; the others are let go then.
    First,
}

/// One target.
struct Member {
    name: String,
    console: Console,
}

/// What one target said to a word, and how it went.
struct Answer {
    name: String,
    said: Vec<Output>,
    result: Result<Flow, DapError>,
}

/// Targets that are spoken to together.
pub struct Group {
    members: Vec<Member>,
    /// Its answers name its targets.
    several: bool,
    together: Together,
    /// The one that is looked at.
    focus: usize,
    /// Not kept: they are being let go.
    leaving: Vec<Member>,
    /// The last word was `continue`, which an empty line repeats.
    went_on: bool,
}

impl From<Console> for Group {
    fn from(console: Console) -> Group {
        Group { several: false, ..Group::new(vec![console], Together::All) }
    }
}

impl Group {
    /// A group of these, at least one.
    #[must_use]
    pub fn new(consoles: Vec<Console>, together: Together) -> Group {
        let member = |console: Console| Member { name: console.attached.target.clone(), console };
        Group {
            members: consoles.into_iter().map(member).collect(),
            several: true,
            together,
            focus: 0,
            leaving: Vec::new(),
            went_on: false,
        }
    }

    /// Is every session over?
    #[must_use]
    pub fn over(&self) -> bool {
        self.members.iter().all(|member| member.console.over)
    }

    /// What could stand at the end of `line`, for completion: whole lines.
    #[must_use]
    pub fn complete(&self, line: &str) -> Vec<String> {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        if line.contains(' ') && words::find(head).is_some_and(|word| word.name == words::Name::Target) {
            let names = self.members.iter().map(|member| &member.name);
            return names
                .filter(|name| name.starts_with(rest.trim_start()))
                .map(|name| format!("{head} {name}"))
                .collect();
        }
        self.members[self.focus].console.complete(line)
    }

    /// Carries out one line.
    ///
    /// # Errors
    /// Why no target could carry it out; the session goes on unless [`Group::over`] says otherwise.
    pub async fn execute(&mut self, line: &str, show: Show<'_>) -> Result<Flow, Failure> {
        let result = self.read_and_carry_out(line, show).await;
        if self.over() {
            return Ok(Flow::Ended);
        }
        result.map_err(|error| error.failure())
    }

    /// Waits for something to happen while no line is there, and says it. Loses nothing when dropped half-way.
    pub async fn idle(&mut self, show: Show<'_>) -> Flow {
        if !self.several {
            return self.members[0].console.idle(show).await;
        }
        if !self.leaving.is_empty() {
            self.let_the_others_go(show).await;
        } else if self.members.iter().any(Member::has_news) {
            self.meet(show).await;
        } else if !self.over() {
            self.happens(show).await;
        }
        if self.over() { Flow::Ended } else { Flow::Stay }
    }

    /// Carries out lines without a person: each waits for its natural end, the first that no target could carry out ends it, and the
    /// targets are let go at the end in any case.
    ///
    /// # Errors
    /// Why a line could not be carried out; also when the session was over before all of them were.
    pub async fn run_script(&mut self, lines: &[String], show: Show<'_>) -> Result<(), Failure> {
        let mut rest = lines;
        while let Some((line, after)) = rest.split_first() {
            show(Output::Command { line: line.clone() });
            let result = self.read_and_carry_out(line, show).await;
            if result.is_err() && !self.several {
                // Why it failed may be on its way.
                self.members[0].console.drain(show).await;
            }
            if self.over() {
                return self.ending(if result.is_ok() { after } else { rest }, show);
            }
            if let Err(error) = result {
                let failure = error.failure();
                show(Output::Failed(Trouble::from(&failure)));
                // The line's own failure is the one to tell.
                let _ = self.detach(show).await;
                return Err(failure);
            }
            rest = after;
        }
        self.detach(show).await.map_err(|error| error.failure())?;
        self.ending(rest, show)
    }

    /// How the session of the target that is looked at ended, when these lines of a script were still to come.
    fn ending(&self, rest: &[String], show: Show<'_>) -> Result<(), Failure> {
        let closed = self.members[self.focus].console.debuggee.closed();
        if let Some(Closed { failure: Some(failure), .. }) = closed {
            return Err(failure.clone());
        }
        // Letting go of what is gone is done.
        let asks = |line: &&String| !matches!(parse(line), Ok(Command::Detach | Command::Empty));
        let lines: Vec<String> = rest.iter().filter(asks).cloned().collect();
        if lines.is_empty() {
            return Ok(());
        }
        let reason = closed.map_or_else(|| "its stream ended".to_owned(), |closed| closed.reason.clone());
        let failure = DapError::NotReached { reason, lines }.failure();
        show(Output::Failed(Trouble::from(&failure)));
        Err(failure)
    }

    /// Lets all targets go, whatever becomes of one of them.
    ///
    /// # Errors
    /// When the last word of one does not come.
    pub async fn detach(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        if !self.several {
            return self.members[0].console.detach(show).await;
        }
        let all = self.members.iter_mut().chain(&mut self.leaving).filter(|member| !member.console.over);
        let answers = join_all(all.map(Member::detach)).await;
        self.leaving.clear();
        let failed = told(answers, show);
        failed.into_iter().next().map_or(Ok(Flow::Ended), Err)
    }

    async fn read_and_carry_out(&mut self, line: &str, show: Show<'_>) -> Result<Flow, DapError> {
        let command = parse(line)?;
        if !self.several {
            return self.members[0].console.carry_out(command, show).await;
        }
        self.carry_out(command, show).await
    }

    async fn carry_out(&mut self, command: Command, show: Show<'_>) -> Result<Flow, DapError> {
        for member in &mut self.members {
            let name = member.name.clone();
            member.console.drain(&mut of(&name, show)).await;
        }
        if !self.leaving.is_empty() {
            self.let_the_others_go(show).await;
        }
        if command != Command::Continue {
            self.meet(show).await;
        }
        self.look_at_one_that_is_there();
        let again = command == Command::Empty && self.went_on;
        self.went_on = again || command == Command::Continue;
        let flow = match command {
            Command::Continue => self.go_on(show).await,
            Command::Empty if again => self.go_on(show).await,
            Command::Detach => self.detach(show).await,
            Command::Delete(numbers) => self.delete(&numbers, show).await,
            Command::Targets => {
                show(Output::Targets { targets: self.rows() });
                Ok(Flow::Stay)
            }
            Command::Target(which) => self.choose(&which, show),
            Command::Break(wish) => {
                let command = Command::Break(self.with_file(wish));
                self.everywhere(|_| Some(command.clone()), show).await
            }
            command @ (Command::Rearm | Command::Watch { data: false, .. }) => {
                self.everywhere(|_| Some(command.clone()), show).await
            }
            command => {
                let member = &mut self.members[self.focus];
                let name = member.name.clone();
                member.console.carry_out(command, &mut of(&name, show)).await
            }
        };
        self.count_alike();
        // One that is over ends not the others' session.
        flow.map(|flow| if self.over() { flow } else { Flow::Stay })
    }

    /// A line of the file that is looked at is the same line of that file in all.
    fn with_file(&self, mut wish: Wish) -> Wish {
        if let Location::Line { file: file @ None, .. } = &mut wish.location {
            *file = self.members[self.focus].console.selection.path();
        }
        wish
    }

    /// Each that is there carries out its command. What some say alike is said once.
    async fn everywhere(
        &mut self,
        command: impl Fn(&Console) -> Option<Command>,
        show: Show<'_>,
    ) -> Result<Flow, DapError> {
        let there = self.members.iter_mut().filter(|member| !member.console.over);
        let work = there.filter_map(|member| {
            let command = command(&member.console)?;
            Some(async {
                let mut said = Vec::new();
                let result = member.console.carry_out(command, &mut |output| said.push(output)).await;
                Answer { name: member.name.clone(), said, result }
            })
        });
        let answers = join_all(work).await;
        self.settled(answers, show).map(|()| Flow::Stay)
    }

    /// Says what was answered. A failure of some is said; one of all is the word's own.
    fn settled(&self, answers: Vec<Answer>, show: Show<'_>) -> Result<(), DapError> {
        if answers.iter().any(|answer| answer.result.is_ok()) {
            told(answers, show);
            return Ok(());
        }
        answers.into_iter().find_map(|answer| answer.result.err()).map_or(Ok(()), Err)
    }

    async fn delete(&mut self, numbers: &[u32], show: Show<'_>) -> Result<Flow, DapError> {
        let known = |console: &Console, number: &u32| {
            console.points.all().iter().any(|point| point.number == *number)
        };
        let nowhere = |number: &&u32| !self.members.iter().any(|member| known(&member.console, number));
        if let Some(number) = numbers.iter().find(nowhere) {
            return Err(DapError::word(
                format!("there is no breakpoint {number}"),
                "`info breakpoints` lists them",
            ));
        }
        let own = |console: &Console| {
            let own: Vec<u32> = numbers.iter().copied().filter(|one| known(console, one)).collect();
            (numbers.is_empty() || !own.is_empty()).then_some(Command::Delete(own))
        };
        self.everywhere(own, show).await
    }

    fn rows(&self) -> Vec<TargetRow> {
        let row = |(index, member): (usize, &Member)| TargetRow {
            number: index + 1,
            target: member.name.clone(),
            state: member.console.state(),
            current: index == self.focus,
        };
        self.members.iter().enumerate().map(row).collect()
    }

    /// `target N` or `target NAME`, or a part of a name that fits just one.
    fn choose(&mut self, which: &str, show: Show<'_>) -> Result<Flow, DapError> {
        let by_number =
            which.parse::<usize>().ok().filter(|number| (1..=self.members.len()).contains(number));
        let fits: Vec<usize> = match by_number {
            Some(number) => vec![number - 1],
            None => {
                let named = |exact: bool| {
                    let is = move |name: &str| if exact { name == which } else { name.contains(which) };
                    let all = self.members.iter().enumerate();
                    all.filter(move |(_, member)| is(&member.name)).map(|(index, _)| index)
                };
                let exact: Vec<usize> = named(true).collect();
                if exact.is_empty() { named(false).collect() } else { exact }
            }
        };
        match fits.as_slice() {
            [one] => self.focus = *one,
            [] => return Err(DapError::word(format!("there is no target {which}"), "`targets` lists them")),
            several => {
                let candidates = several.iter().map(|index| self.members[*index].name.clone()).collect();
                return Err(DapError::Ambiguous {
                    what: format!("`{which}` fits several targets"),
                    candidates,
                });
            }
        }
        show(Output::Targets { targets: vec![self.rows().swap_remove(self.focus)] });
        Ok(Flow::Stay)
    }

    /// All that stand still go on; then the next stop of any is waited for. Ctrl-C ends the waiting and stops nothing: which one
    /// should it be?
    async fn go_on(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        let there = self.members.iter_mut().filter(|member| !member.console.over);
        let work = there.map(|member| async {
            let result = member.console.send_on().await.map(|()| Flow::Stay);
            Answer { name: member.name.clone(), said: Vec::new(), result }
        });
        let answers = join_all(work).await;
        self.settled(answers, show)?;
        self.wait_stop(show).await
    }

    async fn wait_stop(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        let console = &self.members[self.focus].console;
        let (limit, interrupt) = (console.wait, console.interrupt.clone());
        let end = limit.map(|limit| tokio::time::Instant::now() + limit);
        while !self.over() {
            if self.meet(show).await {
                return Ok(Flow::Stay);
            }
            let waiting = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.happens(show) => {}
                () = interrupt.notified() => {
                    let text = "nothing has stopped; `pause` stops the target that is looked at".into();
                    show(Output::Notice { text });
                    return Ok(Flow::Stay);
                }
                () = waiting => return Err(self.members[self.focus].console.no_stop(limit)),
            }
        }
        Ok(Flow::Ended)
    }

    /// Waits for what happens next to any of them, and says it. Loses nothing when dropped half-way.
    async fn happens(&mut self, show: Show<'_>) {
        let there = self.members.iter_mut().enumerate().filter(|(_, member)| !member.console.over);
        let next = there
            .map(|(index, member)| Box::pin(async move { (index, member.console.debuggee.next().await) }));
        let next: Vec<_> = next.collect();
        if next.is_empty() {
            return;
        }
        let ((index, happening), ..) = select_all(next).await;
        let Member { name, console } = &mut self.members[index];
        match happening {
            Some(happening) => console.take(happening, &mut of(name, show)),
            None => console.over = true,
        }
    }

    /// Says each stop that was not said yet; of those, the one that is looked at from now on is the first, unless the one before
    /// stands still too. Was there any?
    async fn meet(&mut self, show: Show<'_>) -> bool {
        let mut met = false;
        for index in 0..self.members.len() {
            let Some(member) = self.members.get(index).filter(|member| member.has_news()) else { continue };
            let stops = member.console.unshown_stop;
            if stops && self.together == Together::First && self.members.len() > 1 {
                self.keep(index);
                return self.meet_kept(show).await;
            }
            let numbers = self.members[index].show_stop(show).await;
            let went_on = std::mem::take(&mut self.members[index].console.unshown_stop);
            if !stops || went_on {
                continue;
            }
            if !met && (index == self.focus || !self.members[self.focus].stands()) {
                self.focus = index;
            }
            met = true;
            self.remove_temporary(index, &numbers).await;
        }
        met
    }

    /// This one is kept. Nothing is lost if what follows is dropped half-way.
    fn keep(&mut self, index: usize) {
        let kept = self.members.remove(index);
        self.leaving.append(&mut self.members);
        self.members.push(kept);
        self.focus = 0;
    }

    /// Says where the kept one stands, while the others are let go.
    async fn meet_kept(&mut self, show: Show<'_>) -> bool {
        let (kept, leaving) = (&mut self.members[0], &mut self.leaving);
        let mut said = Vec::new();
        let stop = async {
            kept.show_stop(&mut |output| said.push(output)).await;
            said.drain(..).for_each(&mut *show);
        };
        let (_, answers) = join(stop, join_all(leaving.iter_mut().map(Member::detach))).await;
        self.leaving.clear();
        told(answers, show);
        !std::mem::take(&mut self.members[0].console.unshown_stop)
    }

    async fn let_the_others_go(&mut self, show: Show<'_>) {
        let answers = join_all(self.leaving.iter_mut().map(Member::detach)).await;
        self.leaving.clear();
        told(answers, show);
    }

    /// A breakpoint for once has had its stop: it goes from the others too.
    async fn remove_temporary(&mut self, met: usize, numbers: &[u32]) {
        for (index, member) in self.members.iter_mut().enumerate() {
            let points = member.console.points.all();
            let once = points.iter().filter(|one| one.temporary && numbers.contains(&one.number));
            let once: Vec<u32> = once.map(|one| one.number).collect();
            if index != met && !once.is_empty() && !member.console.over {
                // What could not be removed stops that target, which is said then.
                let _ = member.console.remove(&once).await;
            }
        }
    }

    /// The next breakpoint has the same number in all.
    fn count_alike(&mut self) {
        let last = self.members.iter().map(|member| member.console.points.last()).max().unwrap_or(0);
        self.members.iter_mut().for_each(|member| member.console.points.count_from(last));
    }

    /// The one that is looked at is there, if any is.
    fn look_at_one_that_is_there(&mut self) {
        if self.members[self.focus].console.over {
            self.focus = self.members.iter().position(|member| !member.console.over).unwrap_or(self.focus);
        }
    }
}

impl Member {
    /// Is there something that `show_stop` says or does?
    fn has_news(&self) -> bool {
        self.console.unshown_stop || !self.console.leaving.is_empty()
    }

    fn stands(&self) -> bool {
        self.console.debuggee.stopped().is_some()
    }

    /// Says the stop, and gives the breakpoints that were met.
    async fn show_stop(&mut self, show: Show<'_>) -> Vec<u32> {
        let mut numbers = Vec::new();
        let mut show = of(&self.name, show);
        let mut noting = |output: Output| {
            if let Output::Stopped(stop) = &output {
                numbers.clone_from(&stop.breakpoints);
            }
            show(output);
        };
        self.console.show_stop(&mut noting).await;
        numbers
    }

    async fn detach(&mut self) -> Answer {
        let mut said = Vec::new();
        let result = self.console.detach(&mut |output| said.push(output)).await;
        Answer { name: self.name.clone(), said, result }
    }
}

/// Shows what one target says.
fn of<'a>(name: &'a str, show: Show<'a>) -> impl FnMut(Output) + Send + 'a {
    move |saying| show(saying.of(name))
}

/// Says what targets said: what some of them said alike once, and in the order of the first that said it. Gives back why some failed.
fn told(answers: Vec<Answer>, show: Show<'_>) -> Vec<DapError> {
    let (mut all, mut failed) = (Vec::<Said>::new(), Vec::new());
    for Answer { name, mut said, result } in answers {
        if let Err(error) = result {
            said.push(Output::Failed(Trouble::from(&error.failure())));
            failed.push(error);
        }
        for saying in said {
            match all.iter_mut().find(|one| *one.saying == saying && !one.targets.contains(&name)) {
                Some(alike) => alike.targets.push(name.clone()),
                None => all.push(Said { targets: vec![name.clone()], saying: Box::new(saying) }),
            }
        }
    }
    all.into_iter().for_each(|said| show(Output::Of(said)));
    failed
}
