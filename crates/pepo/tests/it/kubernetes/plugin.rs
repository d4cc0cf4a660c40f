//! kubectl finds the command by its name, `kubectl-pepo`, and asks `kubectl_complete-pepo` what the last word may be.

use pepo_testkit::kubernetes::Cluster;
use serde_json::json;

use super::{Here, native, pod, python, strict, three_replicas};
use crate::{
    completed::{offered, shell},
    support::Run,
};

impl Here<'_> {
    /// With the command in the path.
    fn with_programs(self) -> Self {
        Here { surroundings: self.surroundings.with_programs(), ..self }
    }

    /// kubectl with these words and the plugin in its path.
    fn kubectl(&self, words: &[&str]) -> Run {
        let kubectl = Cluster::shared().kubectl_command().get_program().to_owned();
        let kubectl = kubectl.to_str().unwrap();
        Run::of(self.surroundings.other(kubectl, words).output().unwrap())
    }

    /// What kubectl offers for the last of these words, and how its shells go on.
    #[track_caller]
    fn kubectl_offers(&self, words: &[&str]) -> (Vec<String>, String) {
        let run = self.kubectl(&[&["__complete", "pepo"], words].concat()).ok();
        let lines = run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned());
        let mut lines: Vec<String> = lines.collect();
        let how = lines.pop().unwrap();
        (lines, how)
    }
}

#[test]
fn kubectl_runs_it_as_a_plugin_for_which_a_bare_name_is_a_pod() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())])).with_programs();
    let namespace = here.namespace.name();
    for name in ["shop", "pod/shop"] {
        let stack = here.kubectl(&["pepo", "stack", name, "-n", namespace]).ok();
        assert!(stack.stdout.starts_with("pod/shop/app · python"), "{}", stack.snapshot());
    }
    let listed = here.kubectl(&["pepo", "ps", "-n", namespace]).ok();
    assert!(listed.stdout.contains("pod/shop/app") && !listed.stdout.contains("host/"), "{}", listed.stdout);
    let help = here.kubectl(&["pepo", "help", "stack"]).ok().stdout;
    assert!(help.contains("\nUsage: kubectl pepo stack [OPTIONS]"), "{help}");
    assert!(help.contains("\n  kubectl pepo stack") && !help.contains("\n  pepo "), "{help}");
    let failed = here.kubectl(&["pepo", "stack", "nowhere", "-n", namespace]).fails(3);
    assert!(
        failed.stderr.contains("hint: ") && failed.stderr.contains(": kubectl pepo ps"),
        "{}",
        failed.stderr
    );
    let failed = here.kubectl(&["pepo", "stack", "nowhere", "-n", namespace, "-o", "json"]).fails(3);
    let told: serde_json::Value = serde_json::from_str(&failed.stderr).unwrap();
    let hints = told["error"]["hints"].as_array().unwrap();
    assert!(
        hints.iter().any(|hint| hint["command"][0] == "kubectl" && hint["command"][1] == "pepo"),
        "{told}"
    );
    let wrong = here.kubectl(&["pepo", "stack", "--no-such"]).fails(2);
    assert!(wrong.stderr.contains("kubectl pepo help stack"), "{}", wrong.stderr);
}

#[test]
fn kubectl_completes_it() {
    let here = three_replicas().with_programs();
    let namespace = here.namespace.name();
    let (verbs, how) = here.kubectl_offers(&["sta"]);
    assert_eq!((verbs, how.as_str()), (vec!["stack".to_owned()], ":4"));
    let (names, how) = here.kubectl_offers(&["attach", "-n", namespace, ""]);
    let pods = names.iter().filter(|name| name.starts_with("web-")).count();
    assert!(pods == 3 && names.contains(&"deploy/".to_owned()) && how == ":6", "{names:?} {how}");
    for (words, word) in [
        (&["stack", "-n", namespace, "deploy/"][..], "deploy/web"),
        (&["stack", "-n", namespace, "svc/f"], "svc/front"),
        (&["stack", "-n", namespace, "deploy/web/s"], "deploy/web/side"),
        (&["record", "deploy/web", "-n", namespace, "-c", "ap"], "app"),
        (&["inject", "-n", namespace, "deploy/"], "deploy/web"),
    ] {
        assert_eq!(here.kubectl_offers(words), (vec![word.to_owned()], ":4".to_owned()), "{words:?}");
    }
    let (namespaces, _) = here.kubectl_offers(&["stack", "-n", namespace]);
    assert!(namespaces.contains(&namespace.to_owned()), "{namespaces:?}");
}

#[test]
fn a_shell_completes_pods_and_containers() {
    let both = pod("both", &[("app", &native(), json!({})), ("side", &python(), json!({}))]);
    let here = Here::new("privileged").with(both).with_programs();
    let namespace = here.namespace.name();
    let (names, how) = offered(&here.surroundings, &["stack", "-n", namespace, "pod/both/"]);
    assert_eq!((names, how.as_str()), (vec!["pod/both/app".to_owned(), "pod/both/side".to_owned()], ":4"));
    // The pod and its container by their beginnings.
    let mut terminal = shell(&here.surroundings, "bash");
    terminal.types(&format!("pepo stack -n {namespace} pod/bo\t-c si\t\r"));
    terminal.waits_for("tick_for_ever", 1);
    terminal.types("exit\r");
    terminal.status();
}
