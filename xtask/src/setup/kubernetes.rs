//! Kubernetes and etcd, built from their Go modules, as no distribution has them: `fixtures/kubernetes/` says which
//! versions, with a module for each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::toolkit::installed_go;
use crate::paths;
use crate::run::cmd;

/// The version that tests use.
const USUAL: &str = "1.34";
/// A newer one; where it is wished for, it is built.
const NEWER: &str = "1.36";

const KUBERNETES: &str = "k8s.io/kubernetes";
const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];
const ETCD: &str = "go.etcd.io/etcd/server/v3";
/// Where these packages keep their version, which the linker puts there.
const STAMPED: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

pub(crate) fn has_usual() -> bool {
    has(USUAL)
}

pub(crate) fn usual() -> Result<()> {
    build(USUAL)
}

pub(crate) fn has_newer() -> bool {
    has(NEWER)
}

pub(crate) fn newer() -> Result<()> {
    build(NEWER)
}

fn home(version: &str) -> PathBuf {
    paths::tools().join(format!("kubernetes-{version}"))
}

fn module(name: &str) -> PathBuf {
    paths::root().join("fixtures/kubernetes").join(name)
}

fn has(version: &str) -> bool {
    let built = fs::read_to_string(home(version).join("version")).unwrap_or_default();
    pins(version).is_ok_and(|pins| pins.join(" ") == built)
}

/// The versions of Kubernetes and etcd that go together.
fn pins(version: &str) -> Result<[String; 2]> {
    Ok([pin(&module(version), KUBERNETES)?, pin(&module("etcd"), ETCD)?])
}

/// The version of a package that the module in `folder` requires.
fn pin(folder: &Path, package: &str) -> Result<String> {
    let file = folder.join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map(|line| line.trim().trim_start_matches("require "));
    let mut versions = lines.filter_map(|line| line.strip_prefix(package)?.strip_prefix(' '));
    let version = versions.next().with_context(|| format!("{} requires no {package}", file.display()))?;
    Ok(version.split(' ').next().unwrap_or(version).to_owned())
}

fn build(version: &str) -> Result<()> {
    let [kubernetes, etcd] = pins(version)?;
    let bin = home(version).join("bin");
    fs::create_dir_all(&bin)?;
    // Its thousands of packages are of no use to anything else: they are not left in Go's cache.
    let cache = paths::cache().join(format!("kubernetes-{version}-build"));
    let packages = PROGRAMS.map(|program| format!("{KUBERNETES}/cmd/{program}"));
    let built = go_build(&module(version), &cache, &bin, &stamps(&kubernetes), &packages)
        .and_then(|()| go_build(&module("etcd"), &cache, &bin, "", &[ETCD.to_owned()]));
    let _ = fs::remove_dir_all(&cache);
    built?;
    // Its package is not called like it.
    fs::rename(bin.join("server"), bin.join("etcd"))?;
    Ok(fs::write(home(version).join("version"), format!("{kubernetes} {etcd}"))?)
}

/// One build of all programs, gentle to whoever works beside it.
fn go_build(module: &Path, cache: &Path, bin: &Path, stamps: &str, packages: &[String]) -> Result<()> {
    cmd("nice")
        .arg(installed_go()?)
        .args(["build", "-trimpath", "-ldflags", &format!("-s -w {stamps}"), "-o"])
        .arg(bin)
        .args(packages)
        .env("GOCACHE", cache)
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .env("CGO_ENABLED", "0")
        .dir(module)
        .logged(&paths::log("kubernetes"))
}

/// What tells the linker the version: clients and servers ask each other for it.
fn stamps(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let facts = [
        ("gitVersion", version),
        ("gitMajor", "1"),
        ("gitMinor", minor),
        ("gitTreeState", "clean"),
        ("buildDate", "2026-01-01T00:00:00Z"),
    ];
    let stamp = |package| facts.map(|(name, value)| format!("-X {package}.{name}={value}")).join(" ");
    STAMPED.map(stamp).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_that_is_offered_is_pinned() {
        for version in [USUAL, NEWER] {
            let [kubernetes, etcd] = pins(version).unwrap();
            assert!(kubernetes.starts_with(&format!("v{version}.")), "{kubernetes}");
            assert!(etcd.starts_with("v3."), "{etcd}");
            assert!(stamps(&kubernetes).contains(&format!("version.gitVersion={kubernetes} ")));
        }
    }
}
