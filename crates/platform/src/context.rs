//! Docker's contexts: named addresses of engines in docker's settings folder.
//!
//! Layout (docker/cli, `cli/context/store`): `config.json` names the current context,
//! `contexts/meta/<SHA-256 of the name>/meta.json` holds its address, and `contexts/tls/<the same>/docker` what TLS needs.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{Endpoint, PlatformError, environment::Environment};

/// Settings larger than this are not read, in bytes.
const MAX_SETTINGS: u64 = 4 << 20;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: String,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: DockerEndpoint,
}

#[derive(Deserialize)]
struct DockerEndpoint {
    #[serde(rename = "Host")]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The engine that docker's own command would talk to, when settings choose one: `DOCKER_HOST`, else `DOCKER_CONTEXT`, else the
/// current context. `None`: nothing is chosen, the usual sockets are tried.
///
/// # Errors
/// [`PlatformError::BadAddress`], [`PlatformError::BadSettings`].
pub(crate) fn chosen(environment: &Environment) -> Result<Option<Endpoint>, PlatformError> {
    if let Some(host) = environment.get("DOCKER_HOST") {
        let tls = environment.get("DOCKER_TLS_VERIFY").is_some() || host.starts_with("https://");
        return match environment.docker_certificates().filter(|_| tls) {
            Some(folder) => Endpoint::parse_tls(host, &folder),
            None => Endpoint::parse(host),
        }
        .map(Some);
    }
    let Some(folder) = environment.docker_config() else { return Ok(None) };
    let name = match environment.get("DOCKER_CONTEXT") {
        Some(name) => name.to_owned(),
        None => current(&folder.join("config.json"))?,
    };
    if name.is_empty() || name == "default" {
        return Ok(None);
    }
    by_name(&folder, &name).map(Some)
}

/// The current context's name; empty when there is none.
fn current(path: &Path) -> Result<String, PlatformError> {
    match read(path) {
        Ok(None) => Ok(String::new()),
        Ok(Some(text)) => {
            let config: Config = serde_json::from_str(&text).map_err(|error| settings(path, error.into()))?;
            Ok(config.current_context)
        }
        Err(error) => Err(settings(path, error)),
    }
}

fn by_name(folder: &Path, name: &str) -> Result<Endpoint, PlatformError> {
    let id = hex(&Sha256::digest(name.as_bytes()));
    let path = folder.join("contexts/meta").join(&id).join("meta.json");
    let text = read(&path).map_err(|error| settings(&path, error))?;
    let text = text.ok_or_else(|| PlatformError::NoContext { name: name.to_owned(), path: path.clone() })?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| settings(&path, error.into()))?;
    let DockerEndpoint { host, skip_tls_verify } = meta.endpoints.docker;
    let certificates = folder.join("contexts/tls").join(&id).join("docker");
    if !certificates.is_dir() {
        return Endpoint::parse(&host);
    }
    match Endpoint::parse_tls(&host, &certificates)? {
        Endpoint::Tls { .. } if skip_tls_verify => {
            let why = "its context says to trust whoever answers (SkipTLSVerify), which is not done here";
            Err(PlatformError::BadAddress { address: host, why })
        }
        endpoint => Ok(endpoint),
    }
}

/// The file's text; `None` when there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_SETTINGS => {
            Err(io::Error::other(format!("larger than {MAX_SETTINGS} bytes")))
        }
        Ok(_) => fs::read_to_string(path).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn settings(path: &Path, source: io::Error) -> PlatformError {
    PlatformError::BadSettings { path: PathBuf::from(path), source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(current: &str, contexts: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        fs::create_dir_all(&docker).unwrap();
        fs::write(docker.join("config.json"), current).unwrap();
        for (name, meta) in contexts {
            let folder = docker.join("contexts/meta").join(hex(&Sha256::digest(name.as_bytes())));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("meta.json"), meta).unwrap();
        }
        home
    }

    /// What is chosen with `variables` and the home folder set.
    fn choose(home: &Path, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let of = |name: &str| {
            variables.iter().find(|variable| variable.0 == name).map_or("", |variable| variable.1)
        };
        let names = ["DOCKER_HOST", "DOCKER_CONTEXT"].map(|name| (name, of(name)));
        let environment = Environment::of(home, [names[0], names[1], ("HOME", home.to_str().unwrap())]);
        chosen(&environment)
            .map(|endpoint| endpoint.map(|endpoint| endpoint.to_string()))
            .map_err(|error| error.to_string())
    }

    const META: &str = r#"{"Name":"lab","Metadata":{},"Endpoints":{"docker":{"Host":"ssh://ada@lab","SkipTLSVerify":false}}}"#;

    #[test]
    fn docker_host_goes_before_the_context_and_that_before_the_current_one() {
        let home = folder(
            r#"{"auths":{},"currentContext":"lab"}"#,
            &[("lab", META), ("near", &META.replace("ssh://ada@lab", "unix:///n.sock"))],
        );
        let path = home.path();
        assert_eq!(choose(path, &[]), Ok(Some("ssh://ada@lab".into())));
        assert_eq!(choose(path, &[("DOCKER_CONTEXT", "near")]), Ok(Some("unix:///n.sock".into())));
        assert_eq!(
            choose(path, &[("DOCKER_CONTEXT", "near"), ("DOCKER_HOST", "tcp://h:1")]),
            Ok(Some("tcp://h:1".into()))
        );
        assert_eq!(choose(path, &[("DOCKER_CONTEXT", "default")]), Ok(None));
    }

    #[test]
    fn nothing_chosen_is_no_error() {
        assert_eq!(choose(folder("{}", &[]).path(), &[]), Ok(None));
        assert_eq!(choose(tempfile::tempdir().unwrap().path(), &[]), Ok(None));
        assert_eq!(choose(tempfile::tempdir().unwrap().path(), &[("DOCKER_HOST", "")]), Ok(None));
    }

    #[test]
    fn broken_settings_are_named() {
        let home = folder("{", &[]);
        assert!(choose(home.path(), &[]).unwrap_err().contains("config.json"));
        let home = folder(r#"{"currentContext":"gone"}"#, &[]);
        assert!(choose(home.path(), &[]).unwrap_err().contains("gone"));
        let home = folder(r#"{"currentContext":"odd"}"#, &[("odd", r#"{"Endpoints":{}}"#)]);
        assert!(choose(home.path(), &[]).unwrap_err().contains("meta.json"));
    }

    #[test]
    fn tls_is_asked_for_by_the_environment_or_by_a_contexts_folder() {
        let meta = META.replace("ssh://ada@lab", "tcp://lab:2376");
        let home = folder(r#"{"currentContext":"safe"}"#, &[("safe", &meta)]);
        let docker = home.path().join(".docker");
        let tls = docker.join("contexts/tls").join(hex(&Sha256::digest(b"safe"))).join("docker");
        let chosen = |variables: [(&str, &str); 3]| {
            let home = ("HOME", home.path().to_str().unwrap());
            let [one, two, three] = variables;
            chosen(&Environment::of(home.1.as_ref(), [one, two, three, home])).unwrap().unwrap()
        };
        let folder_of = |endpoint| match endpoint {
            Endpoint::Tls { folder, .. } => Some(folder),
            _ => None,
        };
        let none = [("DOCKER_HOST", ""), ("DOCKER_TLS_VERIFY", ""), ("DOCKER_CERT_PATH", "")];
        assert_eq!(folder_of(chosen(none)), None);
        fs::create_dir_all(&tls).unwrap();
        assert_eq!(folder_of(chosen(none)), Some(tls));
        let host = ("DOCKER_HOST", "tcp://h:1");
        assert_eq!(folder_of(chosen([host, none[1], none[2]])), None);
        let verify = ("DOCKER_TLS_VERIFY", "1");
        assert_eq!(folder_of(chosen([host, verify, none[2]])), Some(docker.clone()));
        let path = ("DOCKER_CERT_PATH", "/certificates");
        assert_eq!(folder_of(chosen([host, verify, path])), Some("/certificates".into()));
        let https = ("DOCKER_HOST", "https://h");
        assert_eq!(folder_of(chosen([https, none[1], none[2]])), Some(docker));
    }

    #[test]
    fn a_context_that_trusts_whoever_answers_is_refused() {
        let meta = META.replace("ssh://ada@lab", "tcp://lab:2376").replace("false", "true");
        let home = folder(r#"{"currentContext":"rash"}"#, &[("rash", &meta)]);
        let tls = home.path().join(".docker/contexts/tls").join(hex(&Sha256::digest(b"rash"))).join("docker");
        fs::create_dir_all(tls).unwrap();
        assert!(choose(home.path(), &[]).unwrap_err().contains("SkipTLSVerify"));
    }

    #[test]
    fn the_name_of_the_folder_is_the_digest_of_the_context_name() {
        // sha256("desktop-linux"), as docker's own command names the folder.
        assert_eq!(
            hex(&Sha256::digest(b"desktop-linux")),
            "fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e"
        );
    }
}
