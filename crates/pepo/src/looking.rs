//! A look at a target, brought home: samples as they come, the files that name them, progress, and an end by Ctrl-C with what there
//! is.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use pepo_capture::{Collector, Meta, Module, ModuleId, Symbols, debug_file_names};
use pepo_client::{Agent, Look, LookSaid};
use pepo_wire::{
    Code, Failure,
    agent::{LookBatch, StartLook, Target},
};
use tokio::task::JoinHandle;

use crate::{
    config::Context,
    duration::spoken,
    reach::{self, Reached},
    signals::Signals,
};

/// Where a target keeps debug files of its own.
const IN_TARGET: &str = "/usr/lib/debug";
/// The largest program or library that is fetched to name its addresses, in bytes.
const MOST_PROGRAM: u64 = 1 << 30;
/// The largest debug file that is fetched from there, in bytes.
const MOST_DEBUG: u64 = 256 << 20;

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
}

impl Scope {
    fn of(self, request: StartLook) -> StartLook {
        StartLook {
            idle: self.idle,
            lock_holder: self.gil,
            subprocesses: self.subprocesses,
            native: self.native,
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
        verb: &str,
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
        let files = Files {
            agent: reached.agent.clone(),
            target: reached.target.clone(),
            folders: symbols.to_vec(),
            fetched: HashMap::new(),
            known: HashMap::new(),
        };
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
                self.files.fetch(&batch);
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
        of: Option<Duration>,
    ) -> Result<(), Failure> {
        let mut asked = false;
        loop {
            tokio::select! {
                more = self.next() => match more {
                    Ok(true) => context.printer.progress(&self.progress(of)),
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
        context.printer.progress("");
        Ok(())
    }

    /// Asks for the end.
    pub(crate) fn stop(&self) {
        self.look.stop();
    }

    fn progress(&self, of: Option<Duration>) -> String {
        let whole = Duration::from_secs(self.begun.elapsed().as_secs());
        let of = of.map(|of| format!(" of {}", spoken(of))).unwrap_or_default();
        format!("recording: {}{of}, {} samples; Ctrl-C ends it", spoken(whole), self.collector.samples())
    }

    /// Names all addresses that have no name yet. What cannot be named is noted once, and stays an address.
    pub(crate) async fn name(&mut self) {
        let wanted: Vec<ModuleId> = self.collector.builder().so_far().without_symbols().into_keys().collect();
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
        self.collector.builder().settle();
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
    tokio::select! {
        done = work => done,
        _ = signals.next() => Err(Failure::new(Code::Interrupted, "interrupted")),
    }
}

type Fetched = JoinHandle<Result<Vec<u8>, Failure>>;

/// A file here with the same build id is the same file. The target chose its path: it may name a device, or a pipe.
async fn here(module: &Module) -> Option<Vec<u8>> {
    let metadata = tokio::fs::metadata(&module.path).await.ok()?;
    let may_be = !module.build_id.is_empty() && metadata.is_file() && metadata.len() <= MOST_PROGRAM;
    if may_be { tokio::fs::read(&module.path).await.ok() } else { None }
}

/// The files that name addresses. They are fetched as soon as they are heard of: later the process may have ended, and its root
/// with it.
#[derive(Debug)]
struct Files {
    agent: Agent,
    target: Target,
    folders: Vec<PathBuf>,
    fetched: HashMap<Module, Fetched>,
    known: HashMap<Module, Result<Option<Symbols>, String>>,
}

impl Files {
    fn fetch(&mut self, batch: &LookBatch) {
        for module in batch.modules.iter().filter(|module| module.path.starts_with('/')) {
            let (agent, target, path) = (self.agent.clone(), self.target.clone(), module.path.clone());
            let key = Module { path: module.path.clone(), build_id: module.build_id.clone() };
            self.fetched.entry(key).or_insert_with(|| {
                tokio::spawn(async move { agent.read_file(target, &path, MOST_PROGRAM).await })
            });
        }
    }

    /// The symbols of a module; nothing for what is no file. The error is a note for people.
    async fn symbols(&mut self, module: &Module) -> Result<Option<&Symbols>, String> {
        if !self.known.contains_key(module) {
            let read = self.read(module).await;
            self.known.insert(module.clone(), read);
        }
        match self.known.get(module) {
            Some(Ok(symbols)) => Ok(symbols.as_ref()),
            Some(Err(note)) => Err(note.clone()),
            None => Ok(None),
        }
    }

    async fn read(&mut self, module: &Module) -> Result<Option<Symbols>, String> {
        let Some(task) = self.fetched.remove(module) else { return Ok(None) };
        let fetched = match task.await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let program = match fetched {
            Ok(program) => program,
            Err(why) => here(module).await.ok_or_else(|| format!("no names for {}: {why}", module.path))?,
        };
        let debug = self.debug_file(&program).await;
        let build_id = module.build_id.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // A debug file of another build is passed over.
            debug
                .and_then(|debug| Symbols::read(&program, Some(&debug), &build_id).ok())
                .map_or_else(|| Symbols::read(&program, None, &build_id), Ok)
        });
        let symbols = reading.await.map_err(|error| error.to_string())?;
        symbols.map(Some).map_err(|error| format!("no names for {}: {error}", module.path))
    }

    /// The debug file split from a program: from the folders of the user, else from the target's own.
    async fn debug_file(&mut self, program: &[u8]) -> Option<Vec<u8>> {
        let names = debug_file_names(program);
        let mut here = Vec::new();
        for folder in &self.folders {
            here.extend(names.iter().map(|name| folder.join(name)));
        }
        for path in here {
            if let Ok(bytes) = tokio::fs::read(path).await {
                return Some(bytes);
            }
        }
        // Only by build id: what is found by name may be of another build.
        let by_id = names.iter().find(|name| name.starts_with(".build-id/"))?;
        let path = format!("{IN_TARGET}/{by_id}");
        self.agent.read_file(self.target.clone(), &path, MOST_DEBUG).await.ok()
    }
}
