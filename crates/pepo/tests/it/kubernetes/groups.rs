//! One session on all replicas of a workload.

use std::thread;

use pepo_testkit::{
    Image, Language, Life as _, Variant, clean::Snapshot, fixtures, http_get, kubernetes::Cluster,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Here, InPod, native, pod};
use crate::{held::Held, session::LIMIT};

/// Where each shop sells.
const PORT: &str = "8080";

/// A Deployment of three shops that are ready.
fn shops() -> Here<'static> {
    let image = Image::usual(&fixtures::shop(Language::Python, Variant::debug()));
    let words: Vec<String> = image.command_line().iter().cloned().chain([PORT.to_owned()]).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let image = image.command(&words).named("pepo.test/shop-at-8080:1");
    Cluster::shared().import(&image).unwrap();
    let here = Here::new("restricted");
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = pod("web", &[("app", &image, super::strict())])["spec"].clone();
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    here.namespace
        .apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": selector, "template": template}}))
        .unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    here
}

/// One of them.
struct Shop {
    life: InPod,
    /// As a target.
    name: String,
    before: Snapshot,
}

impl Shop {
    fn ask(&self, amount: u32) -> thread::JoinHandle<String> {
        let pid = self.life.pid;
        thread::spawn(move || http_get(pid, PORT, &format!("/price/{amount}")))
    }

    /// It answers, and nothing is left in it.
    #[track_caller]
    fn assert_free(&self) {
        assert_answered(self.ask(3), 3);
        self.before.assert_same();
    }
}

#[track_caller]
fn assert_answered(asked: thread::JoinHandle<String>, amount: u32) {
    let answer: Value = serde_json::from_str(&asked.join().unwrap()).unwrap();
    assert_eq!(answer, json!({"amount": amount, "price": 18 * amount}));
}

/// All of them, each with its helper, in the order of their names.
fn replicas(here: &Here<'_>) -> Vec<Shop> {
    let names = here.namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).unwrap();
    let mut shops: Vec<Shop> = names
        .lines()
        .map(|pod| {
            let life = InPod::started(here, pod.trim_start_matches("pod/"));
            life.wait_for_line("listening", LIMIT);
            // The helper stays, and with it the socket that it waits on.
            here.run(&["check", pod, "--for", "attach"]).ok();
            let before = Snapshot::take(life.pid);
            Shop { life, name: format!("{pod}/app"), before }
        })
        .collect();
    shops.sort_by(|one, other| one.name.cmp(&other.name));
    shops
}

/// A session with a breakpoint in each of these.
fn opened(here: &Here<'_>, words: &[&str], shops: &[Shop]) -> Held {
    let mut held = Held::attach(&here.surroundings, &here.line(words));
    let fixture = fixtures::shop(Language::Python, Variant::debug());
    held.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
    let point = held.waits_for("breakpoint");
    let mut names: Vec<&str> =
        point["targets"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, shops.iter().map(|shop| shop.name.as_str()).collect::<Vec<_>>(), "{point}");
    held
}

#[test]
fn the_replica_that_a_request_meets_is_kept_and_the_others_are_let_go_untouched() {
    let here = shops();
    let shops = replicas(&here);
    let line = ["attach", "deploy/web", "--first", "--pause-budget", "0"];
    let mut held = opened(&here, &line, &shops);
    held.types("continue\n");
    let asked = shops[1].ask(7);
    assert_eq!(held.waits_for("stopped")["targets"], json!([shops[1].name]));
    let mut gone = [0; 2].map(|_| held.waits_for("closed"));
    gone.sort_by_key(|one| one["targets"].to_string());
    for (closed, shop) in gone.iter().zip([&shops[0], &shops[2]]) {
        assert_eq!(
            (&closed["targets"], &closed["left_behind"]),
            (&json!([shop.name]), &json!([])),
            "{closed}"
        );
        shop.assert_free();
    }
    held.types("set amount = 10\ndetach\n");
    assert_eq!(held.waits_for("closed")["targets"], json!([shops[1].name]));
    assert_eq!(held.status(), Some(0));
    assert!(asked.join().unwrap().contains("\"price\": 180"));
    shops[1].assert_free();
    shops.iter().for_each(|shop| here.assert_quiet(&shop.life.pod));
}

#[test]
fn a_command_that_is_killed_lets_all_replicas_go() {
    let here = shops();
    let shops = replicas(&here);
    let mut held = opened(&here, &["attach", "deploy/web", "--all", "--pause-budget", "0"], &shops);
    held.types("continue\n");
    let asked = shops[2].ask(5);
    assert_eq!(held.waits_for("stopped")["targets"], json!([shops[2].name]));
    held.signal(Signal::KILL);
    assert_answered(asked, 5);
    shops.iter().for_each(Shop::assert_free);
}

#[test]
fn without_a_flag_one_replica_is_taken_and_named_and_one_that_cannot_be_attached_to_is_left_out() {
    let here = shops();
    let shops = replicas(&here);
    let run = here.run(&["attach", "deploy/web", "-ex", "info session", "--output", "json"]).ok();
    assert!(run.stderr.contains("has 3 pods; this is web-"), "{}", run.stderr);
    let mut broken = pod("web-native", &[("app", &native(), super::strict())]);
    broken["metadata"]["labels"]["app"] = "web".into();
    let here = here.with(broken);
    let run = here.run(&["attach", "-l", "app=web", "--all", "-ex", "targets", "--output", "json"]);
    assert!(!matches!(run.status, Some(0) | None), "{}", run.snapshot());
    assert!(
        run.stderr.contains("pod/web-native/app") && run.stderr.contains("1 of 4 targets failed"),
        "{}",
        run.stderr
    );
    let rows = run.json_lines().into_iter().find(|one| one["kind"] == "targets").unwrap();
    assert_eq!(rows["targets"].as_array().unwrap().len(), 3, "{rows}");
    shops.iter().for_each(Shop::assert_free);
}
