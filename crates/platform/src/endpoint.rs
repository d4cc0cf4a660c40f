//! Addresses of engines, as users and docker's settings write them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::PlatformError;

/// The port of an engine without TLS, where the address names none.
const TCP_PORT: u16 = 2375;
/// And with it.
const TLS_PORT: u16 = 2376;

/// Where an engine is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket in this machine's file system. A desktop VM may stand behind it.
    Unix(PathBuf),
    /// A named pipe of Windows.
    Pipe(String),
    /// Without TLS.
    Tcp {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// With TLS.
    Tls {
        /// Name or address, which the engine's certificate must be for; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Where `ca.pem`, `cert.pem` and `key.pem` are.
        folder: PathBuf,
    },
    /// Through the `ssh` command, as docker's own command does it.
    Ssh {
        /// The user there, when the address names one.
        user: Option<String>,
        /// Name or address.
        host: String,
        /// The port, when the address names one.
        port: Option<u16>,
        /// The engine's socket there, when the address names one.
        socket: Option<String>,
    },
}

impl Endpoint {
    /// Reads `unix://`, `tcp://`, `http://`, `ssh://`, `npipe://`.
    ///
    /// # Errors
    /// [`PlatformError::BadAddress`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Endpoint, PlatformError> {
        let bad = |why| PlatformError::BadAddress { address: text.to_owned(), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme such as unix://"))?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "unix" => Err(bad("a socket's path is absolute, as in unix:///run/docker.sock")),
            "npipe" if !rest.is_empty() => Ok(Endpoint::Pipe(rest.replace('/', "\\"))),
            "tcp" | "http" => {
                let (host, port) = tcp(rest).map_err(bad)?;
                Ok(Endpoint::Tcp { host, port: port.unwrap_or(TCP_PORT) })
            }
            "ssh" => ssh(rest).ok_or_else(|| bad("user, host or port is malformed")),
            "https" => Err(bad("TLS is spoken with Docker's engine alone; ssh:// reaches the others")),
            _ => Err(bad("the scheme is none of unix, tcp, http, ssh, npipe")),
        }
    }

    /// As [`Endpoint::parse`], but TCP is dialled with TLS and the files in `folder`; `https://` as well.
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn parse_tls(text: &str, folder: &Path) -> Result<Endpoint, PlatformError> {
        let Some(("tcp" | "http" | "https", rest)) = text.split_once("://") else {
            return Endpoint::parse(text);
        };
        let bad = |why| PlatformError::BadAddress { address: text.to_owned(), why };
        let (host, port) = tcp(rest).map_err(bad)?;
        Ok(Endpoint::Tls { host, port: port.unwrap_or(TLS_PORT), folder: folder.to_owned() })
    }

    /// Is it dialled without leaving this machine? Says nothing yet about whose kernel answers.
    #[must_use]
    pub fn is_here(&self) -> bool {
        match self {
            Endpoint::Unix(_) | Endpoint::Pipe(_) => true,
            Endpoint::Ssh { .. } => false,
            Endpoint::Tcp { host, .. } | Endpoint::Tls { host, .. } => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Pipe(path) => write!(f, "npipe://{}", path.replace('\\', "/")),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                write!(f, "tcp://{host}:{port}")
            }
            Endpoint::Ssh { user, host, port, socket } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// `HOST[:PORT]` → host, port.
pub(crate) fn tcp(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port, path) = authority(text).ok_or("host or port is malformed")?;
    if path.is_empty() || path == "/" { Ok((host, port)) } else { Err("a path is not supported here") }
}

/// `HOST[:PORT][/PATH]` → host, port, path.
fn authority(text: &str) -> Option<(String, Option<u16>, String)> {
    let end = text.find('/').unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    // A host that begins with a dash would be read as an option by ssh.
    if host.is_empty()
        || host.starts_with('-')
        || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@')
    {
        return None;
    }
    let port =
        port.map(|port| port.parse::<u16>().ok().filter(|&port| port > 0).ok_or(())).transpose().ok()?;
    Some((host.to_owned(), port, path.to_owned()))
}

fn ssh(rest: &str) -> Option<Endpoint> {
    let at = rest.find('/').unwrap_or(rest.len());
    let (user, rest) = match rest[..at].rfind('@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    // A password in an address would show up in lists of processes.
    if user.is_some_and(|user| {
        user.is_empty() || user.starts_with('-') || user.contains(|c: char| c == ':' || c.is_whitespace())
    }) {
        return None;
    }
    let (host, port, path) = authority(rest)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@".contains(c);
    if !path.chars().all(plain) {
        return None;
    }
    let socket = Some(path).filter(|path| !path.is_empty() && path != "/");
    Some(Endpoint::Ssh { user: user.map(str::to_owned), host, port, socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for (text, here) in [
            ("unix:///var/run/docker.sock", true),
            ("npipe:////./pipe/docker_engine", true),
            ("tcp://localhost:2375", true),
            ("tcp://127.0.0.1:1234", true),
            ("tcp://[::1]:2375", true),
            ("tcp://10.0.0.7:2375", false),
            ("tcp://build.example:2375", false),
            ("ssh://ada@build.example:2222/run/user/1000/podman/podman.sock", false),
            ("ssh://localhost", false),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(endpoint.is_here(), here, "{text}");
        }
        assert_eq!(Endpoint::parse("tcp://build").unwrap().to_string(), "tcp://build:2375");
        let tls = |text| Endpoint::parse_tls(text, Path::new("/certificates")).unwrap();
        for text in ["tcp://build", "https://build", "tcp://build:2376"] {
            assert_eq!(tls(text).to_string(), "tcp://build:2376");
            assert!(matches!(tls(text), Endpoint::Tls { .. }) && !tls(text).is_here());
        }
        assert!(tls("https://[::1]:1").is_here());
        assert_eq!(tls("unix:///run/docker.sock"), Endpoint::parse("unix:///run/docker.sock").unwrap());
    }

    #[test]
    fn bad_addresses_say_why() {
        for (text, why) in [
            ("/run/docker.sock", "no scheme"),
            ("unix://run/docker.sock", "absolute"),
            ("https://build:2376", "TLS"),
            ("moon://x", "scheme"),
            ("tcp://:2375", "malformed"),
            ("tcp://a:99999", "malformed"),
            ("tcp://a:0", "malformed"),
            ("tcp://[::1", "malformed"),
            ("tcp://a:1/base", "path"),
            ("ssh://-oProxyCommand=x", "malformed"),
            ("ssh://-l@host", "malformed"),
            ("ssh://ada:secret@host", "malformed"),
            ("ssh://host/run/x;reboot", "malformed"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
