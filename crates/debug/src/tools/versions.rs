//! What programs say of their versions, and remembering it: to ask a gdb takes as long as to attach one.
//!
//! Kept in memory, and from one command to the next in `$XDG_CACHE_HOME/pepo/versions.json` (by default
//! `~/.cache/pepo/versions.json`), by what makes a file the same. A script may stand for a program that is replaced without it:
//! what a script said is believed for a day, and only while it is new enough.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Version, entry, is_program};

/// How long a program may take to say its version.
const SAYS_VERSION: Duration = Duration::from_secs(5);
/// The most that is read of what it says, in bytes.
const MOST: u64 = 16 << 10;
/// How long what a script said is believed.
const SCRIPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The most programs that are remembered.
const MOST_PROGRAMS: usize = 100;

/// What was said, by the file's identity.
type Said = BTreeMap<String, Saying>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saying {
    version: String,
    /// When, in seconds since 1970.
    at: u64,
}

/// What a program says when it is asked for its version; asked once for each file.
pub(super) fn of(path: &Path, kept: Option<&Path>) -> Option<Version> {
    static ASKED: OnceLock<Mutex<BTreeMap<String, Option<Version>>>> = OnceLock::new();
    let asked = ASKED.get_or_init(Mutex::default);
    let identity = identity(path)?;
    if let Some(version) = asked.lock().unwrap_or_else(PoisonError::into_inner).get(&identity) {
        return version.clone();
    }
    let version =
        kept.and_then(|file| recall(file, &identity, path)).or_else(|| learn(kept, &identity, path));
    asked.lock().unwrap_or_else(PoisonError::into_inner).insert(identity, version.clone());
    version
}

/// Device, inode, size and time of change.
fn identity(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    Some(format!("{}:{}:{}:{}.{}", file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Where it is kept, as the environment says; nowhere without a home.
pub(super) fn file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("pepo/versions.json"))
}

/// What is kept in a file of our own user; nothing when it can't be read.
fn read(file: &Path) -> Said {
    let own = fs::metadata(file).is_ok_and(|file| file.uid() == rustix::process::geteuid().as_raw());
    let text = own.then(|| fs::File::open(file).ok()).flatten().and_then(|file| {
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).ok().map(|_| text)
    });
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn recall(file: &Path, identity: &str, path: &Path) -> Option<Version> {
    let saying = read(file).remove(identity)?;
    let believed = !is_script(path) || now().saturating_sub(saying.at) < SCRIPT.as_secs();
    Version::find(&saying.version).filter(|_| believed)
}

/// Asks, and keeps what is worth keeping. That it can't be kept is nobody's business.
fn learn(file: Option<&Path>, identity: &str, path: &Path) -> Option<Version> {
    let version = ask(path).or_else(|| by_sibling(path))?;
    if let Some(file) = file.filter(|_| !is_script(path) || is_new_enough(path, &version)) {
        let mut said = read(file);
        if said.len() >= MOST_PROGRAMS {
            said.clear();
        }
        said.insert(identity.to_owned(), Saying { version: version.to_string(), at: now() });
        if let Err(error) = write(file, &said) {
            tracing::debug!(%error, file = %file.display(), "versions are not kept");
        }
    }
    Some(version)
}

fn write(file: &Path, said: &Said) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    // Others may read or write it at the same time.
    let new = folder.join(format!(".versions.{}", std::process::id()));
    fs::write(&new, serde_json::to_vec(said)?)?;
    fs::rename(&new, file).inspect_err(|_| drop(fs::remove_file(&new)))
}

fn is_new_enough(path: &Path, version: &Version) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    entry(name).is_none_or(|entry| version.pair() >= entry.minimum)
}

fn is_script(path: &Path) -> bool {
    let mut begin = [0; 2];
    fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut begin).is_ok()) && &begin == b"#!"
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn ask(path: &Path) -> Option<Version> {
    let name = path.file_name()?.to_str()?;
    // These two have a word for it where others have an option.
    let argument =
        if name.starts_with("dlv") || name.starts_with("lldb-server") { "version" } else { "--version" };
    let mut command = crate::guard::command(path);
    // Without a home delve starts no telemetry, a process which would outlive us.
    command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    // Some say it on standard error.
    let (reader, writer) = std::io::pipe().ok()?;
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().ok()?)
        .stderr(writer)
        .current_dir("/");
    let mut child = command.spawn().ok()?;
    // Our copies of the pipe's writing end would keep it from ending.
    drop(command);
    let ended = crate::guard::ends_within(&child, SAYS_VERSION);
    if !ended {
        let _ = child.kill();
    }
    let mut said = String::new();
    if ended {
        let _ = reader.take(MOST).read_to_string(&mut said);
    }
    let _ = child.wait();
    Version::find(&said)
}

/// lldb-dap before version 20 does not say its version: the stub beside it does, and so do names of files and folders.
fn by_sibling(path: &Path) -> Option<Version> {
    let name = path.file_name()?.to_str()?;
    let suffix = name.strip_prefix("lldb-dap")?;
    let sibling = path.with_file_name(format!("lldb-server{suffix}"));
    let asked = is_program(&sibling).then(|| ask(&sibling)).flatten();
    asked.or_else(|| {
        let real = fs::canonicalize(path).ok()?;
        let named = |part: &str| {
            ["llvm-", "lldb-dap-"].iter().find_map(|start| Version::find(part.strip_prefix(start)?))
        };
        real.components().rev().find_map(|part| named(part.as_os_str().to_str()?))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that counts how often it was asked.
    fn program(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn check(said: &str, kept: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "gdb", &format!("#!/bin/sh\necho {said}\n"));
        let file = folder.path().join("cache/pepo/versions.json");
        let identity = identity(&path).unwrap();
        assert_eq!(recall(&file, &identity, &path), None);
        let version = learn(Some(&file), &identity, &path).unwrap();
        assert_eq!(version.to_string(), said);
        assert_eq!(recall(&file, &identity, &path).is_some(), kept, "{said}");
        let mut old = read(&file);
        old.values_mut().for_each(|saying| saying.at -= SCRIPT.as_secs() + 1);
        write(&file, &old).unwrap();
        assert_eq!(recall(&file, &identity, &path), None, "a script is asked again");
        program(folder.path(), "gdb", "#!/bin/sh\necho 99.9\n");
        assert_ne!(super::identity(&path).unwrap(), identity);
        let names: Vec<_> = fs::read_dir(file.parent().unwrap()).into_iter().flatten().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn what_a_program_said_is_kept_as_long_as_it_is_the_same() {
        check("16.3", true);
    }

    #[test]
    fn what_is_too_old_is_asked_again_if_a_script_said_it() {
        check("13.1", false);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("versions.json");
        for text in [&b"nonsense"[..], b"{\"a\": 1}", &[b'['; 40_000]] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), Said::new());
        }
    }
}
