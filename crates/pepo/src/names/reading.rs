//! The symbols of one program or library: its own, those of the debug file that was split from it, wherever that is, and if nobody near has
//! one, a server's.

use std::{path::Path, sync::Arc};

use pepo_capture::{Module, Symbols, debug_file_of, is_debug_file};
use pepo_client::{Agent, Debuginfod, SymbolPaths};
use pepo_wire::{
    Failure,
    agent::{Target, WantedSymbols},
};

/// Where systems keep debug files.
const DEBUG_FILES: &str = "/usr/lib/debug";
/// The largest program or library that is fetched to name its addresses, in bytes.
const MOST_PROGRAM: u64 = 1 << 30;
/// The largest debug file that is fetched from a target, in bytes.
const MOST_DEBUG: u64 = 256 << 20;

/// Where files are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) agent: Agent,
    pub(super) target: Target,
    /// Of the user.
    pub(super) folders: SymbolPaths,
    pub(super) debuginfod: Option<Arc<Debuginfod>>,
}

impl Places {
    /// A file of the target's.
    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, Failure> {
        self.agent.read_file(self.target.clone(), path, most).await
    }

    /// The symbols of a module. The error is a note for people.
    pub(super) async fn symbols(self, module: Module) -> Result<Symbols, String> {
        let none = |why: String| format!("no names for {}: {why}", module.path);
        let program = match self.program(&module).await {
            Ok(program) => Arc::new(program),
            Err(why) => {
                // It may be known by its debug file all the same. What the target says of itself becomes part of paths.
                let is_id = module.build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
                let build_id = if is_id { module.build_id.clone() } else { String::new() };
                let wanted = WantedSymbols { build_id, ..WantedSymbols::default() };
                let debug = self.debug_file(&wanted, &module).await.ok_or_else(|| none(why))?;
                return read(debug, None, &module).await.map_err(none);
            }
        };
        let own = read(Arc::clone(&program), None, &module).await.map_err(none)?;
        if own.has_debug_info() {
            return Ok(own);
        }
        let wanted = debug_file_of(&program);
        let debug = match own.has_lines() {
            // Go's own table has all but what the user has at hand.
            true => self.of_user(&wanted).await,
            false => self.debug_file(&wanted, &module).await,
        };
        match debug {
            // A debug file of another build is passed over.
            Some(debug) => Ok(read(program, Some(debug), &module).await.unwrap_or(own)),
            None => Ok(own),
        }
    }

    async fn program(&self, module: &Module) -> Result<Vec<u8>, String> {
        match self.read(&module.path, MOST_PROGRAM).await {
            Ok(program) => Ok(program),
            Err(failure) => here(module).await.ok_or_else(|| failure.to_string()),
        }
    }

    /// The debug file split from a program: from the folders of the user, the target, this machine, or a server.
    async fn debug_file(&self, wanted: &WantedSymbols, module: &Module) -> Option<Arc<Vec<u8>>> {
        if let Some(found) = self.of_user(wanted).await {
            return Some(found);
        }
        for path in in_target(wanted, &module.path) {
            if let Ok(bytes) = self.read(&path, MOST_DEBUG).await
                && is_debug_file(&bytes, wanted)
            {
                return Some(Arc::new(bytes));
            }
        }
        if let Some(path) = by_id(wanted)
            && let Ok(bytes) = tokio::fs::read(path).await
            && is_debug_file(&bytes, wanted)
        {
            return Some(Arc::new(bytes));
        }
        let name = Path::new(&module.path).file_name().unwrap_or_default().to_string_lossy();
        let found = self.debuginfod.as_ref()?.debug_file(&wanted.build_id, &name).await;
        found.map(Arc::new)
    }

    async fn of_user(&self, wanted: &WantedSymbols) -> Option<Arc<Vec<u8>>> {
        let (folders, wanted) = (self.folders.clone(), wanted.clone());
        let reading = tokio::task::spawn_blocking(move || std::fs::read(folders.debug_file(&wanted)?).ok());
        reading.await.ok().flatten().map(Arc::new)
    }
}

/// A file here with the same build id is the same file. The target chose its path: it may name a device, or a pipe.
async fn here(module: &Module) -> Option<Vec<u8>> {
    let metadata = tokio::fs::metadata(&module.path).await.ok()?;
    let may_be = !module.build_id.is_empty() && metadata.is_file() && metadata.len() <= MOST_PROGRAM;
    let bytes = if may_be { tokio::fs::read(&module.path).await.ok()? } else { return None };
    (debug_file_of(&bytes).build_id == module.build_id).then_some(bytes)
}

/// Reads what a program has, with its debug file.
async fn read(
    program: Arc<Vec<u8>>,
    debug: Option<Arc<Vec<u8>>>,
    module: &Module,
) -> Result<Symbols, String> {
    let build_id = module.build_id.clone();
    let reading = tokio::task::spawn_blocking(move || {
        Symbols::read(&program, debug.as_deref().map(Vec::as_slice), &build_id)
    });
    reading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Where a system has the debug file of a build.
fn by_id(wanted: &WantedSymbols) -> Option<String> {
    let (first, rest) = wanted.build_id.split_at_checked(2)?;
    Some(format!("{DEBUG_FILES}/.build-id/{first}/{rest}.debug"))
}

/// Where a target may have a debug file of its own, as gdb looks for it.
fn in_target(wanted: &WantedSymbols, program: &str) -> Vec<String> {
    let mut paths: Vec<String> = by_id(wanted).into_iter().collect();
    if !wanted.debug_link.is_empty() {
        let (folder, link) = (super::folder(program), &wanted.debug_link);
        paths.extend(
            [folder.clone(), format!("{folder}/.debug"), format!("{DEBUG_FILES}{folder}")]
                .map(|folder| format!("{folder}/{link}")),
        );
    }
    paths
}
