//! From parts to files. Every part is hostile: it comes from a target, or from somebody who may only write below one folder of it.

use std::io::Write as _;

use super::{
    Attributes, DEEPEST, LARGEST_PORTION, LONGEST_LINK, LONGEST_NAME, Part, Sink, Tally, failed, is_name,
    shown,
};
use crate::{
    Code, Failure,
    agent::{TreeEntry, TreeKind, TreeSkipped},
};

/// Longest reason for what was skipped, in bytes.
const LONGEST_WHY: usize = 1000;

/// Files that are being made below one folder.
pub struct Build<S: Sink> {
    /// The folder in which the source is put, until its contents are put there themselves.
    base: Option<S>,
    /// The source's new name; without one its contents go into the base.
    name: Option<Vec<u8>>,
    levels: Vec<Level<S>>,
    file: Option<Writing<S>>,
    tally: Tally,
    state: State,
}

/// A folder that is open.
struct Level<S> {
    folder: S,
    name: String,
    /// It was made by us, and gets these when it is left.
    attributes: Option<Attributes>,
}

struct Writing<S: Sink> {
    file: S::File,
    name: Vec<u8>,
    attributes: Attributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Begun,
    Ended,
}

impl<S: Sink> Build<S> {
    /// Nothing yet. The source is put into `base` by this name; without one, what is in it.
    pub fn new(base: S, name: Option<Vec<u8>>) -> Build<S> {
        let (levels, tally) = (Vec::new(), Tally::default());
        Build { base: Some(base), name, levels, file: None, tally, state: State::Fresh }
    }

    /// What is there so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes in the next part.
    ///
    /// # Errors
    /// What cannot be written, [`Code::TooLarge`], or [`Code::StreamBroken`] for what is no tree. Files that are whole stay, the one that
    /// was begun is gone with `self`.
    pub fn take(&mut self, part: Part) -> Result<(), Failure> {
        if self.state == State::Ended {
            return Err(confused("it goes on after its end"));
        }
        match part {
            Part::Data(data) => self.data(&data),
            part => {
                self.finish_file()?;
                match part {
                    Part::Entry(entry) => self.entry(entry),
                    Part::Leave(_) => self.leave(),
                    Part::Skipped(skipped) => self.skipped(&skipped),
                    Part::End(_) if self.levels.is_empty() && self.state == State::Begun => {
                        self.state = State::Ended;
                        Ok(())
                    }
                    Part::End(_) | Part::Data(_) => Err(confused("it ends where it cannot")),
                }
            }
        }
    }

    /// What was copied, all of it.
    ///
    /// # Errors
    /// [`Code::StreamBroken`] when its end was not said.
    pub fn finish(self) -> Result<Tally, Failure> {
        match self.state {
            State::Ended => Ok(self.tally),
            _ => Err(confused("it broke off before its end")),
        }
    }

    fn data(&mut self, data: &[u8]) -> Result<(), Failure> {
        let Some(writing) = self.file.as_mut().filter(|_| data.len() <= LARGEST_PORTION) else {
            return Err(confused("there are bytes that belong to no file"));
        };
        if let Err(error) = writing.file.write_all(data) {
            let name = writing.name.clone();
            return Err(self.cannot("write", &name, &error));
        }
        self.tally.bytes += data.len() as u64;
        Ok(())
    }

    fn finish_file(&mut self) -> Result<(), Failure> {
        let Some(Writing { file, name, attributes }) = self.file.take() else { return Ok(()) };
        self.here()?.put(file, &name, attributes).map_err(|error| self.cannot("write", &name, &error))?;
        self.tally.files += 1;
        Ok(())
    }

    fn entry(&mut self, entry: TreeEntry) -> Result<(), Failure> {
        self.tally.count()?;
        let attributes = Attributes {
            mode: entry.mode & Attributes::MODE,
            modified: (entry.modified_seconds, entry.modified_nanos.min(999_999_999)),
        };
        let Some(name) = self.name_of(&entry)? else { return self.begin_in_base() };
        match entry.kind() {
            TreeKind::File => {
                let begun = self.here()?.create(&name, attributes, entry.size);
                let file = begun.map_err(|error| self.cannot("write", &name, &error))?;
                self.file = Some(Writing { file, name, attributes });
                Ok(())
            }
            TreeKind::Folder => self.enter(&name, attributes),
            TreeKind::Link => self.link(&name, &entry.link),
            TreeKind::Unspecified => {
                let what = self.shown(&name);
                self.tally.skip(what, "of a kind that is not known here".to_owned(), true);
                Ok(())
            }
        }
    }

    /// The name under which an entry is put; nothing for a source whose contents alone are wanted.
    fn name_of(&mut self, entry: &TreeEntry) -> Result<Option<Vec<u8>>, Failure> {
        if self.state == State::Fresh {
            self.state = State::Begun;
            let is_folder = entry.kind() == TreeKind::Folder;
            return match &self.name {
                Some(name) => Ok(Some(name.clone())),
                None if is_folder => Ok(None),
                None => Err(confused("its beginning is no folder")),
            };
        }
        if self.levels.is_empty() {
            return Err(confused("it has two beginnings"));
        }
        if !is_name(&entry.name) {
            let why = format!("`{}` is not the name of a file", shown_name(&entry.name));
            return Err(confused(&why));
        }
        Ok(Some(entry.name.clone()))
    }

    fn begin_in_base(&mut self) -> Result<(), Failure> {
        let folder = self.base.take().ok_or_else(|| confused("it has two beginnings"))?;
        self.levels.push(Level { folder, name: String::new(), attributes: None });
        Ok(())
    }

    fn enter(&mut self, name: &[u8], attributes: Attributes) -> Result<(), Failure> {
        if self.levels.len() >= DEEPEST {
            return Err(Failure::new(
                Code::TooLarge,
                format!("there are more than {DEEPEST} folders in each other"),
            ));
        }
        let entered = self.here()?.enter(name, attributes);
        let (folder, made) = entered.map_err(|error| self.cannot("make the folder", name, &error))?;
        // The source's own name is the user's, who knows it.
        let name = if self.levels.is_empty() { String::new() } else { shown_name(name) };
        self.levels.push(Level { folder, name, attributes: made.then_some(attributes) });
        Ok(())
    }

    fn link(&mut self, name: &[u8], to: &[u8]) -> Result<(), Failure> {
        if to.is_empty() || to.len() > LONGEST_LINK || to.contains(&0) {
            return Err(confused("a link leads nowhere"));
        }
        match self.here()?.link(name, to) {
            Ok(()) => self.tally.links += 1,
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                let what = self.shown(name);
                self.tally.skip(what, format!("a link, which cannot be made here: {error}"), true);
            }
            Err(error) => return Err(self.cannot("make the link", name, &error)),
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Failure> {
        let level = self.levels.pop().ok_or_else(|| confused("it leaves a folder that it never entered"))?;
        self.tally.folders += 1;
        match level.attributes.map(|attributes| level.folder.settle(attributes)) {
            Some(Err(error)) => Err(self.cannot("finish the folder", level.name.as_bytes(), &error)),
            _ => Ok(()),
        }
    }

    fn skipped(&mut self, skipped: &TreeSkipped) -> Result<(), Failure> {
        self.tally.count()?;
        let name = skipped.name.get(..LONGEST_NAME).unwrap_or(&skipped.name);
        let why: String = skipped.why.chars().take(LONGEST_WHY).collect();
        self.tally.skip(self.shown(name), why, skipped.failed);
        Ok(())
    }

    fn here(&self) -> Result<&S, Failure> {
        let open = self.levels.last().map(|level| &level.folder).or(self.base.as_ref());
        open.ok_or_else(|| confused("no folder is open"))
    }

    fn cannot(&self, act: &str, name: &[u8], error: &std::io::Error) -> Failure {
        failed(format!("cannot {act} {}", self.shown(name)), error)
    }

    fn shown(&self, name: &[u8]) -> String {
        shown(self.levels.iter().map(|level| level.name.as_str()), name)
    }
}

fn shown_name(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..LONGEST_NAME).unwrap_or(name)).into_owned()
}

fn confused(why: &str) -> Failure {
    Failure::new(Code::StreamBroken, "the files came broken").because(why)
}
