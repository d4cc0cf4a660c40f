//! What is written down of sessions through a server, by its own REST: attachments in truthful states, debug requests.

use super::*;

impl Server {
    /// Asks as a person, by a token as it was told, and reads the JSON.
    fn rest(&self, method: &str, path: &str, token: &str, body: &Value, key: &str) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let secret = token.split('.').next().unwrap();
        let (status, text) = self.asked(method, &format!("/api/v1/{path}"), secret, &body, key);
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}")))
    }

    fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.rest("GET", path, token, &Value::Null, "")
    }

    fn delete(&self, path: &str, token: &str) -> (u16, Value) {
        self.rest("DELETE", path, token, &Value::Null, "")
    }

    fn attachments(&self) -> Vec<Value> {
        let (status, list) = self.get("attachments", &self.admin);
        assert_eq!((status, &list["kind"]), (200, &json!("DebugAttachmentList")), "{list}");
        list["items"].as_array().unwrap().clone()
    }

    /// Waits until the only attachment there is in this state for this reason, and gives it.
    #[track_caller]
    pub(super) fn waits_until(&self, state: &str, reason: &str) -> Value {
        let mut found = Value::Null;
        wait::until(&format!("an attachment is {state} for {reason}"), LIMIT, || {
            let all = self.attachments();
            match &all[..] {
                [one] if one["status"]["state"] == state && one["status"]["reason"] == reason => {
                    found = one.clone();
                    Ok(())
                }
                _ => Err(format!("{all:#?}")),
            }
        });
        found
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The states that an attachment was in, and who brought each about.
fn history(attachment: &Value) -> Vec<String> {
    let transitions = attachment["status"]["transitions"].as_array().unwrap();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    transitions.iter().map(|one| format!("{} by {}", text(one, "state"), text(one, "who"))).collect()
}

const ALL_OF_IT: [&str; 5] = [
    "requested by admin",
    "scheduled by server",
    "attaching by node node",
    "attached by node node",
    "detached by admin",
];

/// Attaches, and lets go at once.
fn detaches(person: &Surroundings, server: &Server, target: &str) {
    person.run(&["attach", target, "--on", &server.address, "-ex", "detach"]).ok();
}

#[test]
fn a_session_is_written_down_from_its_wish_to_its_end() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let container = run(&engine, &fixtures::python(Variant::debug()));
    let target = server.waits_for(&person, &container);
    person.run(&["stack", &target, "--on", &server.address]).ok();
    assert_eq!(server.attachments(), [] as [Value; 0], "a look attaches nothing");

    detaches(&person, &server, &target);
    let ended = server.waits_until("detached", "ClientDetached");
    assert_eq!(history(&ended), ALL_OF_IT);
    let spec = &ended["spec"];
    assert_eq!(
        (&spec["target"], &spec["node"], &spec["who"]),
        (&json!(target), &json!("node"), &json!("admin"))
    );
    assert_eq!(spec["containerId"], container.id());
    assert_eq!(spec["rights"], json!(["look", "stop", "modify"]));
    let status = &ended["status"];
    assert_eq!(status["debugger"], "python");
    assert!(status["stoodStillMillis"].is_u64(), "{status}");
    assert_eq!(status["conditions"][1]["type"], "Ended");
    assert_eq!(status["conditions"][1]["status"], "True");
    assert_eq!(server.get(&format!("attachments/{}", name(&ended)), &server.admin), (200, ended.clone()));

    // One that never comes to be attached says why.
    let refused =
        person.run(&["attach", &target, "--on", &server.address, "--debugger", "delve", "-ex", "detach"]);
    assert_ne!(refused.status, Some(0));
    wait::until("the failure is written down", LIMIT, || {
        let all = server.attachments();
        let failed = all.iter().find(|one| one["status"]["state"] == "failed");
        match failed {
            Some(one)
                if one["status"]["reason"] == "AttachFailed" && one["status"]["message"].is_string() =>
            {
                Ok(())
            }
            _ => Err(format!("{all:#?}")),
        }
    });
    container.assert_goes_on();
}

#[test]
fn whoever_may_ends_an_attachment_and_its_target_runs() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let fixture = fixtures::c(Variant::debug());
    let container = run(&engine, &fixture);
    let person = server.person(&server.admin);
    let target = server.waits_for(&person, &container);
    let (ann, bob, eve) = (server.new_token("ann"), server.new_token("bob"), server.new_token("eve"));
    server.policy(&json!([
        { "who": ["admin", "bob"], "verbs": ["look", "stop", "modify"], "targets": ["*"] },
        { "who": ["ann"], "verbs": ["look"], "targets": ["*"] },
    ]));
    let before = Snapshot::take(container.pid());
    let mut held = Held::open(&person, &["attach", &target, "--on", &server.address], &fixture);
    let attached = server.waits_until("attached", "SessionOpened");
    assert!(attached["status"]["leaseUntil"].as_str() > attached["metadata"]["creationTimestamp"].as_str());
    let path = format!("attachments/{}", name(&attached));

    // Who may not look at the target sees nothing of it; who may only look ends nothing.
    assert_eq!(server.get("attachments", &eve).1["items"], json!([]));
    assert_eq!(server.get(&path, &eve).0, 404);
    assert_eq!(server.delete(&path, &eve).0, 404);
    assert_eq!(server.get(&path, &ann), (200, attached.clone()));
    let (status, problem) = server.delete(&path, &ann);
    assert_eq!((status, &problem["code"]), (403, &json!("P0207")), "{problem}");
    assert_eq!(server.get("attachments", "unknown").0, 401);
    assert_eq!(server.get("attachments", &server.node).0, 401);

    let (status, ended) = server.delete(&path, &bob);
    assert_eq!((status, &ended["status"]["state"]), (200, &json!("detached")), "{ended}");
    assert_eq!(history(&ended).last().unwrap(), "detached by bob");
    held.waits_for("closed");
    container.assert_goes_on();
    before.assert_same();
    assert_eq!(server.delete(&path, &bob).0, 200, "what is over is removed");
    let (status, problem) = server.get(&path, &bob);
    assert_eq!((status, &problem["code"], &problem["status"]), (404, &json!("P0119"), &json!(404)));
    assert!(server.audit().iter().any(|line| line["act"] == "end-attachment" && line["who"] == "bob"));
}

#[test]
fn a_request_gets_the_next_container_of_its_image_and_its_owner_attaches_to_it() {
    let engine = Engine::shared(Kind::Docker);
    let server = Server::start();
    let _node = server.node(&engine);
    let person = server.person(&server.admin);
    let fixture = fixtures::python(Variant::debug());
    // An image of its own: other tests start the usual one.
    let image = Image::usual(&fixture).named(&format!("pepo-wished:{}", std::process::id()));
    engine.load(&image);
    let start = |which: &str| {
        let name = format!("wished-{which}-{}", std::process::id());
        let container = engine.run(&image, &RunOptions::named(&name).args(&["1000"]));
        container.wait_started();
        container
    };
    // What is there already is not the next.
    let older = start("older");
    server.waits_for(&person, &older);
    let wish = json!({ "spec": { "image": format!("*{}*", image.name()) } });
    let (status, request) = server.rest("POST", "requests", &server.admin, &wish, "one");
    assert_eq!((status, &request["status"]["state"]), (201, &json!("waiting")), "{request}");
    assert_eq!(server.rest("POST", "requests", &server.admin, &wish, "one"), (200, request.clone()));
    let (status, problem) =
        server.rest("POST", "requests", &server.admin, &json!({ "spec": { "imege": "x" } }), "");
    assert_eq!((status, &problem["code"]), (400, &json!("P0002")), "{problem}");

    let container = start("next");
    let path = format!("requests/{}", name(&request));
    let mut bound = Value::Null;
    wait::until("the request is bound", LIMIT, || {
        bound = server.get(&path, &server.admin).1;
        if bound["status"]["state"] == "bound" { Ok(()) } else { Err(bound.to_string()) }
    });
    let target = format!("docker/{}@node", container.name());
    assert_eq!(bound["status"]["target"], target);
    let offered = server.waits_until("requested", "RequestBound");
    assert_eq!(
        (name(&offered), &offered["spec"]["request"]),
        (bound["status"]["attachment"].as_str().unwrap().to_owned(), &json!(name(&request)))
    );
    detaches(&person, &server, &target);
    let ended = server.waits_until("detached", "ClientDetached");
    assert_eq!(name(&ended), name(&offered), "it is the one that waited");
    assert_eq!(server.get("requests", &server.new_token("ann")).1["items"], json!([]), "it is its owner's");
    assert_eq!(server.delete(&path, &server.admin).0, 200);
    assert_eq!(server.get(&path, &server.admin).0, 404);
    let line = ["requests", "create", "--image", "nobody", "--for", "1s", "--wait", "--on", &server.address];
    let late = person.run(&line).fails(8);
    let again = "pepo requests create --image nobody --for 8h";
    assert!(late.stderr.contains("no container came") && late.stderr.contains(again), "{late:?}");
    container.assert_goes_on();
    older.assert_goes_on();
}
