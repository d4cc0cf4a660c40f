//! The calls of the CRI that a kubelet makes to run a pod, each as a plain function that waits for its answer.

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use self::runtime::runtime_service_client::RuntimeServiceClient;
use super::RunOptions;
use crate::image::Image;

/// What `crates/platform/proto/runtime/v1/cri.proto` says.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(super) mod runtime {
    tonic::include_proto!("runtime.v1");
}

/// A CRI at a unix socket; each call has its own connection and thread, so that async tests may use it too.
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    fn call<T, F>(&self, ask: impl FnOnce(RuntimeServiceClient<Channel>) -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let ask_and_wait = || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio.block_on(async {
                let service = RuntimeServiceClient::new(connect(self.socket.clone()).await?);
                let answer = tokio::time::timeout(Duration::from_secs(60), ask(service)).await;
                Ok(answer
                    .context("no answer in a minute")?
                    .map_err(|status| anyhow::anyhow!("{status}"))?
                    .into_inner())
            })
        };
        thread::scope(|scope| scope.spawn(ask_and_wait).join()).expect("a call does not panic")
    }

    pub(crate) fn version(&self) -> Result<()> {
        self.call(|mut service| async move { service.version(runtime::VersionRequest::default()).await })
            .map(drop)
    }

    pub(super) fn run_sandbox(&self, config: runtime::PodSandboxConfig) -> Result<String> {
        let request = runtime::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        let answer = self.call(|mut service| async move { service.run_pod_sandbox(request).await });
        Ok(answer.context("RunPodSandbox")?.pod_sandbox_id)
    }

    /// Ends and removes a pod with its containers.
    pub(super) fn remove_sandbox(&self, pod: &str) -> Result<()> {
        let stop = runtime::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        let remove = runtime::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.call(|mut service| async move { service.stop_pod_sandbox(stop).await })
            .context("StopPodSandbox")?;
        self.call(|mut service| async move { service.remove_pod_sandbox(remove).await })
            .context("RemovePodSandbox")
            .map(drop)
    }

    pub(super) fn create(
        &self,
        pod: &str,
        config: runtime::ContainerConfig,
        sandbox: runtime::PodSandboxConfig,
    ) -> Result<String> {
        let request = runtime::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let answer = self.call(|mut service| async move { service.create_container(request).await });
        Ok(answer.context("CreateContainer")?.container_id)
    }

    pub(super) fn start(&self, id: &str) -> Result<()> {
        let request = runtime::StartContainerRequest { container_id: id.to_owned() };
        self.call(|mut service| async move { service.start_container(request).await })
            .context("StartContainer")
            .map(drop)
    }

    /// Kills it: without a word beforehand CRI-O waits ten seconds for a process 1 that ignores SIGTERM.
    pub(super) fn kill(&self, id: &str) -> Result<()> {
        self.stop(id, 0)
    }

    /// Asks it to end, and kills it when it has not after so many seconds.
    pub(super) fn stop(&self, id: &str, timeout: i64) -> Result<()> {
        let request = runtime::StopContainerRequest { container_id: id.to_owned(), timeout };
        self.call(|mut service| async move { service.stop_container(request).await })
            .context("StopContainer")
            .map(drop)
    }

    pub(super) fn list(&self) -> Result<Vec<runtime::Container>> {
        let request = runtime::ListContainersRequest::default();
        let answer = self.call(|mut service| async move { service.list_containers(request).await });
        Ok(answer.context("ListContainers")?.containers)
    }

    /// Runs a program in it; its status and what it said.
    pub(super) fn exec(&self, id: &str, line: &[&str]) -> Result<(i64, String)> {
        let cmd = line.iter().map(|word| (*word).to_owned()).collect();
        let request = runtime::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 30 };
        let answer = self.call(|mut service| async move { service.exec_sync(request).await });
        let answer = answer.context("ExecSync")?;
        let said = [answer.stdout, answer.stderr].concat();
        Ok((answer.exit_code.into(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// The status it ended with.
    pub(super) fn exit_code(&self, id: &str) -> Result<i64> {
        let request = runtime::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.call(|mut service| async move { service.container_status(request).await });
        let status = answer.context("ContainerStatus")?.status.context("no status")?;
        anyhow::ensure!(status.state() == runtime::ContainerState::ContainerExited, "it still runs");
        Ok(status.exit_code.into())
    }

    /// The verbose part of a container's status.
    pub(super) fn status(&self, id: &str) -> Result<HashMap<String, String>> {
        let request = runtime::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = self.call(|mut service| async move { service.container_status(request).await });
        Ok(answer.context("ContainerStatus")?.info)
    }
}

async fn connect(socket: PathBuf) -> Result<Channel> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is not used: the connector knows the socket.
    let channel = Endpoint::from_static("http://cri").connect_with_connector(connector).await;
    channel.context("no CRI at its socket")
}

/// `pid` is empty, `host`, or the id of the container to share with.
pub(super) fn namespaces(network: runtime::NamespaceMode, pid: &str) -> runtime::NamespaceOption {
    let (mode, target) = match pid {
        "" => (runtime::NamespaceMode::Container, ""),
        "host" => (runtime::NamespaceMode::Node, ""),
        other => (runtime::NamespaceMode::Target, other),
    };
    runtime::NamespaceOption {
        network: network.into(),
        pid: mode.into(),
        ipc: runtime::NamespaceMode::Pod.into(),
        target_id: target.to_owned(),
    }
}

/// The runtime's default profile unless `seccomp=unconfined` is asked for.
pub(super) fn seccomp(options: &RunOptions) -> runtime::SecurityProfile {
    use runtime::security_profile::ProfileType::{RuntimeDefault, Unconfined};
    let unconfined = options.security_opt.iter().any(|option| option == "seccomp=unconfined");
    let kind = if unconfined { Unconfined } else { RuntimeDefault };
    runtime::SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() }
}

/// A container as a kubelet would ask for it, in the namespaces of its pod.
pub(super) fn container(
    image: &Image,
    options: &RunOptions,
    sandbox: Option<&runtime::LinuxPodSandboxConfig>,
) -> Result<runtime::ContainerConfig> {
    let pod = sandbox.and_then(|linux| linux.security_context.as_ref());
    let mut context = runtime::LinuxContainerSecurityContext {
        capabilities: Some(runtime::Capability {
            add_capabilities: options.cap_add.clone(),
            drop_capabilities: options.cap_drop.clone(),
        }),
        namespace_options: pod.and_then(|context| context.namespace_options.clone()),
        readonly_rootfs: options.read_only,
        no_new_privs: options.security_opt.iter().any(|option| option == "no-new-privileges"),
        seccomp: Some(seccomp(options)),
        ..Default::default()
    };
    if !options.user.is_empty() {
        let (user, group) = options.user.split_once(':').unwrap_or((&options.user, "0"));
        let number = |text: &str| text.parse().map(|value| runtime::Int64Value { value });
        context.run_as_user = Some(number(user).context("a pod's user is a number")?);
        context.run_as_group = Some(number(group).context("a pod's group is a number")?);
    }
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        runtime::KeyValue { key: key.to_owned(), value: value.to_owned() }
    };
    let mut labels: HashMap<String, String> = options.labels.clone().into_iter().collect();
    labels.insert("io.kubernetes.container.name".to_owned(), options.name.clone());
    labels.insert("io.kubernetes.pod.name".to_owned(), options.name.clone());
    labels.insert("io.kubernetes.pod.namespace".to_owned(), "default".to_owned());
    Ok(runtime::ContainerConfig {
        metadata: Some(runtime::ContainerMetadata { name: options.name.clone(), attempt: 0 }),
        image: Some(runtime::ImageSpec {
            image: image.name().to_owned(),
            user_specified_image: image.name().to_owned(),
        }),
        command: image.command_line().to_vec(),
        args: options.args.clone(),
        envs: options.env.iter().map(pair).collect(),
        labels,
        log_path: "0.log".to_owned(),
        linux: Some(runtime::LinuxContainerConfig {
            resources: Some(runtime::LinuxContainerResources {
                memory_limit_in_bytes: options
                    .memory
                    .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            }),
            security_context: Some(context),
        }),
        ..Default::default()
    })
}
