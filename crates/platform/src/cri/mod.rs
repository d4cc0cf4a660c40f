//! containerd and CRI-O, by the Container Runtime Interface (v1), on their own node.
//!
//! A container's own name (`app`) says little where many pods run, so the name that `ps` prints is `POD.CONTAINER`, with the pod's
//! namespace before it where two would be the same; `CONTAINER` alone works when it is the only one, and so do ids.
//! The interface has no way to put a file into a container, so there is no helper: the agent in this process it is.

/// Generated from `proto/runtime/v1/cri.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, dead_code)]
pub(crate) mod proto {
    tonic::include_proto!("runtime.v1");
}
/// Where its socket is looked for.
pub(crate) mod sockets;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use pepo_wire::{
    Failure,
    name::{Kind, TargetName},
};
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

use self::proto::{
    Container, ContainerState, ContainerStatusRequest, ContainerStatusResponse, ListContainersRequest,
    ListPodSandboxRequest, PodSandboxMetadata, VersionRequest, runtime_service_client::RuntimeServiceClient,
};
use crate::{
    HostPid, Listed, Located, Platform, PlatformError, Reached, State,
    local::Local,
    names::{Known, Meant, find, short},
};

/// A call may take so long.
const CALL: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes; verbose statuses hold whole runtime specifications.
const MAX_ANSWER: usize = 64 << 20;
/// Lists ask for so many containers' details at once, and no longer than this.
const AT_ONCE: usize = 16;
const DETAILS: Duration = Duration::from_millis(1200);

/// One CRI runtime.
pub(crate) struct Cri {
    socket: PathBuf,
    local: Local,
    service: OnceCell<RuntimeServiceClient<Channel>>,
}

impl Cri {
    /// Dials nothing yet.
    pub(crate) fn new(socket: PathBuf, local: Local) -> Cri {
        Cri { socket, local, service: OnceCell::new() }
    }

    /// The one connection; it is dialled again when it broke.
    async fn service(&self) -> Result<RuntimeServiceClient<Channel>, PlatformError> {
        let service = self.service.get_or_try_init(|| async {
            let socket = self.socket.clone();
            let connector = tower::service_fn(move |_| dial(socket.clone()));
            let endpoint = Endpoint::from_static("http://cri.pepo.invalid").timeout(CALL);
            let channel =
                endpoint.connect_with_connector(connector).await.map_err(|error| self.unreachable(error))?;
            let mut service = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            let version = service.version(VersionRequest { version: String::new() }).await;
            let version = version.map_err(|status| self.refused("tell its version", &status))?.into_inner();
            tracing::debug!(
                runtime = version.runtime_name,
                version = version.runtime_version,
                "met a CRI runtime"
            );
            Ok::<_, PlatformError>(service)
        });
        Ok(service.await?.clone())
    }

    /// All containers with the names they go by.
    async fn containers(&self) -> Result<Vec<(Container, Known)>, PlatformError> {
        let mut service = self.service().await?;
        let mut other = service.clone();
        let (pods, containers) = futures::join!(
            other.list_pod_sandbox(ListPodSandboxRequest {}),
            service.list_containers(ListContainersRequest {})
        );
        let pods = pods.map_err(|status| self.refused("list its pods", &status))?.into_inner().items;
        let pods = pods.into_iter().map(|pod| (pod.id, pod.metadata.unwrap_or_default())).collect();
        let containers = containers
            .map_err(|status| self.refused("list its containers", &status))?
            .into_inner()
            .containers;
        Ok(name_all(containers, &pods))
    }

    /// A container's main process as the runtime claims.
    async fn status(&self, id: &str) -> Result<(ContainerStatusResponse, Option<HostPid>), PlatformError> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let status = self.service().await?.container_status(request).await;
        let status =
            status.map_err(|status| self.refused("tell a container's status", &status))?.into_inner();
        let pid = pid_in(&status.info);
        Ok((status, pid))
    }

    fn unreachable(&self, error: tonic::transport::Error) -> PlatformError {
        let address = self.address();
        if crate::error::io_kind(&error) == Some(io::ErrorKind::PermissionDenied) {
            return PlatformError::SocketDenied { address, engine: "cri" };
        }
        PlatformError::Unreachable { engine: "cri", address, source: Box::new(error) }
    }

    fn refused(&self, act: &'static str, status: &tonic::Status) -> PlatformError {
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => {
                let words = io::Error::other(status.message().to_owned());
                PlatformError::Unreachable { engine: "cri", address: self.address(), source: Box::new(words) }
            }
            code => {
                let status_number = u16::try_from(code as i32).unwrap_or_default();
                PlatformError::Refused {
                    engine: "cri",
                    act,
                    status: status_number,
                    words: status.message().to_owned(),
                }
            }
        }
    }
}

#[async_trait]
impl Platform for Cri {
    fn kind(&self) -> Kind {
        Kind::Cri
    }

    fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn is_here(&self) -> bool {
        true
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let containers = self.containers().await?;
        let running = containers
            .iter()
            .filter(|(one, _)| one.state() == ContainerState::ContainerRunning)
            .map(|(one, _)| one.id.clone());
        let pids: HashMap<String, HostPid> = futures::stream::iter(running.collect::<Vec<_>>())
            .map(|id| async move { (self.status(&id).await, id) })
            .buffer_unordered(AT_ONCE)
            .take_until(tokio::time::sleep(DETAILS))
            .filter_map(|(status, id)| async { Some((id, status.ok()?.1?)) })
            .collect()
            .await;
        Ok(containers.into_iter().map(|(one, known)| listed(one, known, &pids)).collect())
    }

    async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
        let containers = self.containers().await?;
        // A container that ended gives way to a running one of the same name: restarts keep the dead for a while.
        let running = |one: &Container| one.state() == ContainerState::ContainerRunning;
        let alive: Vec<Known> =
            containers.iter().filter(|(one, _)| running(one)).map(|(_, known)| known.clone()).collect();
        let every: Vec<Known> = containers.iter().map(|(_, known)| known.clone()).collect();
        let meant = match find(&name.name, &alive) {
            Meant::None(_) => (find(&name.name, &every), &every),
            meant => (meant, &alive),
        };
        let typed = |name: &String| format!("cri/{name}");
        let known = match meant {
            (Meant::One(at), of) => &of[at],
            (Meant::Many(names), _) => {
                return Err(PlatformError::Ambiguous {
                    name: name.clone(),
                    candidates: names.iter().map(typed).collect(),
                }
                .into());
            }
            (Meant::None(near), _) => {
                let near = near.iter().map(typed).collect();
                return Err(PlatformError::NotFound {
                    name: name.clone(),
                    near,
                    searched: vec![self.address()],
                    elsewhere: Vec::new(),
                }
                .into());
            }
        };
        let (status, pid) = self.status(&known.id).await?;
        let status = status.status.unwrap_or_default();
        let full = TargetName { kind: Some(Kind::Cri), name: known.name.clone() };
        let state = state(status.state());
        if !state.has_process() {
            return Err(PlatformError::NotRunning { name: full, state: state.to_string() }.into());
        }
        Ok(Located {
            name: full,
            image: status.image.map(image_name).unwrap_or_default(),
            state,
            // The kubelet checks health, and the runtime knows nothing of it.
            health: None,
            container_id: status.id,
            pid,
            labels: status.labels.into_iter().collect(),
            start_time: 0,
            facts: Default::default(),
            in_pod: None,
            production: None,
            notes: Vec::new(),
        })
    }

    async fn reach(&self, located: &Located) -> Result<Reached, Failure> {
        self.local.reach_only(located).await
    }
}

fn listed(one: Container, known: Known, pids: &HashMap<String, HostPid>) -> Listed {
    Listed {
        name: TargetName { kind: Some(Kind::Cri), name: known.name },
        state: state(one.state()),
        image: one.image.map(image_name).unwrap_or_default(),
        health: None,
        pid: pids.get(&one.id).copied(),
        labels: one.labels.into_iter().collect(),
        created: u64::try_from(one.created_at)
            .ok()
            .and_then(|nanos| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))),
        container_id: one.id,
    }
}

fn image_name(image: proto::ImageSpec) -> String {
    if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
}

fn state(state: ContainerState) -> State {
    match state {
        ContainerState::ContainerCreated => State::Created,
        ContainerState::ContainerRunning => State::Running,
        ContainerState::ContainerExited => State::Exited,
        ContainerState::ContainerUnknown => State::Other("unknown".to_owned()),
    }
}

/// The main process in a verbose status: `{"pid": 4711, …}` under "info".
fn pid_in(info: &HashMap<String, String>) -> Option<HostPid> {
    #[derive(serde::Deserialize)]
    struct Info {
        pid: u32,
    }
    let info: Info = serde_json::from_str(info.get("info")?).ok()?;
    HostPid::new(info.pid)
}

/// Names each container: `POD.CONTAINER`, else `NAMESPACE.POD.CONTAINER`, else its id; the longer names and `CONTAINER` alone work as well.
fn name_all(
    containers: Vec<Container>,
    pods: &HashMap<String, PodSandboxMetadata>,
) -> Vec<(Container, Known)> {
    let forms: Vec<[String; 3]> = containers.iter().map(|one| forms(one, pods)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (form, one) in
        forms.iter().flat_map(|forms| &forms[..2]).zip(containers.iter().flat_map(|one| [one, one]))
    {
        // The dead of a restarted container do not take its name.
        *counts.entry(form).or_default() += usize::from(one.state() == ContainerState::ContainerRunning);
    }
    let names: Vec<String> = forms
        .iter()
        .zip(&containers)
        .map(|(forms, one)| {
            let limit = usize::from(one.state() == ContainerState::ContainerRunning);
            let unique = forms[..2]
                .iter()
                .find(|form| counts.get(form.as_str()).copied().unwrap_or_default() <= limit);
            unique.cloned().unwrap_or_else(|| short(&one.id).to_owned())
        })
        .collect();
    let known = forms.into_iter().zip(names).map(|(forms, name)| (forms.to_vec(), name));
    containers
        .into_iter()
        .zip(known)
        .map(|(one, (aliases, name))| {
            let id = one.id.clone();
            (one, Known { name, aliases, id })
        })
        .collect()
}

/// `POD.CONTAINER`, `NAMESPACE.POD.CONTAINER`, `CONTAINER`.
fn forms(one: &Container, pods: &HashMap<String, PodSandboxMetadata>) -> [String; 3] {
    let name = one.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
    match pods.get(&one.pod_sandbox_id) {
        Some(pod) => [format!("{}.{name}", pod.name), format!("{}.{}.{name}", pod.namespace, pod.name), name],
        None => [short(&one.id).to_owned(), one.id.clone(), name],
    }
}

#[cfg(unix)]
async fn dial(socket: PathBuf) -> io::Result<TokioIo<tokio::net::UnixStream>> {
    tokio::net::UnixStream::connect(socket).await.map(TokioIo::new)
}

#[cfg(not(unix))]
async fn dial(_: PathBuf) -> io::Result<TokioIo<tokio::net::TcpStream>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "CRI runtimes are reached on their own Linux node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, pod: &str, name: &str, state: ContainerState) -> Container {
        Container {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }),
            state: state.into(),
            ..Container::default()
        }
    }

    fn pods(pods: &[(&str, &str, &str)]) -> HashMap<String, PodSandboxMetadata> {
        let pod = |&(id, namespace, name): &(&str, &str, &str)| {
            (
                id.to_owned(),
                PodSandboxMetadata {
                    name: name.into(),
                    namespace: namespace.into(),
                    ..PodSandboxMetadata::default()
                },
            )
        };
        pods.iter().map(pod).collect()
    }

    #[test]
    fn containers_are_named_as_shortly_as_they_can_be_told_apart() {
        use ContainerState::{ContainerExited as Exited, ContainerRunning as Running};
        let pods = pods(&[("p1", "shop", "cart-0"), ("p2", "test", "cart-0"), ("p3", "shop", "web-1")]);
        let containers = vec![
            container("1111111111111111", "p1", "app", Running),
            container("2222222222222222", "p2", "app", Running),
            container("3333333333333333", "p3", "app", Running),
            container("4444444444444444", "p3", "app", Exited),
            container("5555555555555555", "gone", "app", Running),
            container("6666666666666666", "p3", "proxy", Exited),
        ];
        let named = name_all(containers, &pods);
        let names: Vec<&str> = named.iter().map(|(_, known)| known.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "shop.cart-0.app",
                "test.cart-0.app",
                "web-1.app",
                "444444444444",
                "555555555555",
                "web-1.proxy"
            ]
        );
        let known: Vec<Known> = named.into_iter().map(|(_, known)| known).collect();
        assert_eq!(find("shop.web-1.proxy", &known), Meant::One(5));
        assert_eq!(find("proxy", &known), Meant::One(5));
        assert!(matches!(find("app", &known), Meant::Many(names) if names.len() == 5));
    }

    #[test]
    fn the_runtimes_claim_of_a_process_is_read_from_the_verbose_status() {
        let info =
            |text: &str| pid_in(&HashMap::from([("info".to_owned(), text.to_owned())])).map(HostPid::get);
        assert_eq!(info(r#"{"sandboxID":"x","pid":4711,"runtimeSpec":{}}"#), Some(4711));
        assert_eq!(info(r#"{"pid":0}"#), None);
        assert_eq!(info("{"), None);
        assert_eq!(pid_in(&HashMap::new()), None);
    }
}
