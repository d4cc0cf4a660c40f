//! The rules, under conditions that are made or recorded.
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

/// Conditions of real containers.
mod engines;
/// The same check, run by a process with fewer privileges.
mod helper;
/// Conditions that are made.
mod made;
/// Conditions that no process here can be put under: judged from recordings.
mod recorded;

use pepo_wire::agent::{ProcessTarget, Target, target::Kind};

use super::*;

/// A finding in one line: `No yama [attach dap] Yama`.
fn line(finding: &Finding) -> String {
    let code =
        finding.failure.as_ref().map(|failure| format!(" {}", failure.code().name())).unwrap_or_default();
    format!("{:?} {} [{}]{code}", finding.level(), finding.rule, finding.verbs.join(" "))
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(line).collect()
}

/// The findings that are not OK. Of a core and of files it is said again what is said of every stop.
fn troubles(findings: &[Finding]) -> Vec<String> {
    let troubles = findings.iter().filter(|finding| {
        finding.level() != Level::Ok && !["core", "files"].contains(&finding.rule.as_str())
    });
    troubles.map(line).collect()
}

fn request(pid: u32) -> CheckRequest {
    let process = ProcessTarget { agent_pid: pid, ..ProcessTarget::default() };
    CheckRequest {
        target: Some(Target { kind: Some(Kind::Process(process)), selector: None }),
        ..CheckRequest::default()
    }
}

#[test]
fn every_rule_has_a_name_of_its_own_and_every_no_says_what_to_do() {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    let env = CheckEnv::new(&Tools::in_folders(Vec::new(), Vec::new()));
    let machine = check(&CheckRequest::default(), &env).unwrap();
    for finding in machine.findings.iter().filter(|finding| finding.level() != Level::Ok) {
        assert!(!finding.failure.as_ref().unwrap().hints.is_empty(), "{finding:?}");
    }
}

#[test]
fn the_machine_is_checked_without_a_target() {
    let env = CheckEnv::new(&Tools::in_folders(Vec::new(), Vec::new()));
    let response = check(&CheckRequest::default(), &env).unwrap();
    assert!(response.process.is_none());
    let lines = lines(&response.findings);
    assert!(lines.contains(&"Ok kernel [stack top record attach dap]".to_owned()), "{lines:?}");
    let missing = lines.iter().filter(|line| *line == "Lost tools [attach dap] ToolMissing").count();
    assert_eq!(missing, pepo_debug::tools::catalog().len(), "{lines:?}");
    let hint = response
        .findings
        .iter()
        .find_map(|finding| finding.failure.as_ref().filter(|_| finding.rule == "tools"));
    assert_eq!(hint.unwrap().hints[0].command[..3], ["pepo", "tools", "install"]);
}

#[test]
fn a_core_needs_the_right_to_stop_and_no_debugger() {
    let env = CheckEnv::new(&Tools::in_folders(Vec::new(), Vec::new()));
    let running =
        pepo_testkit::spawn(&pepo_testkit::fixtures::python(pepo_testkit::Variant::debug()), &["1000"]);
    let of =
        |pid| check(&CheckRequest { verbs: vec!["core".into()], ..request(pid) }, &env).unwrap().findings;
    assert_eq!(lines(&of(pepo_testkit::Life::pid(&running))), ["Ok core [core]"]);
    let own = of(std::process::id());
    assert!(own.len() == 1 && own[0].level() == Level::No && own[0].failure.is_some(), "{:?}", lines(&own));
}

#[test]
fn only_the_wanted_verbs_are_told_of() {
    let env = CheckEnv::new(&Tools::in_folders(Vec::new(), Vec::new()));
    let response =
        check(&CheckRequest { verbs: vec!["stack".into()], ..request(std::process::id()) }, &env).unwrap();
    assert!(!response.findings.is_empty());
    assert!(
        response.findings.iter().all(|finding| finding.verbs == ["stack"]),
        "{:?}",
        lines(&response.findings)
    );
    let response =
        check(&CheckRequest { verbs: vec!["no-such-verb".into()], ..request(std::process::id()) }, &env)
            .unwrap();
    assert!(response.findings.is_empty());
}
