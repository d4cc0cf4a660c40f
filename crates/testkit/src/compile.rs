//! Compiles small programs, once for each content: the cache is keyed by source, compiler and arguments, so it
//! never has to be emptied by hand.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::programs::command;

/// One compilation: steps that are run in an empty folder, each a command line.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// File name of what comes out.
    pub(crate) name: String,
    /// Source file, absolute.
    pub(crate) source: PathBuf,
    /// Command lines, run in order in the folder where the result is to appear.
    pub(crate) steps: Vec<Vec<String>>,
}

/// The root of this workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is crates/testkit")
}

/// The folder with the result of `recipe`, made if it is not there yet.
pub(crate) fn cached(recipe: &Recipe) -> Result<PathBuf> {
    let cache = cache_folder();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let done = cache.join(format!("{}-{}", recipe.name, key(recipe)?));
    if done.exists() {
        return Ok(done);
    }
    let lock = File::create(done.with_extension("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
    if !done.exists() {
        let folder = tempfile::Builder::new().prefix("making-").tempdir_in(&cache)?;
        for step in &recipe.steps {
            run(step, folder.path())?;
        }
        // Containers' users and other users of this machine run it as well.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::rename(folder.keep(), &done)?;
    }
    Ok(done)
}

/// `$HOME/.cache/pepo/fixtures`.
pub(crate) fn cache_folder() -> PathBuf {
    PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/pepo/fixtures")
}

/// First digits of the hash over all that decides what comes out.
fn key(recipe: &Recipe) -> Result<String> {
    let mut hash = Sha256::new();
    let text = fs::read(&recipe.source).with_context(|| format!("no source {}", recipe.source.display()))?;
    // The path is in the debug information, so two work trees must not share a result.
    hash.update(recipe.source.as_os_str().as_encoded_bytes());
    hash.update(&text);
    for step in &recipe.steps {
        hash.update(format!("{step:?}"));
        hash.update(version(&step[0]));
    }
    Ok(hex(&hash.finalize())[..16].to_owned())
}

/// What a compiler says of its version; asked once a process.
fn version(program: &str) -> String {
    static KNOWN: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let mut known = known.lock().expect("asking cannot panic");
    known
        .entry(program.to_owned())
        .or_insert_with(|| {
            let argument = if program == "go" { "version" } else { "--version" };
            let output = command(program).arg(argument).output();
            output
                .map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .clone()
}

fn run(step: &[String], folder: &Path) -> Result<()> {
    let mut command = command(&step[0]);
    command.args(&step[1..]).current_dir(folder);
    // The toolchain of this workspace, wherever the cache is.
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod -buildvcs=false");
    if env::var_os("RUSTUP_TOOLCHAIN").is_none() {
        command.env("RUSTUP_TOOLCHAIN", toolchain());
    }
    let output = command.output().with_context(|| {
        format!("{} does not start; `cargo xtask setup` installs what tests need", step[0])
    })?;
    ensure!(output.status.success(), "{}:\n{}", step.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The channel of `rust-toolchain.toml`.
fn toolchain() -> String {
    let text = fs::read_to_string(workspace().join("rust-toolchain.toml")).unwrap_or_default();
    let channel = text.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.map_or("stable", |quoted| quoted.trim_matches('"')).to_owned()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
