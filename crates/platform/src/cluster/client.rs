//! The API server: which one, as whom, and what it says when it refuses.

use std::path::PathBuf;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{
    ClusterOptions,
    proxy::{self, Proxy},
};
use crate::{Environment, PlatformError};

/// So long a connection may take to be made.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(5);
/// As many names are asked for; nobody reads through more.
const MOST_NAMES: usize = 500;

/// One cluster, as the kubeconfig and the command line choose it.
pub(super) struct Cluster {
    files: Vec<PathBuf>,
    context: Option<String>,
    namespace: Option<String>,
    /// What the surroundings say of proxies.
    proxy: Proxy,
    joined: OnceCell<Joined>,
}

/// A client, made without a word to the server.
pub(super) struct Joined {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// `https://10.0.0.1:6443`.
    server: String,
    /// The context's name, where there is a kubeconfig.
    context: Option<String>,
}

impl Cluster {
    /// Reads nothing yet.
    pub(super) fn new(options: &ClusterOptions, environment: &Environment) -> Cluster {
        Cluster {
            files: files(options, environment),
            context: options.context.clone(),
            namespace: options.namespace.clone(),
            proxy: Proxy::of(environment),
            joined: OnceCell::new(),
        }
    }

    /// For messages; the server's address once it is known.
    pub(super) fn address(&self) -> String {
        match (self.joined.get(), &self.context) {
            (Some(joined), _) => format!("{}, namespace {}", joined.server, joined.namespace),
            (None, Some(context)) => format!("context {context}"),
            (None, None) => "the current context".to_owned(),
        }
    }

    /// The client, and the namespace that is meant.
    pub(super) async fn join(&self) -> Result<&Joined, PlatformError> {
        self.joined.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Joined, PlatformError> {
        let (mut config, context) = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        let mut server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        if let Some(proxy) = &config.proxy_url {
            server += &format!(", by the proxy {}", proxy::address(proxy));
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| no_cluster(&error))?;
        Ok(Joined { client, namespace, server, context })
    }

    /// The names of the kubeconfig's contexts.
    pub(super) fn contexts(&self) -> Vec<String> {
        let read = self.files.iter().filter_map(|file| Kubeconfig::read_from(file).ok());
        read.flat_map(|one| one.contexts).map(|one| one.name).collect()
    }

    /// As kubectl: the files that are named, else the service account of the pod that this runs in.
    async fn config(&self) -> Result<(Config, Option<String>), PlatformError> {
        let mut all: Option<Kubeconfig> = None;
        for file in self.files.iter().filter(|file| file.exists()) {
            let one = Kubeconfig::read_from(file).map_err(|error| no_cluster(&error))?;
            all = Some(match all {
                Some(before) => before.merge(one).map_err(|error| no_cluster(&error))?,
                None => one,
            });
        }
        let Some(all) = all else {
            let mut config = self.in_cluster()?;
            config.proxy_url = self.proxy.to(&config.cluster_url)?;
            return Ok((config, None));
        };
        if let Some(missing) =
            self.context.as_ref().filter(|name| !all.contexts.iter().any(|one| one.name == **name))
        {
            let there: Vec<String> = all.contexts.iter().map(|one| one.name.clone()).collect();
            let why = format!("there is no context `{missing}`; there are {}", crate::error::list(&there));
            return Err(PlatformError::NoCluster { why });
        }
        let chosen = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let context = self.context.clone().or_else(|| all.current_context.clone());
        let names_proxy = proxy::is_named(&all, context.as_deref());
        let mut config =
            Config::from_custom_kubeconfig(all, &chosen).await.map_err(|error| no_cluster(&error))?;
        if !names_proxy {
            config.proxy_url = self.proxy.to(&config.cluster_url)?;
        }
        Ok((config, context))
    }

    fn in_cluster(&self) -> Result<Config, PlatformError> {
        Config::incluster().map_err(|error| {
            tracing::debug!(%error, "not in a pod");
            let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
            let why = match files.as_slice() {
                [] => "no kubeconfig was named".to_owned(),
                files => format!("there is no kubeconfig at {}", crate::error::list(files)),
            };
            PlatformError::NoCluster { why }
        })
    }
}

impl Joined {
    /// What says that this is production, if a name does.
    pub(super) fn production(&self) -> Option<String> {
        let context = self.context.as_deref().filter(|name| says_production(name));
        let namespace = || Some(self.namespace.as_str()).filter(|name| says_production(name));
        context
            .map(|name| format!("the context {name}"))
            .or_else(|| namespace().map(|name| format!("the namespace {name}")))
    }

    /// Reads an object or a list by its path.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        act: &'static str,
        path: &str,
    ) -> Result<T, PlatformError> {
        let request = http_get(path).map_err(|error| garbled(act, &error))?;
        self.client.request(request).await.map_err(|error| self.told(act, error))
    }

    /// Reads a text by its path.
    pub(super) async fn text(&self, act: &'static str, path: &str) -> Result<String, PlatformError> {
        let request = http_get(path).map_err(|error| garbled(act, &error))?;
        self.client.request_text(request).await.map_err(|error| self.told(act, error))
    }

    /// Deletes an object, if it is the one of that uid; what is gone is no error. `how` is more of its options.
    pub(super) async fn delete(
        &self,
        act: &'static str,
        path: &str,
        uid: Option<&str>,
        how: serde_json::Value,
    ) -> Result<(), PlatformError> {
        let mut options = how;
        options["apiVersion"] = "v1".into();
        options["kind"] = "DeleteOptions".into();
        if let Some(uid) = uid {
            options["preconditions"] = serde_json::json!({ "uid": uid });
        }
        let request = with_json(act, hyper::Request::delete(path), &options)?;
        match self.client.request_text(request).await.map_err(|error| self.told(act, error)) {
            Ok(_) | Err(PlatformError::Refused { status: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes an object in a collection by its path.
    pub(super) async fn post(
        &self,
        act: &'static str,
        path: &str,
        object: &serde_json::Value,
    ) -> Result<serde_json::Value, PlatformError> {
        let request = with_json(act, hyper::Request::post(path), object)?;
        self.client.request(request).await.map_err(|error| self.told(act, error))
    }

    /// The names of a list's objects, of which the server sends no more than that they are there.
    pub(super) async fn names(&self, act: &'static str, path: &str) -> Result<Vec<String>, PlatformError> {
        let request = hyper::Request::get(format!("{path}?limit={MOST_NAMES}"))
            .header("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
            .body(Vec::new())
            .map_err(|error| garbled(act, &error))?;
        let list: serde_json::Value =
            self.client.request(request).await.map_err(|error| self.told(act, error))?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(|one| Some(one["metadata"]["name"].as_str()?.to_owned())).collect())
    }

    /// Replaces an object by its path; the answer is as the server has it then.
    pub(super) async fn put(
        &self,
        act: &'static str,
        path: &str,
        object: &serde_json::Value,
    ) -> Result<serde_json::Value, PlatformError> {
        let request = with_json(act, hyper::Request::put(path), object)?;
        self.client.request(request).await.map_err(|error| self.told(act, error))
    }

    /// The server's refusal, or why it did not answer.
    pub(super) fn told(&self, act: &'static str, error: kube::Error) -> PlatformError {
        match error {
            kube::Error::Api(status) if status.code == 403 => match missing_right(&status.message) {
                Some((verb, resource)) => PlatformError::ClusterDenied {
                    act,
                    verb,
                    resource,
                    namespace: self.namespace.clone(),
                    words: status.message,
                },
                None => refused(act, *status),
            },
            kube::Error::Api(status) => refused(act, *status),
            kube::Error::SerdeError(error) => garbled(act, &error),
            // The words of the answer are lost; older servers ask for the one verb, newer ones for both.
            kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(status))
                if status.as_u16() == 403 =>
            {
                PlatformError::ClusterDenied {
                    act,
                    verb: "get,create".to_owned(),
                    resource: "pods/exec".to_owned(),
                    namespace: self.namespace.clone(),
                    words: format!("the API server answered {status}"),
                }
            }
            other => PlatformError::Unreachable {
                engine: "kubernetes",
                address: self.server.clone(),
                source: Box::new(other),
            },
        }
    }
}

/// Is a word of this name one for production, and not what comes before it?
fn says_production(name: &str) -> bool {
    let words: Vec<String> =
        name.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase).collect();
    let is = |word: &str, known: &[&str]| known.contains(&word);
    words.iter().enumerate().any(|(at, word)| {
        let before = at.checked_sub(1).and_then(|at| words.get(at));
        is(word, &["prod", "prd", "production"]) && !before.is_some_and(|before| is(before, &["non", "pre"]))
    })
}

fn refused(act: &'static str, status: kube::core::Status) -> PlatformError {
    PlatformError::Refused { engine: "kubernetes", act, status: status.code, words: status.message }
}

fn garbled(act: &'static str, error: &dyn std::error::Error) -> PlatformError {
    PlatformError::Garbled { engine: "kubernetes", act, why: error.to_string() }
}

fn no_cluster(error: &dyn std::error::Error) -> PlatformError {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    // Some tell their cause already.
    let mut why = String::new();
    for cause in causes.iter().filter(|cause| !cause.is_empty()) {
        if !why.contains(cause.as_str()) {
            why = if why.is_empty() { cause.clone() } else { format!("{why}: {cause}") };
        }
    }
    PlatformError::NoCluster { why }
}

/// A request that sends an object.
fn with_json(
    act: &'static str,
    request: hyper::http::request::Builder,
    object: &serde_json::Value,
) -> Result<hyper::Request<Vec<u8>>, PlatformError> {
    let request = request.header("content-type", "application/json").body(object.to_string().into_bytes());
    request.map_err(|error| garbled(act, &error))
}

fn http_get(path: &str) -> Result<hyper::Request<Vec<u8>>, hyper::http::Error> {
    hyper::Request::get(path).body(Vec::new())
}

/// Verb and resource in the words of RBAC: `User "x" cannot get resource "pods" in API group "" in the namespace "y"`.
/// Admission, which answers with the same status, has other words.
fn missing_right(words: &str) -> Option<(String, String)> {
    let (_, after) = words.split_once(" cannot ")?;
    let (verb, after) = after.split_once(" resource \"")?;
    let (resource, after) = after.split_once('"')?;
    let group = after.split_once("API group \"").and_then(|(_, after)| after.split_once('"'));
    let resource = match group {
        Some((group, _)) if !group.is_empty() => in_group(resource, group),
        _ => resource.to_owned(),
    };
    Some((verb.to_owned(), resource))
}

/// As `kubectl create role --resource` has it: `deployments.apps`, `deployments.apps/scale`.
fn in_group(resource: &str, group: &str) -> String {
    match resource.split_once('/') {
        Some((resource, sub)) => format!("{resource}.{group}/{sub}"),
        None => format!("{resource}.{group}"),
    }
}

/// `--kubeconfig`, else those in `KUBECONFIG`, else the usual one.
fn files(options: &ClusterOptions, environment: &Environment) -> Vec<PathBuf> {
    if let Some(file) = &options.kubeconfig {
        return vec![file.clone()];
    }
    match environment.get("KUBECONFIG") {
        Some(list) => std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => environment.home().map(|home| home.join(".kube/config")).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_read_from_the_servers_words_and_admissions_words_are_none() {
        let rbac = r#"pods "a" is forbidden: User "u" cannot patch resource "pods/ephemeralcontainers" in API group "" in the namespace "n""#;
        assert_eq!(missing_right(rbac), Some(("patch".into(), "pods/ephemeralcontainers".into())));
        let group = r#"deployments.apps "a" is forbidden: User "u" cannot get resource "deployments" in API group "apps" in the namespace "n""#;
        assert_eq!(missing_right(group), Some(("get".into(), "deployments.apps".into())));
        assert_eq!(missing_right(r#"pods "a" is forbidden: violates PodSecurity "restricted:latest""#), None);
    }

    #[test]
    fn production_is_a_word_of_a_name() {
        for (name, expected) in [
            ("prod", true),
            ("eu-Prod-1", true),
            ("arn:aws:eks:eu:1:cluster/production", true),
            ("product", false),
            ("non-production", false),
            ("reproduce", false),
        ] {
            assert_eq!(says_production(name), expected, "{name}");
        }
    }

    #[test]
    fn kubeconfigs_are_found_where_kubectl_finds_them() {
        let root = std::path::Path::new("/");
        let options = ClusterOptions::default();
        let home = Environment::of(root, [("HOME", "/me")]);
        assert_eq!(files(&options, &home), [PathBuf::from("/me/.kube/config")]);
        let joined = std::env::join_paths(["/a", "/b"]).unwrap();
        let set = Environment::of(root, [("HOME", "/me"), ("KUBECONFIG", joined.to_str().unwrap())]);
        assert_eq!(files(&options, &set), [PathBuf::from("/a"), PathBuf::from("/b")]);
        let typed = ClusterOptions { kubeconfig: Some("/c".into()), ..ClusterOptions::default() };
        assert_eq!(files(&typed, &set), [PathBuf::from("/c")]);
    }
}
