//! Several targets at once: all that the arguments name, so many at a time. One that fails is told and counted, and loses none of
//! the others.

use std::collections::HashSet;

use clap::Args;
use futures::{StreamExt as _, future::join_all, stream};
use pepo_platform::{Found, Need};
use pepo_wire::{Code, Failure, name::Kind};
use serde_json::{Value, json};

use crate::{
    arguments::{Chosen, ProcessArgs, choose},
    config::Context,
    looking::{listen, unless_interrupted},
    names::Files,
    reach::{self, Reached},
    render::{End, Outcome, failure},
    signals::Signals,
};

/// Targets, and the process in each.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetsArgs {
    /// What to look at, named as `pepo ps` prints it; of a workload, a service and labels: all pods that are ready
    #[arg(value_name = "TARGET", required_unless_present_any = ["host_pid", "labels"])]
    targets: Vec<String>,
    /// The process inside.
    #[command(flatten)]
    process: ProcessArgs,
    /// Of several targets, so many at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) at_once: u16,
}

/// A target that was found.
pub(crate) struct One {
    /// The target as `ps` names it.
    pub(crate) name: String,
    chosen: Chosen,
    found: Found,
    /// The way to it, with the files that name its addresses, where that is kept.
    pub(crate) way: Option<(Reached, Files)>,
    /// What it hears of Ctrl-C, from the time it was found: also while it waits for its turn.
    pub(crate) signals: Signals,
}

impl One {
    /// What says that it is production.
    pub(crate) fn production(&self) -> Option<&str> {
        self.found.located.production.as_deref()
    }

    /// An agent beside it.
    pub(crate) async fn reach(&mut self, context: &Context) -> Result<Reached, Failure> {
        unless_interrupted(&mut self.signals, reach::to(context, &self.chosen, &self.found)).await
    }
}

/// All that were found, and those that were not.
pub(crate) struct Targets {
    /// The targets, each once; [`Targets::each`] gives them away.
    pub(crate) all: Vec<One>,
    /// Could the arguments have meant more than one? Then data has a list, whatever their number is now.
    pub(crate) several: bool,
    /// How many at a time.
    at_once: usize,
    /// What became of each that failed.
    pub(crate) failed: Failed,
}

/// What failed, of how many.
pub(crate) struct Failed {
    whole: usize,
    failures: Vec<(String, Failure)>,
    context: Context,
}

impl TargetsArgs {
    /// Finds all targets.
    ///
    /// # Errors
    /// As [`find`].
    pub(crate) async fn find(&self, context: &Context, signals: &mut Signals) -> Result<Targets, Failure> {
        find(context, &self.chosen()?, Need::Look, self.at_once, signals).await
    }

    fn chosen(&self) -> Result<Vec<Chosen>, Failure> {
        if self.targets.is_empty() {
            return Ok(vec![choose(None, &self.process)?]);
        }
        self.targets.iter().map(|target| choose(Some(target), &self.process)).collect()
    }
}

/// Finds all targets that are meant.
///
/// # Errors
/// The only one there is cannot be found; what of several cannot is told and counted.
pub(crate) async fn find(
    context: &Context,
    chosen: &[Chosen],
    need: Need,
    at_once: u16,
    signals: &mut Signals,
) -> Result<Targets, Failure> {
    let means_many = |one: &Chosen| {
        one.pod.labels.is_some()
            || one.name.kind.is_some_and(|kind| kind.is_in_cluster() && kind != Kind::Pod)
    };
    let several = chosen.len() > 1 || chosen.iter().any(means_many);
    let finding = join_all(chosen.iter().map(|one| reach::locate_all(context, one, need)));
    let answers = unless_interrupted(signals, async { Ok(finding.await) }).await?;
    let mut failed = Failed { whole: chosen.len(), failures: Vec::new(), context: context.clone() };
    let (mut all, mut known, mut notes) = (Vec::new(), HashSet::new(), HashSet::new());
    for (chosen, answer) in chosen.iter().zip(answers) {
        let found = match answer {
            Ok(found) => found,
            Err(failure) if !several => return Err(failure),
            Err(failure) => {
                failed.add(chosen.name.to_string(), failure);
                continue;
            }
        };
        failed.whole -= 1;
        for found in found {
            let name = found.located.name.to_string();
            let new_notes = found.located.notes.iter().filter(|note| notes.insert((*note).clone()));
            new_notes.for_each(|note| context.printer.say(note));
            if known.insert(name.clone()) {
                failed.whole += 1;
                all.push(One { name, chosen: chosen.clone(), found, way: None, signals: listen()? });
            }
        }
    }
    Ok(Targets { all, several, at_once: usize::from(at_once), failed })
}

impl Targets {
    /// What only works when all are looked at at the same time.
    ///
    /// # Errors
    /// [`Code::Usage`] when that is more than may be.
    pub(crate) fn all_at_once(&self, why: &str) -> Result<(), Failure> {
        let (count, most) = (self.all.len(), self.at_once);
        if count <= most {
            return Ok(());
        }
        Err(Failure::new(Code::Usage, format!("{count} targets are more than --at-once {most}"))
            .because(why)
            .hint(format!("allow it with `--at-once {count}`, or name fewer")))
    }

    /// Does something with each, so many at a time. What succeeds is returned in the order of the targets.
    pub(crate) async fn each<T, F>(&mut self, mut work: impl FnMut(One) -> F) -> Vec<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begin = |(index, one): (usize, One)| {
            let name = one.name.clone();
            let working = work(one);
            async move { (index, name, working.await) }
        };
        let answers: Vec<_> = self.all.drain(..).enumerate().map(begin).collect();
        let failed = &mut self.failed;
        let mut answers = stream::iter(answers).buffer_unordered(self.at_once);
        let mut done = Vec::new();
        while let Some((index, name, answer)) = answers.next().await {
            match answer {
                Ok(answer) => done.push((index, answer)),
                Err(failure) => failed.add(name, failure),
            }
        }
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, answer)| answer).collect()
    }
}

impl Failed {
    /// Counts a failure; where it is one of several, it is told at once.
    pub(crate) fn add(&mut self, name: String, failure: Failure) {
        if self.whole > 1 && failure.code() != Code::Interrupted {
            self.context.printer.progress("");
            self.context.printer.warn(&named(&name, failure.clone()));
        }
        self.failures.push((name, failure));
    }

    /// Did somebody ask to end meanwhile?
    pub(crate) fn was_interrupted(&self) -> bool {
        self.failures.iter().any(|(_, failure)| failure.code() == Code::Interrupted)
    }

    /// The targets that failed, and why, as data.
    pub(crate) fn json(&self) -> Value {
        let one =
            |(name, failure): &(String, Failure)| json!({ "target": name, "error": failure::json(failure) });
        self.failures.iter().map(one).collect()
    }

    /// How the verb ends, after all that succeeded was told: by the failure of the only target, by the first of several, or well.
    pub(crate) fn outcome(mut self) -> Outcome {
        let count = self.failures.len();
        match self.failures.first() {
            None => Ok(()),
            Some((_, first)) if self.whole > 1 => {
                let exit = first.code().exit();
                self.context.printer.say(&format!("{count} of {} targets failed", self.whole));
                Err(End::Told(exit))
            }
            Some(_) => Err(self.failures.swap_remove(0).1.into()),
        }
    }
}

/// The failure with the name of its target, where it does not say it.
fn named(name: &str, mut failure: Failure) -> Failure {
    if !failure.what.contains(name) {
        failure.what = format!("{name}: {}", failure.what);
    }
    failure
}
