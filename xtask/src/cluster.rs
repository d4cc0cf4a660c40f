//! `cargo xtask cluster`: a real Kubernetes on this machine. It is built once; the test kit starts and ends it.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build;

/// `up`, `down` or `status`: installs and builds what `up` needs, then hands the words on.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let yes = args.switch("yes");
    let version = args.value("version")?;
    let mut words = args.rest();
    if words.first().is_some_and(|verb| verb == "up") {
        setup::ensure(Purpose::Cluster, yes)?;
        ensure(version.as_deref(), yes)?;
    }
    words.extend(version.into_iter().flat_map(|version| ["--version".to_owned(), version]));
    build::cluster(words)
}

/// Builds the Kubernetes of this version, if setup does not do so unasked.
pub(crate) fn ensure(version: Option<&str>, yes: bool) -> Result<()> {
    match version {
        Some("1.36") => setup::ensure(Purpose::NewerCluster, yes),
        _ => Ok(()),
    }
}
