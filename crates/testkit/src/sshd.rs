//! A real sshd, started by hand for each connection, and an `ssh` that knows the way to it. It stands for a machine elsewhere; that it is
//! this very one is what makes a wrong use of process ids show.

use std::{
    fs,
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use crate::{
    door::Door,
    programs::{command, find, tools},
};

/// What sshd wants of its machine, in a mount namespace of its own: a folder and a user. The home folder of root is not the machine's, so
/// that nobody's settings matter. `$0` is the folder.
const SETUP: &str = "
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind \"$0/passwd\" /etc/passwd
exec \"$@\"
";

/// An sshd at a port of 127.0.0.1, where root may log in with a key made for it.
pub struct Sshd {
    door: Door,
    connections: Connections,
    folder: TempDir,
}

/// Each with its sshd.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<Vec<(TcpStream, Child)>>>);

impl Connections {
    fn get(&self) -> std::sync::MutexGuard<'_, Vec<(TcpStream, Child)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for (stream, mut sshd) in self.get().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = sshd.wait();
        }
    }
}

impl Sshd {
    /// Takes connections at once; `settings` are lines of its sshd_config.
    ///
    /// # Panics
    /// If it cannot be started: this needs root and `cargo xtask setup`.
    pub fn start(settings: &[&str]) -> Sshd {
        let folder = tempfile::Builder::new().prefix("pepo-sshd-").tempdir().expect("a temporary folder");
        let path = folder.path();
        make_key(&path.join("host_key"));
        make_key(&path.join("key"));
        let connections = Connections::default();
        let door = Door::open({
            let (connections, folder) = (connections.clone(), path.to_owned());
            move |stream| serve(stream, &folder, &connections)
        });
        write_files(path, door.port(), settings);
        Sshd { door, connections, folder }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.door.port()
    }

    /// The address of an engine's socket behind it, as in `DOCKER_HOST`.
    pub fn address(&self, socket: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port(), socket.display())
    }

    /// A folder for PATH, in which the `ssh` command knows key and host key. (ssh does not look at HOME for its settings.)
    pub fn client(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// Changes what the `ssh` command is told, as a line of ssh_config that goes first.
    pub fn prefer(&self, setting: &str) {
        let path = self.folder.path().join("ssh_config");
        let rest = fs::read_to_string(&path).expect("own file");
        fs::write(path, format!("{setting}\n{rest}")).expect("own file");
    }

    /// What its processes said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        let mut connections = self.connections.get();
        connections.retain_mut(|(_, sshd)| matches!(sshd.try_wait(), Ok(None)));
        connections.len()
    }

    /// Cuts every connection, as a lost network does in the end; new ones are taken.
    pub fn cut(&self) {
        self.connections.cut();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut();
    }
}

fn make_key(path: &Path) {
    let made = command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "no key {}", path.display());
}

fn write_files(folder: &Path, port: u16, settings: &[&str]) {
    let at = |name: &str| folder.join(name).display().to_string();
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("made before");
    let home = at("home");
    fs::create_dir(&home).expect("own folder");
    let server = format!(
        "{}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM no\n",
        settings.join("\n"),
        at("host_key"),
        at("key.pub")
    );
    let client = format!(
        "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile none\n",
        at("key"),
        at("known_hosts")
    );
    let ssh = find("ssh").unwrap_or_else(|error| panic!("{error:#}"));
    let files = [
        ("sshd_config", server),
        ("ssh_config", client),
        ("known_hosts", format!("[127.0.0.1]:{port} {}", read("host_key.pub"))),
        ("passwd", format!("root:x:0:0::{home}:/bin/sh\nsshd:x:61235:65534::/run/sshd:/bin/false\n")),
        ("bin/ssh", format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", ssh.display(), at("ssh_config"))),
    ];
    fs::create_dir(folder.join("bin")).expect("own folder");
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("own folder");
    }
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("bin/ssh"), executable).expect("own file");
}

/// As inetd does it: one sshd for each connection, so that no port is picked before it is listened at.
fn serve(stream: TcpStream, folder: &Path, connections: &Connections) {
    let end = || stream.try_clone().map(OwnedFd::from);
    let (Ok(input), Ok(output)) = (end(), end()) else { return };
    let sshd = command("unshare")
        .args(["--mount", "sh", "-ec", SETUP])
        .arg(folder)
        .arg(tools().join("sshd/bin/sshd"))
        .arg("-i")
        .arg("-f")
        .arg(folder.join("sshd_config"))
        .arg("-E")
        .arg(folder.join("log"))
        .stdin(input)
        .stdout(output)
        .spawn();
    if let Ok(sshd) = sshd {
        connections.get().push((stream, sshd));
    }
}
