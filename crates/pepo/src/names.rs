//! Names for addresses, from the target's files: fetched through its agent, with the debug files that belong to them.

/// One program or library.
mod reading;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pepo_capture::{Module, SourceMap, Symbols, source_map_url};
use pepo_client::SymbolPaths;
use pepo_wire::{Failure, agent::Frame};
use tokio_util::task::AbortOnDropHandle;

use self::reading::Places;
use crate::{config::Context, reach::Reached, render::Printer};

/// The largest script, and the largest source map, that is fetched, in bytes.
const MOST_SCRIPT: u64 = 64 << 20;

/// How often it is told what is under way.
const TOLD: Duration = Duration::from_millis(200);

/// Reading of a module, under way.
type Reading = AbortOnDropHandle<Result<Symbols, String>>;

/// The files that name addresses. They are fetched as soon as they are heard of: later the process may have ended, and its root
/// with it.
#[derive(Debug)]
pub(crate) struct Files {
    places: Places,
    printer: Printer,
    reading: HashMap<Module, Reading>,
    known: HashMap<Module, Result<Option<Symbols>, String>>,
    /// Of scripts: their maps, and the folders that those name sources from.
    maps: HashMap<String, Option<(SourceMap, String)>>,
}

impl Files {
    /// `symbols` are folders of debug files on this side.
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn new(reached: &Reached, symbols: &[PathBuf], context: &Context) -> Result<Files, Failure> {
        let places = Places {
            agent: reached.agent.clone(),
            target: reached.target.clone(),
            folders: SymbolPaths::new(symbols, false)?,
            debuginfod: context.debuginfod.clone(),
        };
        let printer = context.printer;
        Ok(Files { places, printer, reading: HashMap::new(), known: HashMap::new(), maps: HashMap::new() })
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
        let Ok(text) = self.places.read(script, MOST_SCRIPT).await else {
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
        for folder in self.places.folders.folders() {
            if let Ok(bytes) = tokio::fs::read(folder.join(name)).await {
                return Ok(bytes);
            }
        }
        if url.contains("://") {
            return Err(format!("it is at {url}: give its folder by --symbols"));
        }
        let read = self.places.read(path, MOST_SCRIPT).await;
        read.map_err(|failure| failure.to_string())
    }

    /// Begins to read a module, once.
    pub(crate) fn fetch(&mut self, module: &Module) {
        let is_new = !self.reading.contains_key(module) && !self.known.contains_key(module);
        if is_new && module.path.starts_with('/') {
            let reading = tokio::spawn(self.places.clone().symbols(module.clone()));
            self.reading.insert(module.clone(), AbortOnDropHandle::new(reading));
        }
    }

    /// Is it known by now what names a module has?
    pub(crate) fn is_read(&self, module: &Module) -> bool {
        self.reading.get(module).is_none_or(AbortOnDropHandle::is_finished)
    }

    /// What servers of debug files have said since it was last asked, for people.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.places.debuginfod.as_ref().map(|servers| servers.notes()).unwrap_or_default()
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
        notes.extend(self.notes());
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
        let Some(mut reading) = self.reading.remove(module) else { return Ok(None) };
        loop {
            tokio::select! {
                read = &mut reading => return read.map_err(|error| error.to_string())?.map(Some),
                () = tokio::time::sleep(TOLD) => {
                    let servers = self.places.debuginfod.as_ref();
                    if let Some(text) = servers.and_then(|servers| servers.under_way()) {
                        self.printer.progress(&text);
                    }
                }
            }
        }
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
