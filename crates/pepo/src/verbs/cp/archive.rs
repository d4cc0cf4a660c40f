//! A tree as an archive of tar's, and such an archive as a tree: `pepo cp TARGET:PATH -` and `pepo cp - TARGET:PATH`. Other programs are at the
//! other end: what cannot be in a tree is told and left out, and an archive that breaks off is never taken for a whole one.

/// From a tree to an archive.
mod pack;
/// From an archive to a tree.
mod unpack;

pub(super) use pack::pack;
pub(super) use unpack::unpack;

#[cfg(all(test, unix))]
mod tests;
