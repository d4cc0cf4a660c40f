//! A look at a target, brought home: samples as they come, the files that name them, progress, and an end by Ctrl-C with what there
//! is.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use pepo_capture::{Collector, Meta, Module, ModuleId};
use pepo_client::{Look, LookSaid};
use pepo_wire::{Code, Failure, agent::StartLook};

use crate::{
    config::Context,
    duration::spoken,
    names::Files,
    reach::{self, Reached},
    signals::Signals,
};

/// What is looked at; of Python more can be told apart than of native code.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// Python: also threads that wait
    #[arg(long)]
    idle: bool,
    /// Python: only the thread that holds the global interpreter lock
    #[arg(long, conflicts_with = "idle")]
    gil: bool,
    /// Python: also processes that it has started, now and later; of native code, later ones are always followed
    #[arg(long)]
    subprocesses: bool,
    /// Python: its frames and those of native code in one stack; threads that run are held for a moment each
    #[arg(long, conflicts_with_all = ["idle", "gil", "subprocesses"])]
    native: bool,
    /// Let every stack begin with its thread
    #[arg(long)]
    threads: bool,
    /// What samples are of.
    #[command(flatten)]
    mode: Mode,
}

/// What samples are of; without one of them, what is usual for the language.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
struct Mode {
    /// Samples of time that threads run
    #[arg(long)]
    cpu: bool,
    /// Samples of time, whatever threads do; not of Go
    #[arg(long)]
    wall: bool,
    /// Samples of time that threads wait; not of Go, JVM, Node
    #[arg(long)]
    off_cpu: bool,
    /// Samples of memory that is allocated: JVM
    #[arg(long)]
    alloc: bool,
    /// Samples of time that threads wait for locks: JVM
    #[arg(long)]
    lock: bool,
}

impl Mode {
    fn name(self) -> &'static str {
        let modes = [
            (self.cpu, "cpu"),
            (self.wall, "wall"),
            (self.off_cpu, "off-cpu"),
            (self.alloc, "alloc"),
            (self.lock, "lock"),
        ];
        modes.into_iter().find_map(|(is_asked, name)| is_asked.then_some(name)).unwrap_or_default()
    }
}

impl Scope {
    fn of(self, request: StartLook) -> StartLook {
        StartLook {
            idle: self.idle,
            lock_holder: self.gil,
            subprocesses: self.subprocesses,
            native: self.native,
            mode: self.mode.name().to_owned(),
            ..request
        }
    }
}

/// A look that is under way, with what it has brought so far.
#[derive(Debug)]
pub(crate) struct Looking {
    look: Look,
    /// What has come.
    pub(crate) collector: Collector,
    files: Files,
    begun: Instant,
}

impl Looking {
    /// Begins to look.
    ///
    /// # Errors
    /// The agent's, with what `pepo check` has against it.
    pub(crate) async fn begin(
        reached: &Reached,
        request: StartLook,
        scope: Scope,
        symbols: &[PathBuf],
        (verb, context): (&str, &Context),
    ) -> Result<Looking, Failure> {
        let request = scope.of(StartLook { target: Some(reached.target.clone()), ..request });
        let look = match reached.agent.look(request).await {
            Ok(look) => look,
            Err(failure) => return Err(reach::explained(failure, reached, verb).await),
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let meta = Meta {
            target: reached.name.clone(),
            made_by: format!("pepo {}", env!("CARGO_PKG_VERSION")),
            started_millis: u64::try_from(started.as_millis()).unwrap_or(0),
            ..Meta::default()
        };
        let files = Files::new(reached, symbols, context)?;
        let collector = Collector::new(&look.started, meta).by_thread(scope.threads);
        Ok(Looking { look, collector, files, begun: Instant::now() })
    }

    /// Takes in the next of what comes; false at the end.
    ///
    /// # Errors
    /// The stream broke. What has come is still good.
    pub(crate) async fn next(&mut self) -> Result<bool, Failure> {
        match self.look.next().await? {
            Some(LookSaid::Batch(batch)) => {
                for module in &batch.modules {
                    let (path, build_id) = (module.path.clone(), module.build_id.clone());
                    self.files.fetch(&Module { path, build_id });
                }
                self.collector.batch(&batch);
                Ok(true)
            }
            Some(LookSaid::Ended(ended)) => {
                self.collector.ended(&ended);
                Ok(true)
            }
            Some(LookSaid::Started(_)) => Ok(true),
            None => Ok(false),
        }
    }

    /// Takes in all that comes until the end; the first Ctrl-C asks for the end, the second does not wait for it.
    pub(crate) async fn until_the_end(
        &mut self,
        context: &Context,
        signals: &mut Signals,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut asked = false;
        let mut told = 0;
        loop {
            tokio::select! {
                more = self.next() => match more {
                    Ok(true) => {
                        progress.add(self.collector.samples() - told, self.begun, context);
                        told = self.collector.samples();
                    }
                    Ok(false) => break,
                    Err(failure) if self.collector.samples() == 0 => return Err(failure),
                    Err(failure) => {
                        context.printer.warn(&failure);
                        self.collector.builder().meta().notes.push(format!("ended early: {failure}"));
                        break;
                    }
                },
                _ = signals.next() => {
                    if asked {
                        break;
                    }
                    asked = true;
                    self.look.stop();
                }
            }
        }
        progress.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Asks for the end.
    pub(crate) fn stop(&self) {
        self.look.stop();
    }

    /// Names all addresses that have no name yet. What cannot be named is noted once, and stays an address.
    pub(crate) async fn name(&mut self) {
        let wanted: Vec<ModuleId> = self.collector.builder().so_far().without_symbols().into_keys().collect();
        self.name_modules(wanted).await;
        self.collector.builder().settle();
    }

    /// The same as far as files are there by now: what is still on its way is named another time.
    pub(crate) async fn name_so_far(&mut self) {
        let so_far = self.collector.builder().so_far();
        let is_read = |id: &ModuleId| self.files.is_read(&so_far.modules[id.index()]);
        let wanted: Vec<ModuleId> = so_far.without_symbols().into_keys().filter(is_read).collect();
        self.name_modules(wanted).await;
    }

    async fn name_modules(&mut self, wanted: Vec<ModuleId>) {
        for id in wanted {
            let module = self.collector.builder().so_far().modules[id.index()].clone();
            match self.files.symbols(&module).await {
                Ok(Some(symbols)) => self.collector.builder().name(id, symbols),
                Ok(None) => {}
                Err(note) => {
                    let notes = &mut self.collector.builder().meta().notes;
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        let notes = self.files.notes();
        self.collector.builder().meta().notes.extend(notes);
        self.map().await;
    }

    /// Names functions of scripts that were made from others as they were written.
    async fn map(&mut self) {
        let scripts: Vec<String> =
            self.collector.builder().scripts().into_iter().map(str::to_owned).collect();
        for script in scripts {
            match self.files.source_map(&script).await {
                Ok(Some((map, folder))) => self.collector.builder().map(&script, map, folder),
                Ok(None) => {}
                Err(note) => self.collector.builder().meta().notes.push(note),
            }
        }
    }
}

/// How far the looks of a verb have come, all together.
#[derive(Debug)]
pub(crate) struct Progress {
    targets: usize,
    ended: AtomicUsize,
    samples: AtomicUsize,
    of: Option<Duration>,
}

impl Progress {
    /// Nothing yet, of so many targets; each for so long.
    pub(crate) fn new(targets: usize, of: Option<Duration>) -> Progress {
        Progress { targets, ended: AtomicUsize::new(0), samples: AtomicUsize::new(0), of }
    }

    fn add(&self, samples: usize, begun: Instant, context: &Context) {
        let samples = self.samples.fetch_add(samples, Ordering::Relaxed) + samples;
        let far = match self.targets {
            1 => {
                let of = self.of.map(|of| format!(" of {}", spoken(of))).unwrap_or_default();
                format!("{}{of}", spoken(Duration::from_secs(begun.elapsed().as_secs())))
            }
            targets => format!("{} of {targets} targets ended", self.ended.load(Ordering::Relaxed)),
        };
        context.printer.progress(&format!("recording: {far}, {samples} samples; Ctrl-C ends it"));
    }

    /// All have ended: names are looked up.
    pub(crate) fn names(&self, context: &Context) {
        if self.ended.load(Ordering::Relaxed) >= self.targets {
            context.printer.progress("looking up names");
        }
    }
}

/// Signals, as they are heard from here on.
pub(crate) fn listen() -> Result<Signals, Failure> {
    Signals::listen()
        .map_err(|error| Failure::new(Code::Internal, "signals cannot be heard").because_of(&error))
}

/// What has nothing yet that is worth keeping: a signal cuts it short.
pub(crate) async fn unless_interrupted<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    unless_ended(signals, || Failure::new(Code::Interrupted, "interrupted"), work).await
}

/// The same, where more is to be said of it.
pub(crate) async fn unless_ended<T>(
    signals: &mut Signals,
    failure: impl FnOnce() -> Failure,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        _ = signals.next() => Err(failure()),
        done = work => done,
    }
}
