//! Several targets in one session.

use std::thread;

use pepo_testkit::{Language, Life as _, Running, Variant, clean::Snapshot, fixtures, http_get, spawn};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{held::Held, session::LIMIT, support::Surroundings};

/// A shop that answers requests.
struct Shop {
    running: Running,
    name: String,
    port: String,
    before: Snapshot,
}

impl Shop {
    fn open(language: Language) -> Shop {
        let running = spawn(&fixtures::shop(language, Variant::debug()), &[]);
        let line = running.wait_for_line("listening 127.0.0.1:", LIMIT);
        let port = line.rsplit(':').next().unwrap().to_owned();
        let (name, before) = (format!("pid/{}", running.pid()), Snapshot::take(running.pid()));
        Shop { running, name, port, before }
    }

    /// The price of so many, asked for by somebody who waits.
    fn ask(&self, amount: u32) -> thread::JoinHandle<String> {
        let (pid, port) = (self.running.pid(), self.port.clone());
        thread::spawn(move || http_get(pid, &port, &format!("/price/{amount}")))
    }

    #[track_caller]
    fn assert_answers(&self) {
        assert_answered(self.ask(3), 3);
    }
}

#[track_caller]
fn assert_answered(asked: thread::JoinHandle<String>, amount: u32) {
    let answer: Value = serde_json::from_str(&asked.join().unwrap()).unwrap();
    assert_eq!(answer, json!({"amount": amount, "price": 18 * amount}));
}

/// Three shops in a session with these flags, and a breakpoint in each.
fn three(language: Language, flags: &[&str], surroundings: &Surroundings) -> ([Shop; 3], Held) {
    let shops = [0; 3].map(|_| Shop::open(language));
    let names: Vec<&str> = shops.iter().map(|shop| shop.name.as_str()).collect();
    let line = [&["attach"], &names[..], flags, &["--pause-budget", "0"]].concat();
    let mut held = Held::attach(surroundings, &line);
    let fixture = fixtures::shop(language, Variant::debug());
    held.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
    let point = held.waits_for("breakpoint");
    assert_eq!((&point["targets"], &point["verified"]), (&json!(names), &json!(true)), "{point}");
    (shops, held)
}

#[test]
fn of_several_the_first_that_stops_is_kept_and_the_others_are_let_go() {
    let surroundings = Surroundings::new();
    for language in [Language::C, Language::Go, Language::Python] {
        let (shops, mut held) = three(language, &["--first"], &surroundings);
        held.types("continue\n");
        let asked = shops[1].ask(7);
        let stopped = held.waits_for("stopped");
        assert_eq!(stopped["targets"], json!([shops[1].name]), "{stopped}");
        let mut gone = [0; 2].map(|_| held.waits_for("closed")["targets"][0].clone());
        gone.sort_by_key(Value::to_string);
        let mut others = [json!(shops[0].name), json!(shops[2].name)];
        others.sort_by_key(Value::to_string);
        assert_eq!(gone, others, "{language:?}");
        shops[0].assert_answers();
        shops[2].assert_answers();
        held.types("print amount\n");
        assert_eq!(held.waits_for("value")["value"], "7");
        held.types("detach\n");
        assert_eq!(held.waits_for("closed")["targets"], json!([shops[1].name]));
        assert_answered(asked, 7);
        assert_eq!(held.status(), Some(0));
        shops.iter().for_each(|shop| shop.before.assert_same());
    }
}

#[test]
fn any_of_several_stops_and_a_command_that_is_killed_lets_all_go() {
    let surroundings = Surroundings::new();
    for language in [Language::C, Language::Go] {
        let (shops, mut held) = three(language, &[], &surroundings);
        held.types("continue\n");
        let first = shops[2].ask(5);
        assert_eq!(held.waits_for("stopped")["targets"], json!([shops[2].name]));
        let second = shops[0].ask(9);
        assert_eq!(held.waits_for("stopped")["targets"], json!([shops[0].name]));
        // A person who looks at one goes on looking at it.
        held.types("print amount\ntargets\n");
        assert_eq!(held.waits_for("value")["value"], "5");
        let rows = held.waits_for("targets")["targets"].clone();
        let states: Vec<_> =
            rows.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
        assert_eq!(
            (states, &rows[2]["current"]),
            (vec!["stands still", "running", "stands still"], &json!(true))
        );
        held.types(&format!("target {}\nprint amount\n", shops[0].name));
        assert_eq!(held.waits_for("value")["value"], "9");
        held.types("continue\n");
        assert_answered(first, 5);
        assert_answered(second, 9);
        let third = shops[1].ask(2);
        assert_eq!(held.waits_for("stopped")["targets"], json!([shops[1].name]));
        held.signal(Signal::KILL);
        assert_answered(third, 2);
        assert_ne!(held.status(), Some(0));
        for shop in &shops {
            shop.assert_answers();
            shop.before.assert_same();
        }
    }
}

#[test]
fn one_of_several_that_cannot_be_attached_to_is_named_and_the_others_go_on() {
    let surroundings = Surroundings::new();
    let shop = Shop::open(Language::C);
    let line = ["attach", &shop.name, "pid/1", "--all", "-ex", "targets", "--output", "json"];
    let run = surroundings.run(&line);
    assert!(!matches!(run.status, Some(0) | None), "{}", run.snapshot());
    assert!(run.stderr.contains("pid/1") && run.stderr.contains("1 of 2 targets failed"), "{}", run.stderr);
    let rows = run.json_lines().into_iter().find(|one| one["kind"] == "targets").unwrap();
    assert_eq!(
        rows["targets"],
        json!([{"number": 1, "target": shop.name, "state": "running", "current": true}])
    );
    shop.assert_answers();
    shop.before.assert_same();
    let run = surroundings.run(&["attach", &shop.name, "pid/1", "--all", "--at-once", "1", "-ex", "targets"]);
    assert!(run.stderr.contains("2 targets are more than --at-once 1"), "{}", run.stderr);
}
