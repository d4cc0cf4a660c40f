//! Where the socket of a CRI runtime is looked for.

use std::path::{Path, PathBuf};

use crate::{Endpoint, Environment, PlatformError};

/// The usual sockets, in the order they are tried; the first that is there is taken. Before them go `--cri-socket` and
/// `CONTAINER_RUNTIME_ENDPOINT` (crictl's variable).
pub const USUAL: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
];

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundSocket {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) absent: Vec<PathBuf>,
}

/// The socket to use: a chosen one whether it is there or not, else the first usual one that is there.
pub(crate) fn choose(flag: Option<&Path>, environment: &Environment) -> Result<FoundSocket, PlatformError> {
    let chosen = match flag {
        Some(path) => Some(path.to_string_lossy().into_owned()),
        None => environment.get("CONTAINER_RUNTIME_ENDPOINT").map(str::to_owned),
    };
    if let Some(text) = chosen {
        return Ok(FoundSocket { socket: Some(path_of(&text)?), absent: Vec::new() });
    }
    let mut absent = Vec::new();
    for usual in USUAL {
        let path = environment.path(usual);
        if is_socket(&path) {
            return Ok(FoundSocket { socket: Some(path), absent });
        }
        absent.push(path);
    }
    Ok(FoundSocket { socket: None, absent })
}

/// A path, or an address that is one.
fn path_of(text: &str) -> Result<PathBuf, PlatformError> {
    if text.starts_with('/') {
        return Ok(PathBuf::from(text));
    }
    match Endpoint::parse(text)? {
        Endpoint::Unix(path) => Ok(path),
        _ => Err(PlatformError::BadAddress {
            address: text.to_owned(),
            why: "a CRI runtime is reached by its unix socket, on its own node",
        }),
    }
}

/// Is there something at this path that is no plain file or folder?
pub(crate) fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir() && !metadata.is_file())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_chosen_socket_goes_before_the_usual_ones() {
        let root = tempfile::tempdir().unwrap();
        let environment =
            Environment::of(root.path(), [("CONTAINER_RUNTIME_ENDPOINT", "unix:///run/mine.sock")]);
        let socket = |flag: Option<&str>| choose(flag.map(Path::new), &environment).unwrap().socket.unwrap();
        assert_eq!(socket(Some("/flag.sock")), Path::new("/flag.sock"));
        assert_eq!(socket(Some("unix:///flag.sock")), Path::new("/flag.sock"));
        assert_eq!(socket(None), Path::new("/run/mine.sock"));
        assert!(
            choose(Some(Path::new("tcp://h:1")), &environment)
                .unwrap_err()
                .to_string()
                .contains("unix socket")
        );
    }

    #[test]
    fn the_usual_sockets_are_tried_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment::of(root.path(), []);
        let none = choose(None, &environment).unwrap();
        assert_eq!((none.socket, none.absent.len()), (None, USUAL.len()));
        let mut sockets = Vec::new();
        for usual in USUAL.iter().rev() {
            let path = environment.path(usual);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            sockets.push(UnixListener::bind(&path).unwrap());
            assert_eq!(choose(None, &environment).unwrap().socket, Some(path));
        }
    }
}
