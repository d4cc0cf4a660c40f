//! A server, the agent of a node, and people who reach the node's containers by name, with no engine of their own.

/// Calls that a proxy holds.
mod proxies;
/// Real proxies, by the configuration that is printed for them.
mod real_proxies;
/// Attachments and debug requests.
mod resources;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use pepo_testkit::{
    Container, Engine, Fixture, Image, Kind, Life as _, RunOptions, Variant, clean::Snapshot, fixtures, wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    held::Held,
    session::{self, LIMIT, changes_a_variable},
    support::Surroundings,
};

/// A command that runs until it is ended.
struct Running(Child);

impl Running {
    fn signal(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with the token of its first person and that of its first node.
struct Server {
    running: Running,
    surroundings: Surroundings,
    address: String,
    admin: String,
    node: String,
    /// Where it answers proxies, if it does.
    proxies: Option<String>,
}

impl Server {
    fn start() -> Server {
        Server::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Server {
        let surroundings = Surroundings::new();
        let (running, told) = Server::run(&surroundings, "127.0.0.1:0", more);
        let token = |kind: &str| {
            let tokens = told["tokens"].as_array().unwrap();
            let one = tokens.iter().find(|one| one["kind"] == kind).unwrap();
            one["token"].as_str().unwrap().to_owned()
        };
        let address = told["address"].as_str().unwrap().to_owned();
        let proxies = told["proxies"].as_str().map(str::to_owned);
        Server { running, surroundings, address, admin: token("person"), node: token("node"), proxies }
    }

    fn run(surroundings: &Surroundings, listen: &str, more: &[&str]) -> (Running, Value) {
        let state = surroundings.path("state").display().to_string();
        let arguments = ["serve", "--listen", listen, "--state", &state, "--output", "json"];
        let mut child =
            surroundings.command(&[&arguments, more].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Running(child), serde_json::from_str(&line).unwrap())
    }

    /// Kills it, and starts it again at the same address with what it kept.
    fn kill_and_start(&mut self) {
        self.running.signal(Signal::KILL);
        let listen = self.address.strip_prefix("https://").unwrap();
        let (running, told) = Server::run(&self.surroundings, listen, &[]);
        assert_eq!(told["tokens"], json!([]), "they are told once");
        self.running = running;
    }

    /// The agent of a node that has this engine.
    fn node(&self, engine: &Engine) -> Running {
        self.node_in(&Surroundings::new().at(engine).with("PEPO_TOKEN", &self.node))
    }

    fn node_in(&self, surroundings: &Surroundings) -> Running {
        let child = surroundings
            .command(&["node", "--server", &self.address, "--on", "docker"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Somebody else's machine: no engine, no rights on the node, a token.
    fn person(&self, token: &str) -> Surroundings {
        Surroundings::new().with("PEPO_TOKEN", token)
    }

    fn new_token(&self, name: &str) -> String {
        let state = self.surroundings.path("state").display().to_string();
        let run =
            self.surroundings.run(&["serve", "--state", &state, "--new-token", name, "--output", "json"]);
        run.ok().json()["tokens"][0]["token"].as_str().unwrap().to_owned()
    }

    /// A page by HTTP/1.1, of a client that trusts the server's authority alone: status and text.
    fn page(&self, path: &str, token: &str) -> (u16, String) {
        self.asked("GET", path, token, "", "")
    }

    /// As [`Server::page`], with a method, a body and a key of idempotency, where they are not empty.
    fn asked(&self, method: &str, path: &str, token: &str, body: &str, key: &str) -> (u16, String) {
        let client = "\
import http.client, ssl, sys
address, authority, method, path, token, body, key = sys.argv[1:]
trust = ssl.create_default_context(cadata=open(authority, 'rb').read())
connection = http.client.HTTPSConnection(address, context=trust, timeout=60)
headers = {'Authorization': 'Bearer ' + token, 'Idempotency-Key': key}
connection.request(method, path, body or None, {name: text for name, text in headers.items() if text and text != 'Bearer '})
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode(), end='')";
        let address = self.address.strip_prefix("https://").unwrap();
        let authority = self.surroundings.path("state/authority.der").display().to_string();
        let run = std::process::Command::new("python3")
            .args(["-c", client, address, &authority, method, path, token, body, key])
            .output()
            .unwrap();
        let text = String::from_utf8(run.stdout).unwrap();
        let (status, page) = text.split_once('\n').unwrap_or_else(|| panic!("{:?}", run.stderr));
        (status.parse().unwrap(), page.to_owned())
    }

    fn policy(&self, rules: &Value) {
        let path = self.surroundings.path("state/policy.json");
        std::fs::write(path, json!({ "rules": rules }).to_string()).unwrap();
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.surroundings.path("state/audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a person sees the container, and gives its name there.
    fn waits_for(&self, surroundings: &Surroundings, container: &Container) -> String {
        let wanted = format!("docker/{}@node", container.name());
        wait::until("the server knows the container", LIMIT, || {
            let run = surroundings.run(&["ps", "--on", &self.address, "--output", "json"]);
            if run.status == Some(0)
                && run.json()["targets"].as_array().unwrap().iter().any(|one| one["target"] == wanted)
            {
                return Ok(());
            }
            Err(run.snapshot())
        });
        wanted
    }
}

fn run(engine: &Engine, fixture: &Fixture) -> Container {
    labelled(engine, fixture, &[])
}

fn labelled(engine: &Engine, fixture: &Fixture, labels: &[(&str, &str)]) -> Container {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let image = Image::usual(fixture);
    engine.load(&image);
    let name = format!("server-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut options = RunOptions::named(&name).args(&["1000"]);
    options.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let container = engine.run(&image, &options);
    container.wait_started();
    container
}

#[test]
fn every_verb_works_on_the_containers_of_a_node() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    for fixture in session::fixtures() {
        let container = run(&engine, &fixture);
        let name = server.waits_for(&person, &container);
        let before = Snapshot::take(container.pid()).and_containers_of(&engine);
        let stack = person.run(&["stack", &name, "--on", &server.address]).ok();
        assert!(stack.stdout.contains("· pid 1 ·"), "{}", stack.stdout);
        // The node may be left out where one container alone has the name.
        let bare = person.run(&["stack", container.name(), "--on", &server.address]).ok();
        assert!(bare.stdout.contains("· pid 1 ·"), "{}", bare.stdout);
        let check = person.run(&["check", &name, "--on", &server.address, "--for", "attach"]).ok();
        assert!(check.stdout.contains("by the agent of node node"), "{}", check.stdout);
        let profile = person.path("profile.json").display().to_string();
        person.run(&["record", &name, "--on", &server.address, "-d", "500ms", "-o", &profile]).ok();
        assert!(std::fs::metadata(&profile).unwrap().len() > 100);
        before.assert_same();
        changes_a_variable(&person, &[&name, "--on", &server.address], &fixture, &container, &before);
    }
    let acts: Vec<String> =
        server.audit().iter().map(|line| format!("{} {}", line["act"], line["rights"])).collect();
    assert!(acts.iter().any(|act| act == r#""reach" ["look","stop","modify"]"#), "{acts:?}");
    assert!(acts.iter().any(|act| act.starts_with(r#""end""#)), "{acts:?}");
}

#[test]
fn a_person_does_what_the_policy_says_and_no_more() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let container = run(&engine, &fixtures::python(Variant::debug()));
    let name = server.waits_for(&server.person(&server.admin), &container);
    let (ann, bob) = (server.person(&server.new_token("ann")), server.person(&server.new_token("bob")));
    server.policy(&json!([{ "who": ["ann"], "verbs": ["look"], "targets": [format!("docker/{}@*", container.name())] }]));

    ann.run(&["stack", &name, "--on", &server.address]).ok();
    let refused = ann.run(&["attach", &name, "--on", &server.address, "-ex", "detach"]).fails(4);
    assert!(
        refused.stderr.contains("ann may look at") && refused.stderr.contains("not stop it"),
        "{}",
        refused.stderr
    );

    // Files come out with a look; what is put there changes it.
    let there = |path: &str| format!("{name}:{path}");
    ann.run(&["cp", &there("/etc/passwd"), "users", "--on", &server.address]).ok();
    assert!(std::fs::read_to_string(ann.path("users")).unwrap().starts_with("root:"));
    let refused = ann.run(&["cp", "users", &there("/tmp/users"), "--on", &server.address]).fails(4);
    assert!(refused.stderr.contains("ann may not change its files"), "{}", refused.stderr);
    let admin = server.person(&server.admin);
    server.policy(&json!([
        { "who": ["ann"], "verbs": ["look"], "targets": [format!("docker/{}@*", container.name())] },
        { "who": ["*"], "verbs": ["look", "modify"], "targets": ["*"] },
    ]));
    std::fs::write(admin.path("new"), "new").unwrap();
    admin.run(&["cp", "new", &there("/tmp/new"), "--on", &server.address]).ok();
    admin.run(&["cp", &there("/tmp/new"), "back", "--on", &server.address]).ok();
    assert_eq!(std::fs::read_to_string(admin.path("back")).unwrap(), "new");
    assert!(server.audit().iter().any(|line| line["rights"] == json!(["look", "modify"])));
    server.policy(&json!([{ "who": ["ann"], "verbs": ["look"], "targets": [format!("docker/{}@*", container.name())] }]));

    let listed = bob.run(&["ps", "--on", &server.address, "--output", "json"]).ok();
    assert_eq!(listed.json()["targets"], json!([]));
    bob.run(&["stack", &name, "--on", &server.address]).fails(3);

    let nobody = server.person("c2VjcmV0.".to_owned().as_str());
    let unknown = nobody.run(&["ps", "--on", &server.address]).fails(5);
    assert!(unknown.stderr.contains("authority"), "{}", unknown.stderr);
    let authority = server.admin.split_once('.').unwrap().1;
    let unknown =
        server.person(&format!("c2VjcmV0.{authority}")).run(&["ps", "--on", &server.address]).fails(4);
    assert!(!unknown.stderr.contains("c2VjcmV0"), "{}", unknown.stderr);
    let of_node = server.person(&server.node).run(&["ps", "--on", &server.address]).fails(4);
    assert!(of_node.stderr.contains("a node's"), "{}", of_node.stderr);
    container.assert_goes_on();

    let refusals: Vec<_> = server.audit().into_iter().filter(|line| line["act"] == "refuse").collect();
    assert!(matches!(&refusals[..], [one] if one["who"] == "ann" && one["target"] == name), "{refusals:?}");
}

#[test]
fn its_state_is_told_to_all_and_its_numbers_to_whom_it_knows() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let page = |path: &str| server.page(path, "");
    assert_eq!(page("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(page("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(page("/metrics").0, 401);
    assert_eq!(page("/pepo.server.v1.Directory/ListTargets").0, 404, "gRPC needs HTTP/2");
    let secret = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_eq!(server.page("/metrics", &secret(&server.node)).0, 401);

    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = run(&engine, &fixtures::c(Variant::debug()));
    let name = server.waits_for(&person, &container);
    person.run(&["stack", &name, "--on", &server.address]).ok();
    let (status, numbers) = server.page("/metrics", &secret(&server.admin));
    assert_eq!(status, 200, "{numbers}");
    let number = |name: &str| -> u64 {
        let line = numbers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{numbers}")).parse().unwrap()
    };
    assert_eq!((number("pepo_nodes"), number("pepo_node_links_total")), (1, 1));
    assert_eq!(number("pepo_streams_opened_total"), 1);
    assert_eq!(number("pepo_unknown_callers_total"), 2);
    assert!(number("pepo_targets") > 0 && number("pepo_connections") > 0);
    assert!(number("pepo_from_targets_bytes_total") > 100 && number("pepo_to_targets_bytes_total") > 100);
    assert!(!numbers.contains(container.name()) && !numbers.contains("admin"), "{numbers}");

    std::fs::write(server.surroundings.path("state/policy.json"), "{").unwrap();
    assert_eq!(page("/readyz"), (503, "the policy cannot be read\n".to_owned()));
    assert_eq!(page("/healthz").0, 200);
    server.policy(&json!([]));
    assert_eq!(page("/readyz").0, 200);
    container.assert_goes_on();
}

#[test]
fn a_session_ends_when_its_rights_are_taken_back() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let fixture = fixtures::c(Variant::debug());
    let container = run(&engine, &fixture);
    let person = server.person(&server.admin);
    let name = server.waits_for(&person, &container);
    let before = Snapshot::take(container.pid());
    let mut held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
    server.policy(&json!([{ "who": ["*"], "verbs": ["look"], "targets": ["*"] }]));
    held.waits_for("closed");
    container.assert_goes_on();
    before.assert_same();
    wait::until("it is written down", LIMIT, || {
        let told = server.audit().iter().any(|line| line["why"] == "the rights were taken back");
        if told { Ok(()) } else { Err("not yet") }
    });
}

#[test]
fn a_server_that_is_asked_to_end_begins_nothing_new_and_gives_open_sessions_their_time() {
    let engine = Engine::shared(Kind::Docker);
    let mut server = Server::start_with(&["--drain", "10m"]);
    let _node = server.node(&engine);
    let fixture = fixtures::c(Variant::debug());
    let container = run(&engine, &fixture);
    let person = server.person(&server.admin);
    let name = server.waits_for(&person, &container);
    let before = Snapshot::take(container.pid());
    let mut held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
    kill_process(Pid::from_child(&server.running.0), Signal::TERM).unwrap();
    let about_to_end = (503, "the server is about to end\n".to_owned());
    wait::until("it is not ready", LIMIT, || match server.page("/readyz", "") {
        page if page == about_to_end => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let refused = person.run(&["stack", &name, "--on", &server.address]).fails(5);
    assert!(refused.stderr.contains("the server is about to end"), "{}", refused.stderr);
    held.types("locals\n");
    held.types("detach\n");
    held.waits_for("closed");
    assert_eq!(held.status(), Some(0));
    assert_eq!(server.running.0.wait().unwrap().code(), Some(0), "nothing was open any more");
    container.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_server_that_ends_ends_what_is_open_when_its_time_is_over_or_when_it_is_asked_again() {
    let engine = Engine::shared(Kind::Docker);
    for (drain, times) in [("1s", 1), ("10m", 2)] {
        let mut server = Server::start_with(&["--drain", drain]);
        let _node = server.node(&engine);
        let fixture = fixtures::c(Variant::debug());
        let container = run(&engine, &fixture);
        let person = server.person(&server.admin);
        let name = server.waits_for(&person, &container);
        let before = Snapshot::take(container.pid());
        let mut held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
        for asked in 0..times {
            kill_process(Pid::from_child(&server.running.0), Signal::TERM).unwrap();
            if asked + 1 < times {
                wait::until("it is not ready", LIMIT, || match server.page("/readyz", "").0 {
                    503 => Ok(()),
                    other => Err(other),
                });
            }
        }
        held.waits_for("closed");
        assert_eq!(server.running.0.wait().unwrap().code(), Some(0));
        container.assert_goes_on();
        wait::until("nothing is left", LIMIT, || {
            let left = before.differences();
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        });
        let audit = server.audit();
        assert!(
            audit.iter().any(|line| line["act"] == "end" && line["why"] == "the server ended"),
            "{audit:?}"
        );
    }
}

#[test]
fn a_log_of_json_is_whole_lines_and_holds_no_token() {
    let surroundings = Surroundings::new();
    let state = surroundings.path("state").display().to_string();
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--state", &state, "--log-format", "json", "--drain", "1s"];
    let mut server = Running(surroundings.command(&serve).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(server.0.stdout.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&first["message"], &first["level"]), (&json!("serving"), &json!("INFO")));
    let address = format!("https://{}", first["address"].as_str().unwrap());

    // Nobody was told a token: whoever keeps the folder makes them.
    let new = |flag: &str, name: &str| {
        let run = surroundings.run(&["serve", "--state", &state, flag, name, "--output", "json"]).ok();
        run.json()["tokens"][0]["token"].as_str().unwrap().to_owned()
    };
    let (admin, token) = (new("--new-token", "admin"), new("--new-node", "a"));
    let at_node = Surroundings::new().with("PEPO_TOKEN", &token);
    let node = ["node", "--server", &address, "--on", "docker", "--log-format", "json"];
    let mut node = Running(at_node.command(&node).stdout(Stdio::piped()).spawn().unwrap());
    let mut joined = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut joined).unwrap();
    let joined: Value = serde_json::from_str(&joined).unwrap();
    assert_eq!((&joined["message"], &joined["node"]), (&json!("joined"), &json!("a")));
    Surroundings::new().with("PEPO_TOKEN", &admin).run(&["ps", "--on", &address]).ok();

    assert_eq!(node.signal(Signal::TERM), Some(0));
    assert_eq!(server.signal(Signal::TERM), Some(0));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    for line in rest.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["timestamp"].is_string(), "{line}");
    }
    assert!(rest.contains("a node is away"), "{rest}");
    for token in [admin, token] {
        assert!(!rest.contains(token.split('.').next().unwrap()), "{rest}");
    }
}

/// The node's certificate is a file of the node.
fn certificate(node: &Surroundings) -> (String, u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = node.path("xdg_state_home/pepo/node/node.pem");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    (std::fs::read_to_string(path).unwrap(), mode & 0o777)
}

#[test]
fn a_certificate_is_renewed_under_an_open_session_and_the_token_is_needed_no_more() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start_with(&["--certificates-last", "10s"]);
    let of_node = Surroundings::new().at(&engine);
    let with_token = of_node.with("PEPO_TOKEN", &server.node);
    let mut node = server.node_in(&with_token);
    let fixture = fixtures::c(Variant::debug());
    let container = run(&engine, &fixture);
    let person = server.person(&server.admin);
    let name = server.waits_for(&person, &container);
    let (first, mode) = certificate(&with_token);
    assert_eq!(mode, 0o600);
    let before = Snapshot::take(container.pid());
    let mut held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
    let opened =
        server.audit().iter().rfind(|line| line["act"] == "reach").unwrap()["time"].as_u64().unwrap();
    wait::until("all certificates of the session's beginning have ended", LIMIT, || {
        let renewed = server.audit().iter().rfind(|line| line["act"] == "certify").cloned();
        match renewed.and_then(|line| line["time"].as_u64()).is_some_and(|time| time > opened + 12_000) {
            true => Ok(()),
            false => Err("not yet"),
        }
    });
    held.types("detach\n");
    held.waits_for("closed");
    assert_eq!(held.status(), Some(0));
    let links = |server: &Server| server.audit().iter().filter(|line| line["act"] == "link").count();
    assert_eq!(links(&server), 1, "one link all along");
    assert_ne!(certificate(&with_token).0, first);
    container.assert_goes_on();
    before.assert_same();

    assert_eq!(node.signal(Signal::TERM), Some(0));
    let without_token = with_token.with("PEPO_TOKEN", "");
    let _node = server.node_in(&without_token);
    wait::until("it joins by its certificate", LIMIT, || match links(&server) {
        2 => Ok(()),
        other => Err(other),
    });
    assert_eq!(server.waits_for(&person, &container), name);
}

#[test]
fn a_node_that_is_taken_out_loses_its_streams_and_joins_no_more() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let mut node = server.node(&engine);
    let fixture = fixtures::c(Variant::debug());
    let container = run(&engine, &fixture);
    let person = server.person(&server.admin);
    let name = server.waits_for(&person, &container);
    let before = Snapshot::take(container.pid());
    let mut held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
    let path = server.surroundings.path("state/tokens.json");
    let mut tokens: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokens["tokens"].as_array_mut().unwrap().retain(|one| one["name"] != "node");
    std::fs::write(path, tokens.to_string()).unwrap();
    held.waits_for("closed");
    container.assert_goes_on();
    wait::until("nothing is left", LIMIT, || {
        let left = before.differences();
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    });
    let listed = person.run(&["ps", "--on", &server.address, "--output", "json"]).ok();
    assert_eq!(listed.json()["targets"], json!([]));
    assert_eq!(node.signal(Signal::TERM), Some(0), "it went on dialling");
}

/// Whoever dies.
mod safety {
    use super::*;

    /// A stopped target, and then the death of the one that is named.
    fn dies(what: &str, becomes: [&str; 2], end: impl Fn(&mut Server, &mut Running, &Held)) {
        let engine = Engine::shared(Kind::Docker);
        for fixture in [fixtures::c(Variant::debug()), fixtures::python(Variant::debug())] {
            let mut server = Server::start();
            let mut node = server.node(&engine);
            let container = run(&engine, &fixture);
            let person = server.person(&server.admin);
            let name = server.waits_for(&person, &container);
            let before = Snapshot::take(container.pid());
            let held = Held::open(&person, &["attach", &name, "--on", &server.address], &fixture);
            server.waits_until("attached", "SessionOpened");
            end(&mut server, &mut node, &held);
            container.assert_goes_on();
            wait::until(&format!("{what}: nothing is left"), LIMIT, || {
                let left = before.differences();
                if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
            });
            server.waits_until(becomes[0], becomes[1]);
        }
    }

    #[test]
    fn a_target_goes_on_when_the_command_is_killed() {
        dies("command", ["failed", "ClientLost"], |_, _, held| held.signal(Signal::KILL));
    }

    #[test]
    fn a_target_goes_on_when_the_server_is_killed_and_the_node_joins_the_next() {
        dies("server", ["failed", "ServerEnded"], |server, _, _| server.kill_and_start());
    }

    #[test]
    fn a_target_goes_on_when_the_agent_of_its_node_is_killed() {
        dies("node", ["failed", "NodeLost"], |_, node, _| {
            node.signal(Signal::KILL);
        });
    }

    #[test]
    fn a_target_goes_on_when_the_agent_of_its_node_is_asked_to_end() {
        dies("node", ["failed", "NodeLost"], |_, node, _| assert_eq!(node.signal(Signal::TERM), Some(0)));
    }
}
