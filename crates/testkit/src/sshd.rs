//! A real sshd, started by hand for each connection, and an `ssh` that knows the way to it. It stands for a machine elsewhere; that it is
//! this very one is what makes a wrong use of process ids show.

use std::{
    fs,
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::OwnedFd,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use tempfile::TempDir;

use crate::programs::{command, find, tools};

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
    folder: TempDir,
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    connections: Mutex<Vec<(TcpStream, Child)>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of 127.0.0.1");
        let port = listener.local_addr().expect("it is bound").port();
        write_files(path, port, settings);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let (shared, folder) = (shared.clone(), path.to_owned());
            move || accept(&listener, &folder, &shared)
        });
        Sshd { folder, port, shared, listener: Some(thread) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of an engine's socket behind it, as in `DOCKER_HOST`.
    pub fn address(&self, socket: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, socket.display())
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
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain_mut(|(_, sshd)| matches!(sshd.try_wait(), Ok(None)));
        connections.len()
    }

    /// Cuts every connection, as a lost network does in the end; new ones are taken.
    pub fn cut(&self) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, mut sshd) in connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = sshd.wait();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.listener.take().map(JoinHandle::join);
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
fn accept(listener: &TcpListener, folder: &Path, shared: &Shared) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.ends.load(Ordering::SeqCst) {
            return;
        }
        let end = || stream.try_clone().map(OwnedFd::from);
        let (Ok(input), Ok(output)) = (end(), end()) else { continue };
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
            shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push((stream, sshd));
        }
    }
}
