//! The cluster that tests share: up before them, down after them, and also if this process does not live to see that.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, bail, ensure};

use super::build;
use crate::paths;

/// The versions of Kubernetes that `--kubernetes` names; the first one if it was not typed.
pub(crate) fn versions(wanted: Option<&str>) -> Result<&'static [&'static str]> {
    match wanted {
        None | Some("1.34") => Ok(&["1.34"]),
        Some("1.36") => Ok(&["1.36"]),
        Some("all") => Ok(&["1.34", "1.36"]),
        Some(other) => bail!("--kubernetes takes 1.34, 1.36 or all, not `{other}`"),
    }
}

/// A cluster and the process that keeps it: with the end of its input it takes the cluster down.
pub(crate) struct Cluster {
    keeper: Child,
    folder: PathBuf,
}

impl Cluster {
    /// Starts one of this version, in a folder of its own.
    pub(crate) fn up(version: &str) -> Result<Cluster> {
        let folder = paths::target_dir().join("xtask").join(format!("cluster-{version}"));
        let words = ["hold", "--version", version].map(str::to_owned);
        let mut keeper = build::held_cluster(words.into()).arg(&folder).held()?;
        let out = keeper.stdout.take().context("its output is piped")?;
        let mut cluster = Cluster { keeper, folder };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "up" {
            cluster.end()?;
            bail!("the cluster did not start");
        }
        Ok(cluster)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes it down; what it leaves behind is an error.
    pub(crate) fn down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.keeper.stdin.take());
        let status = self.keeper.wait()?;
        ensure!(status.success(), "the cluster's keeper: {status}; its logs: {}/log", self.folder.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_chosen_by_name() {
        assert_eq!(versions(None).unwrap(), ["1.34"]);
        assert_eq!(versions(Some("all")).unwrap().len(), 2);
        assert!(versions(Some("1.2")).is_err());
    }
}
