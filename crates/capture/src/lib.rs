//! Captures: what a look brought home. Samples of stacks, their symbols, and the formats others read.
//!
//! A crate of its own because all of it runs at the user's side, on three systems, with memory that is nobody's limit.
//! **Invariant:** does no IO and does not know how samples are taken: whoever calls brings the bytes of files and gets bytes.

/// Captures made piece by piece, each thing stored once.
mod builder;
/// The model: samples, stacks, locations, frames, threads, modules.
mod capture;
/// From what an agent says of a look to a capture.
mod collector;
/// Two captures compared.
mod diff;
/// The formats: which there are, how each is recognised, written and read.
mod formats;
/// Captures of several targets as one.
mod merge;
/// Names for what was made from scripts that people wrote.
mod source_map;
/// Names for addresses, from the bytes of an ELF file.
mod symbols;
/// Functions, lines, threads and processes by their share.
mod table;
/// Stacks as one tree: what flame graphs are drawn from.
mod tree;

pub use builder::Builder;
pub use capture::{
    Capture, Frame, FrameId, Kind, Location, LocationId, Meta, Module, ModuleId, Pauses, Process, ProcessId,
    Sample, Stack, StackId, Thread, ThreadId, Unit,
};
pub use collector::Collector;
pub use diff::{Change, Diff};
pub use formats::{FORMATS, Format, FormatError, read};
pub use merge::merge;
pub use source_map::{Original, SourceMap, source_map_url};
pub use symbols::{Named, SymbolError, Symbols, debug_file_of, is_debug_file};
pub use table::{By, Row, rows};
pub use tree::{Node, Tree};
