//! A helper's image in a registry that asks who it is: with the pod's pull secret a node has it, without one it is told what is missing.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use pepo_testkit::Image;
use serde_json::{Value, json};

use super::{Here, cluster, pod, python};

/// `user:secret`
const WHO: &str = "dXNlcjpzZWNyZXQ=";

/// A registry of one image, `box:1`, beside a node (OCI distribution spec, "Pull"), until the test's end.
struct Registry {
    port: u16,
}

impl Registry {
    fn start(image: &Image) -> Registry {
        let listener = cluster().in_network_of(1, || TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = Arc::new(Files::of(image));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let files = Arc::clone(&files);
                thread::spawn(move || while answered(&client, &files).is_some() {});
            }
        });
        Registry { port }
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/box:1", self.port)
    }
}

/// What it has, by path.
struct Files(BTreeMap<String, (String, Vec<u8>)>);

impl Files {
    fn of(image: &Image) -> Files {
        let mut archive = Vec::new();
        let digest = Image::oci_archive(std::slice::from_ref(image), &mut archive).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let Some(hash) = name.strip_prefix("blobs/sha256/") else { continue };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let kind = serde_json::from_slice::<Value>(&bytes).ok();
            let kind = kind.and_then(|value| Some(value["mediaType"].as_str()?.to_owned()));
            let file = (kind.unwrap_or_else(|| "application/octet-stream".to_owned()), bytes);
            for folder in ["manifests", "blobs"] {
                files.insert(format!("/v2/box/{folder}/sha256:{hash}"), file.clone());
            }
        }
        let index = files[&format!("/v2/box/manifests/{digest}")].clone();
        files.insert("/v2/box/manifests/1".to_owned(), index);
        Files(files)
    }
}

/// Answers one request; `None` when there is no other.
fn answered(client: &TcpStream, files: &Files) -> Option<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head += &std::mem::take(&mut line);
    }
    let mut words = head.split(' ');
    let (verb, path) = (words.next()?, words.next()?.split('?').next()?);
    let (status, kind, body) = match files.0.get(path) {
        _ if !head.contains(WHO) => ("401 Unauthorized", "text/plain", &[][..]),
        Some((kind, bytes)) => ("200 OK", kind.as_str(), bytes.as_slice()),
        None => ("404 Not Found", "text/plain", &[][..]),
    };
    let asks = if status.starts_with("401") { "WWW-Authenticate: Basic realm=\"test\"\r\n" } else { "" };
    let head =
        format!("HTTP/1.1 {status}\r\n{asks}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = client;
    client.write_all(head.as_bytes()).ok()?;
    if verb == "GET" {
        client.write_all(body).ok()?;
    }
    Some(())
}

#[test]
fn a_private_registry_is_opened_by_the_pods_pull_secret_and_without_it_the_node_says_so_at_once() {
    let registry = Registry::start(&Image::new("registry.test/box:1").with_shell());
    let image = registry.image();
    let here = Here::new("baseline");
    let node = json!(cluster().nodes()[0]);
    let auths = json!({"auths": {format!("127.0.0.1:{}", registry.port): {"auth": WHO}}});
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred"},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": auths.to_string()}}))
        .unwrap();
    for name in ["shut", "open"] {
        let mut pod = pod(name, &[("app", &python(), json!({"runAsUser": 65532}))]);
        pod["spec"]["nodeName"] = node.clone();
        if name == "open" {
            pod["spec"]["imagePullSecrets"] = json!([{"name": "regcred"}]);
        }
        here.namespace.apply(pod).unwrap();
    }
    for name in ["shut", "open"] {
        here.namespace.wait_ready(name).unwrap();
    }
    let begun = Instant::now();
    let shut = here.run(&["stack", "pod/shut", "--image", &image]).fails(5);
    assert!(begun.elapsed() < Duration::from_secs(60), "it is told long before the limit for starting");
    assert!(shut.stderr.starts_with("error[P0304]"), "{}", shut.stderr);
    for said in ["ImagePull", &image, "imagePullSecrets"] {
        assert!(shut.stderr.contains(said), "{said}: {}", shut.stderr);
    }
    let open = here.run(&["stack", "pod/open", "--image", &image]).ok();
    assert!(open.stdout.contains("tick"), "{}", open.stdout);
    here.assert_quiet("open");
}
