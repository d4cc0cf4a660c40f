//! The control plane: etcd, API server, controller manager and scheduler, on this machine itself.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::{daemon::Daemon, place::Place};

/// Who did what, of everything, without what was said.
pub(super) fn write_audit_policy(place: &Place) -> Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    });
    Ok(fs::write(place.at("conf/audit-policy.json"), policy.to_string())?)
}

/// What a pod could reach by its network, and must not, listens at an address of the loopback.
pub(super) fn etcd(place: &Place) -> Daemon {
    let client = format!("http://{}:2379", place.loopback());
    let peer = format!("http://{}:2380", place.loopback());
    let arguments = [
        "--name=pepo".to_owned(),
        format!("--data-dir={}", place.text("etcd")),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=pepo={peer}"),
    ];
    Daemon::new("etcd", place.program("etcd"), &arguments)
}

pub(super) fn api_server(place: &Place) -> Daemon {
    let pki = |name: &str| place.text(&format!("pki/{name}"));
    let mut arguments = vec![
        format!("--etcd-servers=http://{}:2379", place.loopback()),
        format!("--bind-address={}", place.api()),
        format!("--advertise-address={}", place.api()),
        "--secure-port=6443".to_owned(),
        format!("--service-cluster-ip-range={}", place.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", place.text("conf/audit-policy.json")),
        format!("--audit-log-path={}", place.text("log/audit.log")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--enable-aggregator-routing=true".to_owned(),
    ];
    arguments.extend(server_proofs(&pki));
    Daemon::new("kube-apiserver", place.program("kube-apiserver"), &arguments)
}

/// Whom the API server trusts, and how it proves itself.
fn server_proofs(pki: &impl Fn(&str) -> String) -> Vec<String> {
    vec![
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        format!("--requestheader-client-ca-file={}", pki("ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
    ]
}

/// With its usual limit of calls a namespace gets its service account seconds late.
pub(super) fn controller_manager(place: &Place) -> Daemon {
    let mut arguments = client(place, "controller-manager");
    arguments.extend([
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", place.text("pki/sa.key")),
        format!("--root-ca-file={}", place.text("pki/ca.crt")),
        format!("--cluster-signing-cert-file={}", place.text("pki/ca.crt")),
        format!("--cluster-signing-key-file={}", place.text("pki/ca.key")),
    ]);
    Daemon::new("kube-controller-manager", place.program("kube-controller-manager"), &arguments)
}

pub(super) fn scheduler(place: &Place) -> Daemon {
    Daemon::new("kube-scheduler", place.program("kube-scheduler"), &client(place, "scheduler"))
}

/// What both that watch the API server are told.
fn client(place: &Place, user: &str) -> Vec<String> {
    let kubeconfig = place.text(&format!("conf/{user}.kubeconfig"));
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=600".to_owned(),
        format!("--bind-address={}", place.loopback()),
    ]
}
