//! A node: one set of namespaces with a containerd, a kubelet and a kube-proxy of its own, on a bridge of this
//! machine. Where a real node has its folders and sockets, this one has them too.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    daemon::{self, Daemon},
    place::{self, Place},
};
use crate::{isolated::support, programs};

/// What the first process of a node does before it only waits. `$1` is the node's folder, `$2` its name.
///
/// A fresh /sys shows the node's own links, but no control groups. /run and what is written to /etc and below /var is
/// the node's own; the parts on which containers' file systems are mounted must be plain folders. A pod may ask for
/// mounts that propagate.
const INIT: &str = "
folder=$1
echo \"$2\" > /proc/sys/kernel/hostname
mkdir -p \"$folder/groups\" \"$folder/run/containerd\"
mount --rbind /sys/fs/cgroup \"$folder/groups\"
mount -t sysfs sysfs /sys
mount --rbind \"$folder/groups\" /sys/fs/cgroup
umount -l \"$folder/groups\"
mount -t bpf bpf /sys/fs/bpf || true
mount -t tracefs tracefs /sys/kernel/tracing || true
for place in etc var/lib var/log; do
    own=$folder/own/$place
    mkdir -p \"$own/upper\" \"$own/work\"
    mount -t overlay overlay -o \"lowerdir=/$place,upperdir=$own/upper,workdir=$own/work\" \"/$place\"
done
mount --bind \"$folder/run\" /run
for place in var/lib/containerd var/lib/kubelet var/log/pods; do
    mkdir -p \"/$place\" \"$folder/$place\"
    mount --bind \"$folder/$place\" \"/$place\"
done
mkdir -p /etc/cni/net.d
cp \"$folder/cni.conflist\" /etc/cni/net.d/10-pods.conflist
mount --make-rshared /
exec \"$3\"
";

/// The image that keeps a pod's namespaces.
const PAUSE: &str = crate::engine::PAUSE;

/// The bridge on which the nodes and the API server stand.
pub(super) fn make_bridge(place: &Place) -> Result<()> {
    let bridge = place.bridge();
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    ip(&["address", "add", &format!("{}/24", place.api()), "dev", &bridge])?;
    ip(&["link", "set", &bridge, "up"])
}

/// Removes the nodes' links and the bridge; routes go with them.
pub(super) fn remove_links(place: &Place) -> Result<()> {
    let links = (1..=super::MOST_NODES).map(|node| place.link(node)).chain([place.bridge()]);
    for link in links.filter(|link| Path::new("/sys/class/net").join(link).exists()) {
        // It also goes by itself, with the namespace at its other end.
        let removed = ip(&["link", "delete", &link]);
        if Path::new("/sys/class/net").join(&link).exists() {
            removed?;
        }
    }
    Ok(())
}

/// Makes the namespaces of a node and connects them.
pub(super) fn make(place: &Place, node: u8) -> Result<daemon::Started> {
    let folder = place.node(node);
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(place.static_pods(node))?;
    write_settings(place, node)?;
    place.groups().make(&place::name(node))?;
    let mut init = init(place, node).start(place)?;
    let ready = || first_process(place, node);
    let what = format!("the namespaces of {}", place::name(node));
    daemon::until(&what, Duration::from_secs(20), std::slice::from_mut(&mut init), ready)?;
    connect(place, node)?;
    Ok(init)
}

fn init(place: &Place, node: u8) -> Daemon {
    let folder = place.node(node).display().to_string();
    let words = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut arguments: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(["--propagation", "private", "sh", "-ec", INIT, "sh", &folder].map(str::to_owned));
    arguments.extend([place::name(node), support("pause").display().to_string()]);
    Daemon::new(&format!("{}/pause", place::name(node)), "unshare", &arguments)
}

/// The node's first process, as this machine numbers it: it has its name when the node is made.
pub(super) fn first_process(place: &Place, node: u8) -> Result<u32> {
    let own = init(place, node).processes(place);
    own.first().copied().with_context(|| format!("{} does not run", place::name(node)))
}

fn connect(place: &Place, node: u8) -> Result<()> {
    let (pid, link) = (first_process(place, node)?.to_string(), place.link(node));
    ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    ip(&["link", "set", &link, "master", &place.bridge(), "up"])?;
    let within = |line: &[&str]| {
        let inside = ["--target", &pid, "--net", "--", "ip"];
        run("nsenter", &[&inside, line].concat())
    };
    within(&["link", "set", "lo", "up"])?;
    within(&["address", "add", &format!("{}/24", place.address(node)), "dev", "eth0"])?;
    within(&["link", "set", "eth0", "up"])?;
    within(&["route", "add", "default", "via", &place.api()])?;
    for other in place.all_nodes().filter(|other| *other != node) {
        within(&["route", "add", &place.pods(other), "via", &place.address(other)])?;
    }
    let settings =
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables";
    run("nsenter", &["--target", &pid, "--net", "--", "sh", "-ec", settings])?;
    // A test on this machine reaches pods and, through the first node, services.
    ip(&["route", "replace", &place.pods(node), "via", &place.address(node)])?;
    match node {
        1 => ip(&["route", "replace", &place.services(), "via", &place.address(1)]),
        _ => Ok(()),
    }
}

fn ip(line: &[&str]) -> Result<()> {
    run("ip", line)
}

fn run(program: &str, line: &[&str]) -> Result<()> {
    let output = programs::command(programs::find(program)?).args(line).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", line.join(" "), words.trim());
    Ok(())
}

/// containerd, kubelet and kube-proxy, in the order they are started.
pub(super) fn daemons(place: &Place, node: u8) -> Result<[Daemon; 3]> {
    let name = place::name(node);
    let at = |file: &str| place.node(node).join(file).display().to_string();
    let kubelet = [
        format!("--config={}", at("kubelet.json")),
        format!("--kubeconfig={}", place.text(&format!("conf/{name}.kubeconfig"))),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", place.address(node)),
    ];
    let containerd = programs::find("containerd")?;
    Ok([
        within(place, node, "containerd", &containerd, &[format!("--config={}", at("containerd.toml"))])?,
        within(place, node, "kubelet", &place.program("kubelet"), &kubelet)?,
        within(
            place,
            node,
            "kube-proxy",
            &place.program("kube-proxy"),
            &[format!("--config={}", at("proxy.json"))],
        )?,
    ])
}

/// A daemon in the node's namespaces.
fn within(place: &Place, node: u8, name: &str, program: &Path, arguments: &[String]) -> Result<Daemon> {
    let pid = first_process(place, node)?.to_string();
    let words = ["nsenter", "--target", &pid, "--mount", "--net", "--uts", "--ipc", "--pid", "--"];
    let mut line: Vec<_> = words.map(OsString::from).into();
    line.push(program.as_os_str().to_owned());
    line.extend(arguments.iter().map(OsString::from));
    Ok(Daemon { name: format!("{}/{name}", place::name(node)), line })
}

fn write_settings(place: &Place, node: u8) -> Result<()> {
    let folder = place.node(node);
    fs::write(folder.join("containerd.toml"), containerd())?;
    fs::write(folder.join("cni.conflist"), network(place, node).to_string())?;
    fs::write(folder.join("kubelet.json"), kubelet(place, node).to_string())?;
    Ok(fs::write(folder.join("proxy.json"), proxy(place, node).to_string())?)
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a sandbox cannot have the score it asks for.
fn containerd() -> String {
    format!(
        r#"version = 2
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn network(place: &Place, node: u8) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": place.pods(node)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// It evicts nothing: disk and memory are this machine's, and others fill them. `oomScoreAdj` as with containerd;
/// `failCgroupV1` is how a newer one is told to go on where an older one did.
fn kubelet(place: &Place, node: u8) -> serde_json::Value {
    let pki = |name: String| place.text(&format!("pki/{name}"));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt".to_owned())},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", place.group(), place::name(node)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "tlsCertFile": pki(format!("{}.crt", place::name(node))),
        "tlsPrivateKeyFile": pki(format!("{}.key", place::name(node))),
        "staticPodPath": place.static_pods(node),
        "fileCheckFrequency": "1s",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        "clusterDNS": [place.service(10)],
        "nodeStatusUpdateFrequency": "3s",
        "serializeImagePulls": false,
        "kubeAPIQPS": 300,
        "kubeAPIBurst": 600,
        "eventRecordQPS": 0,
    })
}

/// Limits on connections are the machine's: another than its first network namespace may not change them.
fn proxy(place: &Place, node: u8) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": place.text("conf/proxy.kubeconfig")},
        "mode": "iptables",
        "hostnameOverride": place::name(node),
        "clusterCIDR": place.all_pods(),
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
