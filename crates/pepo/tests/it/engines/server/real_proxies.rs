//! Envoy and nginx themselves, by the configuration that `pepo install` prints, in front of a program of the test's own.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::{
    proxies::{Answer, PROXIES, ask, image, of_a_pod},
    *,
};

/// A program that tells the method and the length of the body, after as many milliseconds as `x-sleep` says.
fn program() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve_one(stream.unwrap()));
        }
    });
    address
}

/// Proxies close connections as they like.
fn serve_one(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let head = head.to_lowercase();
    let number = |name: &str| -> u64 {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |line| line.trim().parse().unwrap())
    };
    let mut body = Vec::new();
    reader.by_ref().take(number("content-length:")).read_to_end(&mut body).ok()?;
    thread::sleep(Duration::from_millis(number("x-sleep:")));
    let told = format!("{} {}", head.split(' ').next()?, body.len());
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", told.len());
    reader.get_mut().write_all((head + &told).as_bytes()).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    Envoy,
    Nginx,
    /// Envoy, changed to ask by gRPC.
    EnvoyByGrpc,
}

/// The printed configuration of Envoy, with the same said by gRPC; what is held has no time limit of its own in it.
fn by_grpc(printed: &str, pod: &str) -> String {
    let (before, rest) = printed.split_once("              http_service:\n").unwrap();
    let (_, after) = rest.split_once("              # Part 1 ends").unwrap();
    let service = "              grpc_service: {envoy_grpc: {cluster_name: pepo_door}, timeout: 75s}\n";
    let identity = format!(
        "domains: [\"*\"]
              typed_per_filter_config:
                envoy.filters.http.ext_authz:
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                  check_settings: {{context_extensions: {{namespace: shop, pod: {pod}, container: app}}}}"
    );
    let http2 = "- name: pepo_door
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}";
    let text = format!("{before}{service}              # Part 1 ends{after}");
    let text = text.replace("domains: [\"*\"]", &identity).replace("- name: pepo_door", http2);
    text.replace("timeout: 900s, idle_timeout: 900s", "timeout: 1s")
}

/// A proxy with its own address on loopback, which nobody else has: no port has to be guessed.
struct Placed {
    proxy: Proxy,
    pod: String,
    door: String,
    listen: String,
    surroundings: Surroundings,
}

impl Placed {
    fn new(proxy: Proxy) -> Placed {
        let [.., high, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{high}.{low}", 77 + proxy as u8);
        let (door, listen) = (format!("{host}:7412"), format!("{host}:8000"));
        Placed {
            proxy,
            pod: format!("{proxy:?}").to_lowercase(),
            door,
            listen,
            surroundings: Surroundings::new(),
        }
    }

    /// The file that the program itself says to be right. Calls that are not held have a second in it.
    fn configured(&self) -> PathBuf {
        let upstream = program().to_string();
        let name = if self.proxy == Proxy::Nginx { "nginx" } else { "envoy" };
        let line = ["install", name, "--print", "--door", &self.door, "--listen", &self.listen];
        let more = ["--upstream", &upstream, "-n", "shop", "--pod", &self.pod, "--container", "app"];
        let printed = self.surroundings.run(&[&line[..], &more].concat()).ok().stdout;
        let folder = self.surroundings.path(".").display().to_string();
        let limited = "route: {cluster: here, timeout: 1s}";
        let text = match self.proxy {
            Proxy::Envoy => printed.replace("route: {cluster: here}", limited),
            Proxy::EnvoyByGrpc => by_grpc(&printed, &self.pod).replace("route: {cluster: here}", limited),
            Proxy::Nginx => {
                let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {folder}/{kind};"));
                format!(
                    "daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n\
                     http {{ access_log off; proxy_read_timeout 1s; {}\n{printed}}}\n",
                    paths.join(" ")
                )
            }
        };
        let path = self.surroundings.path(if name == "nginx" { "nginx.conf" } else { "envoy.yaml" });
        fs::write(&path, text).unwrap();
        let run = self.command(&path, true).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        path
    }

    fn command(&self, file: &Path, validates: bool) -> Command {
        let mut command = match self.proxy {
            Proxy::Nginx => Command::new("/usr/sbin/nginx"),
            _ => Command::new(pepo_testkit::tools().join("envoy/envoy/_bin/envoy")),
        };
        command.arg("-c").arg(file);
        match self.proxy {
            Proxy::Nginx if validates => command.arg("-t"),
            Proxy::Nginx => &mut command,
            _ if validates => command.args(["--mode", "validate", "-l", "error"]),
            _ => command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "error"]),
        };
        command
    }

    /// Runs it, until it passes a call on.
    fn start(&self) -> Running {
        let running = Running(self.command(&self.configured(), false).stderr(Stdio::null()).spawn().unwrap());
        wait::until("the proxy listens", LIMIT, || TcpStream::connect(&self.listen).map(drop));
        running
    }

    /// Through the proxy.
    fn ask(&self, words: &[&str]) -> (u16, String) {
        let Answer { status, body, .. } = ask(&self.listen, "/price/3", words);
        (status, body)
    }

    /// Calls that ask for nothing pass while the door says nothing, which is not called; others pass when it is gone.
    fn passes_without_a_server(&self) {
        let plain = (200, "get 0".to_owned());
        let silent = TcpListener::bind(&self.door).unwrap();
        silent.set_nonblocking(true).unwrap();
        assert_eq!(self.ask(&[]), plain);
        assert_eq!(self.ask(&["--header", "baggage: a=b, pepod=1"]), plain);
        assert!(silent.accept().is_err(), "the door was called for a call that asks for nothing");
        thread::scope(|scope| {
            let held = scope.spawn(|| self.ask(&["--header", "baggage: a=b, pepo=any"]));
            wait::until("the door is called", LIMIT, || silent.accept().map(drop));
            // Its connection was closed without an answer.
            assert_eq!(held.join().unwrap(), plain);
        });
        drop(silent);
        for header in ["x-pepo-debug: any", "x-squash-debug: 1", "baggage: pepo=any"] {
            assert_eq!(
                self.ask(&["--header", header, "--data", "abc"]),
                (200, "post 3".to_owned()),
                "{header}"
            );
        }
        assert_eq!(self.ask(&["--header", "x-sleep: 2000"]).0, 504, "the proxy's own limit");
    }
}

fn holds(proxy: Proxy) {
    let placed = Placed::new(proxy);
    let _proxy = placed.start();
    placed.passes_without_a_server();

    let engine = Engine::shared(Kind::Docker);
    let server = Server::start_with(&[PROXIES[0], &placed.door]);
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = of_a_pod(&engine, &placed.pod);
    let target = server.waits_for(&person, &container);
    let request = server.waits_for_a_call(&person, &image(&server, &person, &target));
    let body = "x".repeat(100_000);
    let header = format!("x-pepo-debug: {request}");
    // Once it goes on, it stands still for longer than the proxy lets others.
    let words = ["--header", &header, "--header", "x-sleep: 2000", "--data", &body];
    let debugger = thread::scope(|scope| {
        let held = scope.spawn(|| placed.ask(&words));
        person.run(&["requests", "wait", &request, "--timeout", "60s", "--on", &server.address]).ok();
        assert_eq!(placed.ask(&[]), (200, "get 0".to_owned()), "others pass meanwhile");
        let mut debugger = Held::attach(&person, &["attach", &target, "--on", &server.address]);
        assert!(!held.is_finished());
        let fixture = fixtures::python(Variant::debug());
        debugger.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
        assert_eq!(held.join().unwrap(), (200, "post 100000".to_owned()));
        debugger
    });
    let attached = server.waits_until("attached", "SessionOpened");
    assert_eq!(
        attached["spec"]["holds"],
        json!({ "namespace": "shop", "pod": placed.pod, "container": "app" })
    );
    drop(debugger);
    container.assert_goes_on();
}

#[test]
fn envoy_holds_a_call_by_the_printed_configuration_and_lets_all_others_pass() {
    holds(Proxy::Envoy);
}

#[test]
fn nginx_holds_a_call_by_the_printed_configuration_and_lets_all_others_pass() {
    holds(Proxy::Nginx);
}

#[test]
fn envoy_may_ask_by_grpc_too_and_the_answer_lengthens_its_limit() {
    holds(Proxy::EnvoyByGrpc);
}
