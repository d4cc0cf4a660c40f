//! Certificates and kubeconfigs, by the system's openssl.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::place::{self, Place};
use crate::programs;

/// No defaults of the machine's own configuration.
const SETTINGS: &str = "[req]\ndistinguished_name=name\n[name]\n";

/// Makes everybody's certificates, and the kubeconfigs of those who call the API server.
pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.at("pki");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    fs::create_dir_all(place.at("conf"))?;
    fs::write(folder.join("openssl.cnf"), SETTINGS)?;
    authority(place)?;
    service_accounts(place)?;
    let names = [
        format!("IP:{},IP:127.0.0.1,IP:{}", place.api(), place.service(1)),
        "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc".to_owned(),
    ];
    certificate(place, "apiserver", "/CN=kube-apiserver", Some(&names.join(",")))?;
    certificate(place, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", None)?;
    certificate(place, "front-proxy-client", "/CN=front-proxy-client", None)?;
    for (user, subject) in [
        ("admin", "/O=system:masters/CN=admin"),
        ("controller-manager", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("proxy", "/CN=system:kube-proxy"),
    ] {
        certificate(place, user, subject, None)?;
        kubeconfig_by_certificate(place, user)?;
    }
    for node in place.all_nodes() {
        let name = place::name(node);
        let subject = format!("/O=system:nodes/CN=system:node:{name}");
        certificate(place, &name, &subject, Some(&format!("IP:{},DNS:{name}", place.address(node))))?;
        kubeconfig_by_certificate(place, &name)?;
    }
    Ok(())
}

/// Writes a kubeconfig for whoever holds `token`; its path is in the answer.
pub(super) fn kubeconfig_by_token(place: &Place, user: &str, token: &str) -> Result<std::path::PathBuf> {
    kubeconfig(place, user, &json!({"token": token}))
}

fn kubeconfig_by_certificate(place: &Place, user: &str) -> Result<()> {
    let [certificate, key] = ["crt", "key"].map(|kind| place.text(&format!("pki/{user}.{kind}")));
    kubeconfig(place, user, &json!({"client-certificate": certificate, "client-key": key})).map(drop)
}

fn kubeconfig(place: &Place, user: &str, proof: &serde_json::Value) -> Result<std::path::PathBuf> {
    let server = format!("https://{}:6443", place.api());
    let cluster = json!({"server": server, "certificate-authority": place.text("pki/ca.crt")});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pepo", "cluster": cluster}],
        "users": [{"name": user, "user": proof}],
        "contexts": [{"name": "pepo", "context": {"cluster": "pepo", "user": user}}],
        "current-context": "pepo",
    });
    let file = place.at("conf").join(format!("{user}.kubeconfig"));
    fs::write(&file, config.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The authority that all trust.
fn authority(place: &Place) -> Result<()> {
    let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,digitalSignature"];
    request(place, "ca", "/CN=pepo-cluster", &extensions, false)
}

/// The keys by which tokens of service accounts are signed and judged.
fn service_accounts(place: &Place) -> Result<()> {
    let (key, public) = (place.text("pki/sa.key"), place.text("pki/sa.pub"));
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", &key])?;
    openssl(&["pkey", "-in", &key, "-pubout", "-out", &public])
}

fn certificate(place: &Place, name: &str, subject: &str, other_names: Option<&str>) -> Result<()> {
    let other_names = other_names.map(|names| format!("subjectAltName={names}"));
    let mut extensions = vec!["keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth,clientAuth"];
    extensions.extend(other_names.as_deref());
    request(place, name, subject, &extensions, true)
}

fn request(place: &Place, name: &str, subject: &str, extensions: &[&str], signed: bool) -> Result<()> {
    let file = |name: &str| place.text(&format!("pki/{name}"));
    let (key, certificate) = (file(&format!("{name}.key")), file(&format!("{name}.crt")));
    let (settings, ca, ca_key) = (file("openssl.cnf"), file("ca.crt"), file("ca.key"));
    let mut line =
        vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    line.extend([
        "-days",
        "30",
        "-config",
        &settings,
        "-subj",
        subject,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    if signed {
        line.extend(["-CA", &ca, "-CAkey", &ca_key]);
    }
    line.extend(extensions.iter().flat_map(|extension| ["-addext", *extension]));
    openssl(&line)
}

fn openssl(line: &[&str]) -> Result<()> {
    let output = programs::command(programs::find("openssl")?)
        .args(line)
        .output()
        .context("openssl does not start")?;
    ensure!(output.status.success(), "openssl {}:\n{}", line[0], String::from_utf8_lossy(&output.stderr));
    Ok(())
}
