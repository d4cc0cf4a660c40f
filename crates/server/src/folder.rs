//! The state folder: the authority, the digests of tokens, the policy, the audit log. Open to its owner alone.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use pepo_wire::{Code, Failure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    audit::Audit,
    certificates::{self, Authority},
    identity::{self, Kind, Known, NewToken, Terms},
    policy::{Policy, Rule, Verb},
};

const AUTHORITY: &str = "authority.der";
const AUTHORITY_KEY: &str = "authority.key";
const TOKENS: &str = "tokens.json";
const TOKENS_LOCK: &str = "tokens.lock";
const POLICY: &str = "policy.json";
const AUDIT: &str = "audit.log";
const HOLDER: &str = "server.id";
/// No file that is read here is larger, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The folder, with what was last read of it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    tokens: Watched<Tokens>,
    policy: Watched<Policy>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<Known>,
}

/// What tells one state of a file from the next: inode, length, time of change.
type Stamp = (u64, u64, SystemTime);

/// A file that is read again when it changed.
#[derive(Debug)]
struct Watched<T> {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<T>)>>,
}

impl Folder {
    /// Opens it; an empty or absent one gets an authority, one person who may do all (`admin`), and one node (`node`), whose tokens
    /// are given back: they are told once.
    ///
    /// # Errors
    /// [`Code::FileDenied`], [`Code::Usage`] for a file that is not understood.
    pub fn open(path: &Path) -> Result<(Folder, Vec<NewToken>), Failure> {
        Folder::open_with(path, true)
    }

    /// As [`Folder::open`]; without `first_tokens` an empty one gets no token.
    pub(crate) fn open_with(path: &Path, first_tokens: bool) -> Result<(Folder, Vec<NewToken>), Failure> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| denied(path, &error))?;
        let folder = Folder {
            path: path.to_owned(),
            tokens: Watched { path: path.join(TOKENS), read: Mutex::default() },
            policy: Watched { path: path.join(POLICY), read: Mutex::default() },
        };
        let mut new = Vec::new();
        if !folder.path.join(AUTHORITY_KEY).exists() {
            let authority = certificates::authority()?;
            folder.write(AUTHORITY, &authority.certificate)?;
            folder.write(AUTHORITY_KEY, &authority.key)?;
        }
        if !folder.policy.path.exists() {
            let all = Rule {
                who: vec!["admin".to_owned()],
                verbs: Verb::ALL.to_vec(),
                targets: vec!["*".to_owned()],
            };
            folder.write_json(POLICY, &Policy { rules: vec![all] })?;
        }
        if !folder.tokens.path.exists() && !first_tokens {
            folder.write_json(TOKENS, &Tokens::default())?;
        } else if !folder.tokens.path.exists() {
            new.push(folder.add_token("admin", Kind::Person, Terms::default())?);
            new.push(folder.add_token("node", Kind::Node, Terms::default())?);
        }
        folder.policy()?;
        folder.tokens()?;
        Ok((folder, new))
    }

    /// Makes a token for a person or a node. A running server knows it at once.
    ///
    /// # Errors
    /// [`Code::Usage`] where the name is taken or odd; [`Code::FileDenied`].
    pub fn add_token(&self, name: &str, kind: Kind, terms: Terms) -> Result<NewToken, Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            return Err(Failure::new(Code::Usage, format!("`{name}` is no name for a token"))
                .because("it has 1 to 63 letters, digits, `-`, `_` and `.`"));
        }
        let authority = self.authority()?;
        self.change_tokens(|tokens| {
            if tokens.tokens.iter().any(|known| known.name == name) {
                return Err(Failure::new(Code::Usage, format!("there is a token of `{name}` already"))
                    .hint(format!("take it out of {} first", self.tokens.path.display())));
            }
            let (new, known) = identity::make(name, kind, terms, Some(&authority.certificate))?;
            tokens.tokens.push(known);
            Ok((new, true))
        })
    }

    /// Changes the tokens, if `change` says so; one process at a time.
    pub(crate) fn change_tokens<T>(
        &self,
        change: impl FnOnce(&mut Tokens) -> Result<(T, bool), Failure>,
    ) -> Result<T, Failure> {
        let path = self.path.join(TOKENS_LOCK);
        let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(|error| denied(&path, &error))?;
        lock.lock().map_err(|error| denied(&path, &error))?;
        let mut tokens =
            if self.tokens.path.exists() { Tokens::clone(&*self.tokens.now()?) } else { Tokens::default() };
        let (done, changed) = change(&mut tokens)?;
        if changed {
            self.write_json(TOKENS, &tokens)?;
        }
        Ok(done)
    }

    pub(crate) fn authority(&self) -> Result<Authority, Failure> {
        let read = |name: &str| read(&self.path.join(name));
        Ok(Authority { certificate: read(AUTHORITY)?, key: read(AUTHORITY_KEY)? })
    }

    /// The tokens as they are now.
    pub(crate) fn tokens(&self) -> Result<Arc<Tokens>, Failure> {
        self.tokens.now()
    }

    /// The policy as it is now; without one that can be read nothing is allowed.
    pub(crate) fn policy(&self) -> Result<Arc<Policy>, Failure> {
        self.policy.now()
    }

    pub(crate) fn audit(&self) -> Result<Audit, Failure> {
        let path = self.path.join(AUDIT);
        Audit::open(&path).map_err(|error| denied(&path, &error))
    }

    /// What tells this server from others that share its store; the same at each start.
    pub(crate) fn holder(&self) -> Result<String, Failure> {
        let path = self.path.join(HOLDER);
        if !path.exists() {
            self.write(HOLDER, identity::random::<12>()?.as_bytes())?;
        }
        let id = String::from_utf8(read(&path)?).map_err(|error| broken(&path, &error))?;
        Ok(id.trim().to_owned())
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(value).map_err(|error| {
            Failure::new(Code::Internal, "the state cannot be written").because_of(&error)
        })?;
        self.write(name, &text)
    }

    /// Whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| denied(&path, &error))
    }
}

impl<T: DeserializeOwned> Watched<T> {
    /// Reads it again if it changed. A file that is gone or not understood is an error, and not the last one that was.
    fn now(&self) -> Result<Arc<T>, Failure> {
        let stamp = fs::metadata(&self.path)
            .and_then(|metadata| Ok((metadata.ino(), metadata.len(), metadata.modified()?)))
            .map_err(|error| denied(&self.path, &error))?;
        let mut known = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((when, value)) = &*known
            && *when == stamp
        {
            return Ok(Arc::clone(value));
        }
        let value =
            Arc::new(serde_json::from_slice(&read(&self.path)?).map_err(|error| broken(&self.path, &error))?);
        *known = Some((stamp, Arc::clone(&value)));
        Ok(value)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let length = fs::metadata(path).map_err(|error| denied(path, &error))?.len();
    if length > MAX_FILE {
        return Err(Failure::new(Code::TooLarge, format!("{} is larger than 4 MiB", path.display())));
    }
    fs::read(path).map_err(|error| denied(path, &error))
}

fn denied(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::FileDenied, format!("the server cannot use {}", path.display())).because(error)
}

fn broken(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::new(Code::Usage, format!("{} is not understood", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_makes_all_and_the_second_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (first, new) = Folder::open(&path).unwrap();
        assert_eq!(new.iter().map(|token| token.kind).collect::<Vec<_>>(), [Kind::Person, Kind::Node]);
        assert!(first.policy().unwrap().allows("admin", Verb::Modify, "docker/shop@node"));
        let (second, new) = Folder::open(&path).unwrap();
        assert_eq!(new, Vec::new());
        assert_eq!(second.tokens().unwrap().tokens, first.tokens().unwrap().tokens);
        assert_eq!(second.authority().unwrap().key, first.authority().unwrap().key);
        for entry in fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "open to its owner alone");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_server_whose_words_are_kept_by_others_tells_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let (state, new) = Folder::open_with(folder.path(), false).unwrap();
        assert_eq!((new, state.tokens().unwrap().tokens.len()), (Vec::new(), 0));
        assert_eq!(state.add_token("admin", Kind::Person, Terms::default()).unwrap().name, "admin");
        assert_eq!(Folder::open(folder.path()).unwrap().1, Vec::new());
    }

    #[test]
    fn a_policy_that_cannot_be_read_allows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (state, _) = Folder::open(folder.path()).unwrap();
        fs::write(folder.path().join(POLICY), "{").unwrap();
        assert_eq!(state.policy().unwrap_err().code(), Code::Usage);
        fs::remove_file(folder.path().join(POLICY)).unwrap();
        assert_eq!(state.policy().unwrap_err().code(), Code::FileDenied);
    }

    #[test]
    fn a_name_has_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let (state, _) = Folder::open(folder.path()).unwrap();
        state.add_token("ann", Kind::Person, Terms::default()).unwrap();
        assert_eq!(state.tokens().unwrap().tokens.len(), 3);
        for name in ["ann", "", "a b", "a/b", "a@b"] {
            assert_eq!(
                state.add_token(name, Kind::Node, Terms::default()).unwrap_err().code(),
                Code::Usage,
                "{name}"
            );
        }
    }
}
