//! Notes: the build id and the ABI tag (elf(5), "Notes"; Linux Standard Base, "ABI note tag").

use super::{Elf, PT_NOTE, SHT_NOTE, Source};

/// Most bytes of one block of notes.
const MOST: u64 = 64 << 10;

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who defined the kind: `GNU`, `Go`.
    pub owner: String,
    /// What it is, by its owner's list.
    pub kind: u32,
    /// Its content.
    pub content: Vec<u8>,
}

impl<S: Source> Elf<S> {
    /// All notes, from segments; from sections too, since a split debug file has only those.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        let segments = self.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        let segments = segments.map(|segment| (segment.offset, segment.file_size));
        let sections = self.sections.iter().filter(|section| section.kind == SHT_NOTE);
        let sections = sections.map(|section| (section.offset, section.size));
        let blocks = segments.chain(sections).take(64);
        blocks
            .filter_map(|(offset, size)| self.range(offset, size.min(MOST)))
            .flat_map(|bytes| self.notes_in(&bytes))
            .collect()
    }

    fn notes_in(&self, bytes: &[u8]) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut at = 0;
        while let Some((note, next)) = self.note(bytes, at) {
            notes.push(note);
            at = next;
        }
        notes
    }

    /// The note at this place and where the next one begins.
    fn note(&self, bytes: &[u8], at: usize) -> Option<(Note, usize)> {
        let fields = self.fields(bytes);
        let owner_size = fields.u32(at)? as usize;
        let content_size = fields.u32(at.checked_add(4)?)? as usize;
        let kind = fields.u32(at.checked_add(8)?)?;
        let owner_at = at.checked_add(12)?;
        let content_at = align(owner_at.checked_add(owner_size)?)?;
        let end = content_at.checked_add(content_size)?;
        let owner = bytes.get(owner_at..owner_at.checked_add(owner_size)?)?;
        let owner = String::from_utf8_lossy(owner.strip_suffix(b"\0").unwrap_or(owner)).into_owned();
        let content = bytes.get(content_at..end)?.to_vec();
        Some((Note { owner, kind, content }, align(end)?))
    }

    /// The GNU build id in lower-case hexadecimal digits.
    #[must_use]
    pub fn build_id(&self) -> Option<String> {
        let notes = self.notes();
        let note =
            notes.iter().find(|note| note.owner == "GNU" && note.kind == 3 && !note.content.is_empty())?;
        Some(note.content.iter().take(64).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Notes are padded to four bytes (those of properties to eight, which nobody needs here).
fn align(at: usize) -> Option<usize> {
    Some(at.checked_add(3)? & !3)
}
