//! `fstree`: archives put into the file system before the program starts, all of each or nothing.
//!
//! All are fetched, checked and judged first, with their data in files that have no name; then each is put in place.
//! The work is done by a process of its own, so that the init stays as small as it is, goes on listening to signals,
//! and outlives whatever an archive does to who unpacks it.

/// What several archives would do together, judged.
mod chain;
/// Threads that make what is in new folders.
mod crew;
/// The data of files.
mod data;
/// What an archive is, by its content.
mod decode;
/// The bytes of an archive.
mod fetch;
/// One request.
mod http;
/// What an archive would do, judged.
mod list;
/// One entry of a file system.
mod make;
/// Into the file system.
mod place;
/// Proxies of the environment.
mod proxy;
/// Reading ahead.
mod side;
/// tar.
mod tar;
/// Whom TLS trusts.
mod tls;
/// From bytes to a judged list.
mod unpack;
/// What stands in `fstree=URL`.
mod url;

use std::time::{Duration, Instant};

use rustix::{
    fs::{Mode, OFlags},
    process::{Resource, Rlimit},
};

pub(crate) use self::{list::Allowed, unpack::judge, url::Source};
use crate::{
    exit::{Exit, Fault},
    sys, tell,
};

/// What holds for all archives of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// So much data may they have.
    pub(crate) limit: u64,
    /// So long may fetching take.
    pub(crate) time: Duration,
    /// What is refused otherwise.
    pub(crate) allowed: Allowed,
    /// Whether the program is started all the same.
    pub(crate) optional: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { limit: 8 << 30, time: Duration::from_secs(600), allowed: Allowed::default(), optional: false }
    }
}

/// So much memory may all of it take, in bytes: what an archive may have its decoder ask for has no bound of its own in xz.
const MEMORY: u64 = 2 << 30;

/// Fetches, judges and puts all archives below `/`, in a process of its own, whose memory is limited here. Signals end it at once while nothing is written, and in order then.
pub(crate) fn apply(sources: &[Source], rules: &Rules, blocked: &sys::Mask) -> Result<(), Fault> {
    let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    if let Err(error) = rustix::process::setrlimit(Resource::As, limit) {
        tell::line(format!("fstree: its memory has no limit: {error}"));
    }
    let end = Instant::now() + rules.time;
    let unpacked = sources.iter().map(|source| {
        let fetched = fetch::open(source, rules.limit, end)?;
        unpack::unpack(source, rules, fetched)
    });
    let unpacked: Vec<_> = unpacked.collect::<Result<_, Fault>>()?;
    let internal = |what: &str, error: &dyn std::fmt::Display| {
        Fault::new(Exit::Internal, format!("fstree: {what}: {error}"))
    };
    let root = || {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        root.map_err(|error| internal("cannot open /", &error))
    };
    if unpacked.len() > 1 {
        let archives = sources.iter().zip(&unpacked);
        let archives =
            archives.map(|(source, unpacked)| (source.to_string(), unpacked.stripped.entries.as_slice()));
        chain::judge(&root()?, archives)?;
    }
    blocked.set().map_err(|error| internal("cannot block signals", &error))?;
    for (source, unpacked) in sources.iter().zip(unpacked) {
        let name = source.to_string();
        let told = unpacked.stripped.told.as_ref().map(|told| format!("; {told}")).unwrap_or_default();
        tell::line(format!(
            "fstree: {name}: {}, {} bytes, sha256:{}{told}",
            unpacked.kind,
            unpacked.bytes,
            unpack::hex(&unpacked.sum)
        ));
        let entries = &unpacked.stripped.entries;
        if entries.is_empty() {
            tell::line(format!("fstree: warning: {name} is an empty archive"));
        }
        let report = place::place(root()?, &name, entries, &unpacked.store, &sys::stop_asked)?;
        report.replaced.iter().for_each(|replaced| tell::line(format!("fstree: replaced {replaced}")));
        let kept = report.notes.iter().map(|note| format!("; could not keep {note}")).collect::<String>();
        tell::line(format!(
            "fstree: {name}: {} replaced, {} new, {} made{kept}",
            report.replaced.len(),
            report.new,
            tell::counted(report.folders, "folder")
        ));
        // This process ends next, and all it has with it: that takes less time at once than piece by piece.
        std::mem::forget(unpacked);
    }
    Ok(())
}
