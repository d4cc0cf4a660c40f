//! Names for addresses, from the target's files: fetched through its agent, with the debug files that belong to them.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pepo_capture::{Module, SourceMap, Symbols, debug_file_names, source_map_url};
use pepo_client::Agent;
use pepo_wire::{
    Failure,
    agent::{Frame, Target},
};
use tokio::task::JoinHandle;

use crate::reach::Reached;

/// Where a target keeps debug files of its own.
const IN_TARGET: &str = "/usr/lib/debug";
/// The largest program or library that is fetched to name its addresses, in bytes.
const MOST_PROGRAM: u64 = 1 << 30;
/// The largest debug file that is fetched from there, in bytes.
const MOST_DEBUG: u64 = 256 << 20;

/// The largest script, and the largest source map, that is fetched, in bytes.
const MOST_SCRIPT: u64 = 64 << 20;

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
pub(crate) struct Files {
    agent: Agent,
    target: Target,
    folders: Vec<PathBuf>,
    fetched: HashMap<Module, Fetched>,
    known: HashMap<Module, Result<Option<Symbols>, String>>,
    /// Of scripts: their maps, and the folders that those name sources from.
    maps: HashMap<String, Option<(SourceMap, String)>>,
}

impl Files {
    /// `symbols` are folders of debug files on this side.
    pub(crate) fn new(reached: &Reached, symbols: &[PathBuf]) -> Files {
        Files {
            agent: reached.agent.clone(),
            target: reached.target.clone(),
            folders: symbols.to_vec(),
            fetched: HashMap::new(),
            known: HashMap::new(),
            maps: HashMap::new(),
        }
    }

    /// The source map of a script of the target, and the folder that it names sources from; nothing where it has none. The error is a
    /// note for people, and told once.
    pub(crate) async fn source_map(&mut self, script: &str) -> Result<Option<&(SourceMap, String)>, String> {
        let mut note = None;
        if !self.maps.contains_key(script) {
            let read = self.read_map(script).await;
            note = read.as_ref().err().map(|why| format!("no source map for {script}: {why}"));
            self.maps.insert(script.to_owned(), read.unwrap_or_default());
        }
        match note {
            Some(note) => Err(note),
            None => Ok(self.maps.get(script).and_then(Option::as_ref)),
        }
    }

    /// It is where the script's last comment says, or of that name in a folder of the user's.
    async fn read_map(&mut self, script: &str) -> Result<Option<(SourceMap, String)>, String> {
        if !script.starts_with('/') {
            return Ok(None);
        }
        // What is not there any more is named as V8 names it.
        let Ok(text) = self.agent.read_file(self.target.clone(), script, MOST_SCRIPT).await else {
            return Ok(None);
        };
        let Some(url) = source_map_url(&text) else { return Ok(None) };
        let (bytes, folder) = match url.strip_prefix("data:") {
            Some(data) => {
                let (kind, data) = data.split_once(',').ok_or("its address is no data")?;
                let coded = kind.ends_with(";base64").then_some(data).ok_or("it is not coded in base 64")?;
                (BASE64_STANDARD.decode(coded).map_err(|error| error.to_string())?, folder(script))
            }
            None => {
                let path =
                    if url.starts_with('/') { url.to_owned() } else { format!("{}/{url}", folder(script)) };
                (self.map_file(url, &path).await?, folder(&path))
            }
        };
        let reading = tokio::task::spawn_blocking(move || SourceMap::read(&bytes));
        let map = reading.await.map_err(|error| error.to_string())?;
        map.map(|map| Some((map, folder)))
    }

    async fn map_file(&mut self, url: &str, path: &str) -> Result<Vec<u8>, String> {
        let name = url.rsplit('/').next().unwrap_or(url);
        for folder in &self.folders {
            if let Ok(bytes) = tokio::fs::read(folder.join(name)).await {
                return Ok(bytes);
            }
        }
        if url.contains("://") {
            return Err(format!("it is at {url}: give its folder by --symbols"));
        }
        let read = self.agent.read_file(self.target.clone(), path, MOST_SCRIPT).await;
        read.map_err(|failure| failure.to_string())
    }

    /// Begins to fetch a module, once.
    pub(crate) fn fetch(&mut self, module: &Module) {
        if !module.path.starts_with('/')
            || self.fetched.contains_key(module)
            || self.known.contains_key(module)
        {
            return;
        }
        let (agent, target, path) = (self.agent.clone(), self.target.clone(), module.path.clone());
        let task = tokio::spawn(async move { agent.read_file(target, &path, MOST_PROGRAM).await });
        self.fetched.insert(module.clone(), task);
    }

    /// Names the frames of these stacks that are native code, as far as can be: with file and line, and with those functions that
    /// were compiled into others as frames of their own. Returns notes for people.
    pub(crate) async fn name<'a>(
        &mut self,
        stacks: impl IntoIterator<Item = &'a mut Vec<Frame>>,
    ) -> Vec<String> {
        let stacks: Vec<&mut Vec<Frame>> = stacks.into_iter().collect();
        let mut notes = Vec::new();
        let all = stacks.iter().flat_map(|frames| frames.iter()).filter_map(module_of);
        let modules: HashSet<Module> = all.collect();
        modules.iter().for_each(|module| self.fetch(module));
        for module in &modules {
            notes.extend(self.symbols(module).await.err());
        }
        for frames in stacks {
            *frames = frames.drain(..).flat_map(|frame| self.named(frame)).collect();
        }
        notes
    }

    /// The symbols of a module; nothing for what is no file. The error is a note for people.
    pub(crate) async fn symbols(&mut self, module: &Module) -> Result<Option<&Symbols>, String> {
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

    /// What a frame stands for, innermost first, by the symbols that are known.
    fn named(&self, frame: Frame) -> Vec<Frame> {
        match module_of(&frame).and_then(|module| self.known.get(&module)) {
            Some(Ok(Some(symbols))) => named(symbols, frame),
            _ => vec![frame],
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

/// The folder of a path of the target's, whose slashes may not be this system's.
fn folder(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
}

/// The file that a frame's code is in, where that has no name yet.
fn module_of(frame: &Frame) -> Option<Module> {
    let wanted = frame.language.is_empty() && frame.line == 0 && frame.module.starts_with('/');
    wanted.then(|| Module { path: frame.module.clone(), build_id: frame.build_id.clone() })
}

/// What a frame stands for, innermost first.
fn named(symbols: &Symbols, frame: Frame) -> Vec<Frame> {
    let mut frames: Vec<Frame> = symbols
        .frames(frame.module_address)
        .into_iter()
        .map(|named| Frame { function: named.function, file: named.file, line: named.line, ..frame.clone() })
        .collect();
    // The agent may know a name where there is none here.
    if let Some(outermost) = frames.last_mut().filter(|outermost| outermost.function.is_empty()) {
        outermost.function.clone_from(&frame.function);
    }
    if frames.is_empty() { vec![frame] } else { frames }
}
