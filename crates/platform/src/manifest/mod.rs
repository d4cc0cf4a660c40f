//! Kubernetes' manifests with the entry put before their programs: read, changed where it must be, and otherwise left letter
//! for letter, comments and all.
//!
//! An init container copies the entry into an empty volume, each wanted container mounts that volume and runs the entry with
//! its program after it. Text in, text out: no file, no engine and no server is asked here.

/// A node as data.
mod data;
/// The text, and what is put where in it.
mod edit;
/// Pods in manifests, and containers in pods.
mod pod;
/// The text as nodes that know where they stand.
mod tree;

#[cfg(test)]
mod tests;

use pepo_wire::{Code, Failure};

use crate::ImageProgram;

use self::edit::Edits;

/// Where the entry is in its image.
const IN_IMAGE: &str = "/pepo-entry";
/// Where the init container puts it; `/pepo` is a file in images of ours.
const IN_VOLUME: &str = "/pepo-volume/pepo-entry";
/// Where a container has it.
const IN_CONTAINER: &str = "/pepo/pepo-entry";
/// The variable that has the words.
const VARIABLE: &str = "PEPO_DEBUG";
/// The name of the volume and of the init container.
pub(crate) const NAME: &str = "pepo-entry";
/// As large may a manifest be, in bytes.
pub const LARGEST: usize = 16 << 20;

/// What is put into a manifest.
#[derive(Clone, Debug, Default)]
pub struct Injection {
    /// What the entry does: its words.
    pub words: String,
    /// The image that has the entry at [`IN_IMAGE`].
    pub image: String,
    /// Only these containers; all if there are none. Init containers only by name.
    pub containers: Vec<String>,
}

/// A container as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whether the manifest says arguments.
    pub has_arguments: bool,
}

/// A manifest that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The text.
    pub text: String,
    /// What whoever applies it should know.
    pub notes: Vec<String>,
}

/// Puts the entry into every pod of a manifest. `program` is asked for what a container's image runs.
///
/// # Errors
/// [`Code::Usage`] if it is no manifest, or one that cannot be changed where it must be; [`Code::TooLarge`]; what `program` says.
pub fn inject(
    text: &str,
    injection: &Injection,
    program: &mut dyn FnMut(&Wanted) -> Result<ImageProgram, Failure>,
) -> Result<Injected, Failure> {
    if text.len() > LARGEST {
        return Err(Failure::new(Code::TooLarge, format!("the manifest has more than {LARGEST} bytes")));
    }
    let tree = tree::read(text)?;
    let mut edits = Edits::new(text);
    let mut notes = Vec::new();
    pod::inject_all(&tree, injection, &mut edits, &mut notes, program)?;
    Ok(Injected { text: edits.apply(), notes })
}

/// The one document of a text, as data.
///
/// # Errors
/// [`Code::Usage`] if it is no YAML, or not one document of it; [`Code::TooLarge`].
pub(crate) fn data(text: &str) -> Result<serde_json::Value, Failure> {
    if text.len() > LARGEST {
        return Err(Failure::new(Code::TooLarge, format!("it has more than {LARGEST} bytes")));
    }
    match tree::read(text)?.documents.as_slice() {
        [one] => data::of(one),
        all => Err(Failure::new(Code::Usage, format!("it has {} documents, not one", all.len()))),
    }
}

/// It cannot be changed as it is written, but Kubernetes' own command writes it out.
fn written_out(what: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, what).hint(
        "let kubectl write it out: kubectl create --dry-run=client -o yaml -f FILE | pepo inject -f - …",
    )
}
