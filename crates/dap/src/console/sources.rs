//! Source lines: from the file here, from the adapter, or from the target, in this order.

use std::{collections::HashMap, path::Path, sync::Arc};

use pepo_wire::{Code, Failure};
use serde_json::json;

use super::{
    Console, Files, Show,
    output::{Lines, Output},
    parse::Location,
};
use crate::{error::DapError, views::Source};

/// The largest source shown, in bytes.
const MAX_TEXT: u64 = 4 << 20;
/// The most sources kept.
const MAX_KEPT: usize = 32;
/// Lines that `list` shows.
const LISTED: i64 = 5;

/// Sources that were read.
pub(crate) struct Texts {
    files: Option<Arc<dyn Files>>,
    kept: HashMap<String, Arc<Vec<String>>>,
    /// Where `list` goes on: the source and the last line shown.
    listed: Option<(Source, i64)>,
}

impl Texts {
    /// None read yet.
    pub(crate) fn new(files: Option<Arc<dyn Files>>) -> Texts {
        Texts { files, kept: HashMap::new(), listed: None }
    }

    /// The target went on: `list` begins anew.
    pub(crate) fn went_on(&mut self) {
        self.listed = None;
    }

    fn keep(&mut self, path: &str, text: &[u8]) -> Arc<Vec<String>> {
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        let text = String::from_utf8_lossy(text);
        let lines = Arc::new(text.lines().map(|line| line.replace('\t', "    ")).collect::<Vec<_>>());
        self.kept.insert(path.to_owned(), lines.clone());
        lines
    }
}

/// Why a source can't be shown; one that is nowhere else may lie here under another name.
fn elsewhere(remote: &str, failure: Failure) -> DapError {
    if failure.code() != Code::FileNotFound {
        return failure.into();
    }
    let folder =
        remote.rsplit_once('/').map_or("REMOTE", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let hint = format!("say where it lies: --source-map {folder}=LOCAL, when the session is opened");
    DapError::not_there(format!("the source {remote} is neither here nor in the target"), hint)
}

/// A file here, if it is one and not too large.
fn read_here(path: &str) -> Option<Vec<u8>> {
    let fits = std::fs::metadata(Path::new(path)).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_TEXT);
    fits.then(|| std::fs::read(path).ok()).flatten()
}

impl Console {
    /// The whole of a source, and the path to show for it.
    async fn text(&mut self, source: &Source) -> Result<(String, Arc<Vec<String>>), DapError> {
        let remote = source.path.clone().unwrap_or_default();
        let local = self.source_map.to_local(&remote);
        let shown = local.clone().unwrap_or_else(|| remote.clone());
        if let Some(lines) = self.texts.kept.get(&remote).filter(|_| !remote.is_empty()) {
            return Ok((shown, lines.clone()));
        }
        if let Some(text) = local.as_deref().and_then(read_here) {
            return Ok((shown, self.texts.keep(&remote, &text)));
        }
        if let Some(reference) = source.source_reference.filter(|reference| *reference > 0) {
            let arguments = json!({"source": source, "sourceReference": reference});
            let body = self.debuggee.request("source", arguments).await?;
            let content = body.get("content").and_then(serde_json::Value::as_str).unwrap_or_default();
            return Ok((shown, self.texts.keep(&remote, content.as_bytes())));
        }
        let text = match self.texts.files.clone() {
            Some(files) => files.read(&remote).await.map_err(|failure| elsewhere(&remote, failure))?,
            // Without another file system between, the target's path is this machine's.
            None => {
                let failure = Failure::new(Code::FileNotFound, "");
                read_here(&remote).ok_or_else(|| elsewhere(&remote, failure))?
            }
        };
        Ok((shown, self.texts.keep(&remote, &text)))
    }

    /// The lines around one of a source.
    pub(super) async fn lines(
        &mut self,
        source: &Source,
        line: i64,
        around: i64,
        current: Option<i64>,
    ) -> Result<Lines, DapError> {
        let (path, text) = self.text(source).await?;
        let first = (line - around).max(1);
        let count = (line + around - first + 1).max(0) as usize;
        let lines: Vec<String> = text.iter().skip(first as usize - 1).take(count).cloned().collect();
        if lines.is_empty() {
            return Err(DapError::word(
                format!("{path} has {} lines", text.len()),
                "`list 1` shows its beginning",
            ));
        }
        self.texts.listed = Some((source.clone(), first + lines.len() as i64 - 1));
        Ok(Lines { path, first, lines, current })
    }

    pub(super) async fn list(&mut self, location: Option<Location>, show: Show<'_>) -> Result<(), DapError> {
        let current =
            self.selection.frame().map(|frame| (frame.source.clone().unwrap_or_default(), frame.line));
        let (source, line) = match location {
            None => match (self.texts.listed.clone(), &current) {
                (Some((source, last)), _) if self.last_was_list() => (source, last + LISTED + 1),
                (_, Some((source, line))) => (source.clone(), *line),
                (Some((source, last)), None) => (source, last + LISTED + 1),
                (None, None) => return Err(DapError::word("list what?", "write it as FILE:LINE")),
            },
            Some(Location::Line { file: None, line }) => {
                let source = current.as_ref().map(|(source, _)| source.clone());
                let listed = self.texts.listed.as_ref().map(|(source, _)| source.clone());
                let source = source
                    .or(listed)
                    .ok_or_else(|| DapError::word("of which file?", "write it as FILE:LINE"))?;
                (source, line)
            }
            Some(Location::Line { file: Some(file), line }) => {
                let path = self.remote_path(&file)?;
                (Source { path: Some(path), ..Source::default() }, line)
            }
            Some(_) => return Err(DapError::word("`list` takes a line", "write it as FILE:LINE")),
        };
        let same = |(at, _): &&(Source, i64)| at.path == source.path;
        let marked = current.as_ref().filter(same).map(|(_, line)| *line);
        let lines = self.lines(&source, line, LISTED, marked).await?;
        show(Output::Source(lines));
        Ok(())
    }
}
