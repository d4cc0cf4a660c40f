//! Calls that a proxy holds until the debugger of who waits for them is there, by our own door and by Squash's REST.

use std::thread;

use super::*;

/// What the door answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| one == name);
        found.map_or("", |(_, value)| value)
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Server {
    /// Asks the door for proxies, with further words for curl.
    fn door(&self, path: &str, words: &[&str]) -> Answer {
        ask(self.proxies.as_ref().unwrap(), path, words)
    }

    /// A debug request for a call of this image; its name.
    pub(super) fn waits_for_a_call(&self, person: &Surroundings, image: &str) -> String {
        let line = ["requests", "create", "--image", image, "--next", "call", "--on", &self.address];
        person.run(&line).ok().stdout.trim().to_owned()
    }
}

pub(super) fn ask(address: &str, path: &str, words: &[&str]) -> Answer {
    let run = std::process::Command::new("curl")
        .args(["--silent", "--include", "--max-time", "120", &format!("http://{address}{path}")])
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{:?} {text}", run.status));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}

/// A container that its labels say to be of this pod of the namespace `shop`, as the kubelet writes them.
pub(super) fn of_a_pod(engine: &Engine, pod: &str) -> Container {
    let labels = [
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.name", pod),
        ("io.kubernetes.container.name", "app"),
    ];
    labelled(engine, &fixtures::python(Variant::debug()), &labels)
}

pub(super) fn image(server: &Server, person: &Surroundings, target: &str) -> String {
    let listed = person.run(&["ps", "--on", &server.address, "--output", "json"]).ok().json();
    let targets = listed["targets"].as_array().unwrap();
    let one = targets.iter().find(|one| one["target"] == target).unwrap_or_else(|| panic!("{listed}"));
    one["image"].as_str().unwrap().to_owned()
}

pub(super) const PROXIES: [&str; 2] = ["--proxies", "127.0.0.1:0"];
const MARKED: [&str; 2] = ["--header", "x-pepo-debug: any"];

#[test]
fn a_call_is_held_until_the_debugger_of_who_waits_for_it_is_there() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start_with(&PROXIES);
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = of_a_pod(&engine, "held");
    let target = server.waits_for(&person, &container);
    let image = image(&server, &person, &target);
    let path = "/hold/shop/held/app/price/3";

    // Without the header, without who waits for it, and elsewhere it goes on at once.
    let plain = server.door(path, &[]);
    assert_eq!((plain.status, plain.header("x-pepo-held")), (200, "no"), "{plain:?}");
    let unwanted = server.door(path, &MARKED);
    assert_eq!((unwanted.status, unwanted.header("x-pepo-held")), (200, "no: nobody waits for it"));
    let request = server.waits_for_a_call(&person, &image);
    let elsewhere = server.door("/hold/shop/elsewhere/app/price/3", &MARKED);
    assert_eq!(elsewhere.header("x-pepo-held"), "no: nobody waits for it");
    let named = server.door(path, &["--header", "x-pepo-debug: 0000000000"]);
    assert_eq!(named.header("x-pepo-held"), "no: this debug request waits for no call here");

    let address = server.proxies.clone().unwrap();
    let held = thread::spawn(move || ask(&address, path, &MARKED));
    let found = person.run(&["requests", "wait", &request, "--timeout", "60s", "--on", &server.address]).ok();
    assert_eq!(found.stdout.trim(), target);
    // A second call names the same request: it waits for the same debugger.
    let (address, baggage) = (server.proxies.clone().unwrap(), format!("baggage: a=b,pepo={request}"));
    let second = thread::spawn(move || ask(&address, path, &["--header", &baggage]));
    wait::until("both are held", LIMIT, || {
        let secret = server.admin.split('.').next().unwrap();
        let page = server.page("/metrics", secret).1;
        page.contains("pepo_held_calls 2\n").then_some(()).ok_or(page)
    });
    assert!(!held.is_finished() && !second.is_finished());

    let mut debugger = Held::attach(&person, &["attach", &target, "--on", &server.address]);
    let attached = server.waits_until("attached", "SessionOpened");
    // A breakpoint that does not stand is not what the call is to meet.
    let fixture = fixtures::python(Variant::debug());
    debugger.types("break nowhere.py:1\n");
    debugger.waits_for("breakpoint");
    assert!(!held.is_finished() && !second.is_finished(), "it would miss the breakpoint");
    debugger.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
    assert_eq!(
        (&attached["spec"]["request"], &attached["spec"]["holds"]["pod"]),
        (&json!(request), &json!("held"))
    );
    for answer in [held.join().unwrap(), second.join().unwrap()] {
        assert_eq!(answer.status, 200);
        assert!(answer.header("x-pepo-held").ends_with(" ms, ready"), "{answer:?}");
        assert_eq!(answer.header("x-pepo-attachment"), attached["metadata"]["name"]);
    }
    let name = attached["metadata"]["name"].as_str().unwrap();
    let on = ["--on", &server.address, "--output", "json"];
    let ready = person.run(&[&["attachments", "wait", name, "--for", "ready"][..], &on].concat()).ok().json();
    let conditions = ready["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|one| one["type"] == "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("DebuggerReady")));
    drop(debugger);
    let acts = server.audit();
    let hold = acts.iter().find(|line| line["act"] == "hold").unwrap_or_else(|| panic!("{acts:?}"));
    assert_eq!((&hold["who"], &hold["target"]), (&json!("admin"), &json!(target)));
    container.assert_goes_on();
}

#[test]
fn a_call_goes_on_when_the_server_ends_or_who_waited_gives_up() {
    let engine = Engine::shared(Kind::Docker);
    let mut server = Server::start_with(&PROXIES);
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = of_a_pod(&engine, "given-up");
    let target = server.waits_for(&person, &container);
    let image = image(&server, &person, &target);
    let hold = |server: &Server| {
        let request = server.waits_for_a_call(&person, &image);
        let address = server.proxies.clone().unwrap();
        // No container is named: the pod has one that fits.
        let held = thread::spawn(move || ask(&address, "/hold/shop/given-up/-/", &MARKED));
        person.run(&["requests", "wait", &request, "--timeout", "60s", "--on", &server.address]).ok();
        held
    };
    let held = hold(&server);
    let waiting = server.waits_until("requested", "CallHeld");
    let name = waiting["metadata"]["name"].as_str().unwrap();
    person.run(&["attachments", "delete", name, "--on", &server.address]).ok();
    let answer = held.join().unwrap();
    assert!(answer.header("x-pepo-held").ends_with(" ms, failed"), "{answer:?}");

    let held = hold(&server);
    assert_eq!(server.running.signal(Signal::TERM), Some(0));
    let answer = held.join().unwrap();
    assert_eq!((answer.status, answer.header("x-pepo-held")), (200, "no longer: the server ends"));
    container.assert_goes_on();
}

const ALL: &str = "/api/v2/debugattachment";

/// Filters, the tag, and waiting, where there is one attachment, which waits.
fn lists(server: &Server) {
    let all = ALL;
    let list = server.door(&format!("{all}?node=node&states=none,error&names=x,call-1"), &[]);
    assert_eq!((list.status, list.json().as_array().unwrap().len()), (200, 1), "{list:?}");
    for none in ["node=other", "state=attached", "names=x"] {
        assert_eq!(server.door(&format!("{all}?{none}"), &[]).body, "[]", "{none}");
    }
    let tag = format!("if-none-match: {}", list.header("etag"));
    assert_eq!(server.door(all, &["--header", &tag]).status, 304);
    let short = ["--header", "x-timeout: 0.3"];
    assert_eq!(server.door(&format!("{all}?wait=true"), &short).status, 200);
    assert_eq!(
        server.door(&format!("{all}?wait=true"), &[&short[..], &["--header", &tag]].concat()).status,
        408
    );
    assert_eq!(server.door(&format!("{all}?wait=true&state=attached"), &short).status, 408);
    assert_eq!(server.door(all, &["--header", "x-timeout: soon"]).status, 400);
}

#[test]
fn squashs_clients_are_refused_what_needs_a_right() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start_with(&PROXIES);
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = of_a_pod(&engine, "refused");
    let target = server.waits_for(&person, &container);
    let request = server.waits_for_a_call(&person, &image(&server, &person, &target));
    let all = ALL;
    let wish = r#"{"metadata":{"name":"call-1"},"spec":{"attachment":{"pod":"refused","namespace":"shop"},"match_request":true}}"#;
    assert_eq!(server.door(all, &["--request", "POST", "--data", wish]).status, 201);
    for (method, path, status) in [
        ("PATCH", "/api/v2/debugattachment/absent", 404),
        ("DELETE", "/api/v2/debugattachment/absent", 200),
        ("GET", "/api/v2/debugattachment/absent", 404),
        ("DELETE", "/api/v2/debugrequest/absent", 200),
        ("DELETE", &format!("/api/v2/debugrequest/{request}"), 403),
        ("PATCH", &format!("{all}/call-1"), 403),
        ("DELETE", &format!("{all}/call-1"), 403),
        ("PUT", all, 405),
        ("GET", "/api/v2/other", 404),
        ("GET", "/api/v1/attachments", 404),
        ("GET", "/metrics", 404),
    ] {
        assert_eq!(server.door(path, &["--request", method]).status, status, "{method} {path}");
    }
    for (path, body, status) in [
        (all, r#"{"spec":{"attachment":{"pod":"refused","namespace":"shop"}}}"#, 403),
        (all, "{", 400),
        (all, r#"{"spec":7}"#, 400),
        (all, r#"{"metadata":{"name":"A/../b"},"spec":{"match_request":true}}"#, 400),
        ("/api/v2/debugrequest", r#"{"spec":{"image":"x"}}"#, 403),
    ] {
        assert_eq!(server.door(path, &["--request", "POST", "--data", body]).status, status, "{body}");
    }
}

/// Envoy's filter: a chunked body, HTTP/1.1 or HTTP/2 without TLS, a slash at the end, then the state each second.
#[test]
fn squashs_clients_are_answered_as_they_were() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start_with(&PROXIES);
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = of_a_pod(&engine, "squash");
    let target = server.waits_for(&person, &container);
    let image = image(&server, &person, &target);
    let all = ALL;
    let wish = r#"{"spec":{"attachment":{"pod":"squash","namespace":"shop"},"match_request":true}}"#;
    let post = ["--request", "POST", "--header", "transfer-encoding: chunked", "--data", wish];

    // Nobody waits: the filter lets the call go.
    for words in
        [&post[..], &[&["--http2-prior-knowledge", "--request", "POST", "--data", wish][..]].concat()]
    {
        for slash in ["", "/"] {
            let answer = server.door(&format!("{all}{slash}"), words);
            assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(404)), "{answer:?}");
        }
    }
    let empty = server.door(all, &[]);
    assert_eq!((empty.status, empty.body.as_str()), (200, "[]"));

    let request = server.waits_for_a_call(&person, &image);
    let seen = server.door("/api/v2/debugrequest", &[]).json();
    assert_eq!(seen[0]["metadata"]["name"], json!(request));
    assert_eq!(seen[0]["spec"], json!({"image": image, "debugger": "", "process_name": ""}));
    assert_eq!(seen[0]["status"], json!({"debug_attachment_ref": ""}));
    let named = wish.replacen('{', r#"{"metadata":{"name":"call-1"},"#, 1);
    let made = server.door(&format!("{all}/"), &["--request", "POST", "--data", &named]);
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["metadata"]["name"], "call-1");
    assert_eq!(made["spec"]["attachment"], json!({"namespace": "shop", "pod": "squash", "container": ""}));
    assert_eq!((&made["spec"]["node"], &made["spec"]["image"]), (&json!("node"), &json!(image)));
    assert_eq!(made["status"], json!({"state": "none", "debug_server_address": ""}));
    let again = server.door(all, &["--request", "POST", "--data", &named]);
    assert_eq!(again.status, 409, "{again:?}");
    let bound = server.door(&format!("/api/v2/debugrequest/{request}"), &[]).json();
    assert_eq!(bound["status"]["debug_attachment_ref"], "call-1");

    lists(&server);
    let one = format!("{ALL}/call-1");
    let (address, waits) = (server.proxies.clone().unwrap(), format!("{all}?wait=true&state=attached"));
    let told = thread::spawn(move || ask(&address, &waits, &["--header", "x-timeout: 60"]));
    let mut debugger = Held::attach(&person, &["attach", &target, "--on", &server.address]);
    server.waits_until("attached", "SessionOpened");
    assert_eq!(server.door(&one, &[]).json()["status"]["state"], "attaching", "it is not ready");
    debugger.types("continue\n");
    let told = told.join().unwrap();
    assert_eq!((told.status, &told.json()[0]["status"]["state"]), (200, &json!("attached")), "{told:?}");
    assert_eq!(told.json()[0]["spec"]["debugger"], "python");
    debugger.types("detach\n");
    debugger.waits_for("closed");
    server.waits_until("detached", "ClientDetached");
    assert_eq!(server.door(&one, &[]).json()["status"]["state"], "attached", "states only rise");
    container.assert_goes_on();
}

#[test]
fn there_is_no_door_unless_it_is_asked_for() {
    let server = Server::start();
    assert_eq!(server.proxies, None);
    let (status, _) = server.page("/api/v2/debugattachment", "");
    assert_eq!(status, 401, "the server's own port asks who calls");
}
