//! An API server that only a proxy leads to, and a proxy that refuses.

use std::{
    io::{BufRead, BufReader, Write, copy},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Here, native, pod, strict};
use crate::support::{PEPO, Run};

/// A proxy that lets those with this password through (RFC 9110, section 9.3.6), until the test's end.
struct Proxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), tunnels: Arc::clone(&tunnels) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let tunnels = Arc::clone(&tunnels);
                thread::spawn(move || tunnel(&client, &tunnels));
            }
        });
        proxy
    }
}

fn tunnel(client: &TcpStream, tunnels: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head += &std::mem::take(&mut line);
    }
    // `user:secret`
    if !head.contains("Basic dXNlcjpzZWNyZXQ=") {
        let mut client = client;
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").ok()?;
        return None;
    }
    let server = TcpStream::connect(head.strip_prefix("CONNECT ")?.split(' ').next()?).ok()?;
    tunnels.fetch_add(1, Ordering::Relaxed);
    { client }.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = copy(&mut reader, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = copy(&mut &server, &mut { client });
        let _ = client.shutdown(Shutdown::Both);
    });
    Some(())
}

#[test]
fn what_a_proxy_leads_to_is_reached_by_it_and_its_refusal_is_told_without_the_password() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &native(), strict())]));
    let proxy = Proxy::start();
    let by = |user: &str| {
        let file = here.surroundings.path("by-proxy");
        std::fs::copy(pepo_testkit::kubernetes::Cluster::shared().kubeconfig(), &file).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let cluster =
            here.namespace.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].name}"]).unwrap();
        let url = format!("--proxy-url=http://{user}127.0.0.1:{}", proxy.port);
        here.namespace.kubectl(&["config", "set-cluster", &cluster, &url, "--kubeconfig", &file]).unwrap();
        file
    };
    let file = by("user:secret@");
    let run = here.run(&["stack", "pod/shop", "--kubeconfig", &file]).ok();
    assert!(run.stdout.contains("pod/shop/app · native"), "{run:?}");
    assert!(proxy.tunnels.load(Ordering::Relaxed) > 0, "by the proxy: {run:?}");

    let file = by("user:wrong@");
    let run = here.run(&["stack", "pod/shop", "--kubeconfig", &file]).fails(5);
    assert!(run.stderr.contains(&format!("by the proxy http://127.0.0.1:{}", proxy.port)), "{run:?}");
    assert!(!run.stderr.contains("wrong"), "{run:?}");
    here.assert_quiet("shop");
}

#[test]
fn the_surroundings_say_which_proxy_and_for_whom_none() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &native(), strict())]));
    let proxy = Proxy::start();
    let by = |no_proxy: &str| {
        let mut command = here.surroundings.other(PEPO, &here.line(&["stack", "pod/shop"]));
        command.env("HTTPS_PROXY", format!("http://user:secret@127.0.0.1:{}", proxy.port));
        let run = Run::of(command.env("NO_PROXY", no_proxy).output().unwrap()).ok();
        assert!(run.stdout.contains("pod/shop/app · native"), "{run:?}");
        proxy.tunnels.load(Ordering::Relaxed)
    };
    assert_eq!(by("127.0.0.0/8, 10.0.0.0/8"), 0);
    assert!(by("example.com") > 0);
}
