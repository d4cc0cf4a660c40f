//! The administrator's kubectl.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Cluster, daemon};

impl Cluster {
    /// A kubectl of the administrator, ready for its words.
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = daemon::plain(self.programs().join("kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        kubectl
    }

    /// Runs kubectl as administrator, and gives what it says.
    ///
    /// # Errors
    /// With its own words, if it fails.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let output = self.kubectl_command().args(words).output().context("kubectl does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies objects given as YAML or JSON.
    ///
    /// # Errors
    /// With the API server's words, if it refuses one.
    pub fn apply(&self, objects: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command();
        kubectl.args(["apply", "--filename", "-"]).stdin(Stdio::piped());
        let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input is a pipe")?.write_all(objects.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
