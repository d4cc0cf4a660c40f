//! Debuggers on copies of pods, which go with them.

use pepo_testkit::{Life as _, Variant, fixtures, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Here, InPod,
    caught::{entry, failed, fails, place, workload},
    cluster, pod, python, refused, strict,
};
use crate::{held::Held, session::LIMIT};

impl Here<'_> {
    fn copies(&self) -> Vec<Value> {
        let words = ["get", "pods", "--selector", "pepo.dev/copy-of", "--output", "json"];
        let list: Value = serde_json::from_str(&self.namespace.kubectl(&words).unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// A session on a copy of this.
    fn copied(&self, target: &str) -> Held {
        let image = entry();
        Held::attach(&self.surroundings, &self.line(&["attach", target, "--copy", "--entry-image", &image]))
    }
}

#[test]
fn a_copy_of_a_pod_that_fails_is_held_at_its_start_and_gone_afterwards() {
    let here = Here::new("restricted");
    here.namespace.apply(workload("Deployment", &fails())).unwrap();
    failed(&here);
    let fixture = fixtures::python(Variant::debug());
    let breaks = format!("break {}", place(&fixture));
    let image = entry();
    let words = ["attach", "deploy/shop", "--copy", "--entry-image", &image];
    let script = ["-ex", &breaks, "-ex", "continue", "-ex", "print arguments", "-ex", "detach"];
    let run = here.run(&[&words[..], &script].concat()).ok();
    assert!(
        run.stdout.contains("it was held at its start") && run.stdout.contains("['x']"),
        "{}",
        run.stdout
    );
    assert!(
        run.stderr.contains("the copy is gone") && run.stderr.contains("kubectl delete pod"),
        "{}",
        run.stderr
    );
    assert_eq!(here.copies(), [] as [Value; 0]);
    // The program fails once more, and with it ends the session.
    let run = here.run(&[&words[..], &["-ex", "continue"]].concat());
    assert!(run.stdout.contains("target exited"), "{}", run.snapshot());
    assert!(run.stderr.contains("the copy is gone"), "{}", run.stderr);
    assert_eq!(here.copies(), [] as [Value; 0]);
}

#[test]
fn a_copy_takes_no_traffic_has_no_health_check_and_a_limit_of_its_own() {
    let mut shop = pod("shop", &[("app", &python(), strict())]);
    shop["spec"]["containers"][0]["command"] = json!(python().command_line());
    shop["spec"]["containers"][0]["livenessProbe"] =
        json!({"exec": {"command": ["/nowhere"]}, "periodSeconds": 600});
    let here = Here::new("restricted").with(shop);
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}}))
        .unwrap();
    let life = InPod::of(&here, "shop");
    let mut held = here.copied("pod/shop");
    let [copy] = &here.copies()[..] else { panic!("one copy") };
    assert_eq!(copy["metadata"]["labels"], json!({"pepo.dev/copy-of": "shop"}));
    assert_eq!(copy["spec"]["activeDeadlineSeconds"], 7200);
    assert!(!copy.to_string().contains("livenessProbe"), "{copy}");
    let slices = ["get", "endpointslices", "--output", "jsonpath={.items[*].endpoints[*].targetRef.name}"];
    assert_eq!(here.namespace.kubectl(&slices).unwrap(), "shop");
    held.signal(Signal::TERM);
    assert_ne!(held.status(), Some(0));
    wait::until("the copy is gone", LIMIT, || match here.copies().len() {
        0 => Ok(()),
        count => Err(count),
    });
    // One whose command was killed is removed as that said.
    let mut killed = here.copied("pod/shop");
    killed.signal(Signal::KILL);
    killed.status();
    assert_eq!(here.copies().len(), 1);
    let said = killed.errors();
    let (_, command) = said.split_once("`kubectl ").expect("the command that removes it");
    let command: Vec<&str> = command.split('`').next().unwrap().split(' ').collect();
    cluster().kubectl(&command).unwrap();
    assert_eq!(here.copies().len(), 0);
    // One that others delete ends its session.
    let mut held = here.copied("pod/shop");
    here.namespace.kubectl(&["delete", "pod", "--selector", "pepo.dev/copy-of", "--wait=false"]).unwrap();
    assert_ne!(held.status(), Some(0));
    assert!(held.errors().contains("the copy is gone"), "{}", held.errors());
    assert_eq!(here.copies().len(), 0);
    life.assert_goes_on();
}

#[test]
fn a_copy_whose_program_is_not_known_runs_and_is_debugged_there() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    let fixture = fixtures::python(Variant::debug());
    let breaks = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let image = entry();
    let words = ["attach", "pod/shop", "--copy", "--entry-image", &image];
    let run = here.run(&[&words[..], &["-ex", &breaks, "-ex", "continue", "-ex", "detach"]].concat()).ok();
    assert!(run.stderr.contains("it is not held at its start"), "{}", run.stderr);
    assert!(run.stdout.contains("stopped: breakpoint"), "{}", run.stdout);
    let command = serde_json::to_string(python().command_line()).unwrap();
    let more = ["--entrypoint", &command, "-ex", &breaks, "-ex", "continue", "-ex", "detach"];
    let run = here.run(&[&words[..], &more].concat()).ok();
    assert!(run.stdout.contains("it was held at its start"), "{}", run.stdout);
    assert_eq!(here.copies(), [] as [Value; 0]);
}

#[test]
fn copies_need_their_own_role_and_each_of_its_verbs() {
    let mut shop = pod("shop", &[("app", &python(), strict())]);
    shop["spec"]["containers"][0]["command"] = json!(python().command_line());
    let here = Here::new("restricted").with(shop);
    let rules = refused::rules("copy.yaml");
    let image = entry();
    for (missing, rule) in rules.iter().enumerate() {
        let account =
            here.namespace.account(&format!("without-{missing}"), refused::without(&rules, missing)).unwrap();
        let words = ["attach", "pod/shop", "--copy", "--entry-image", &image, "-ex", "detach"];
        let run = here.run(&[&words[..], &["--kubeconfig", account.to_str().unwrap()]].concat()).fails(4);
        let resource = rule["resources"][0].as_str().unwrap();
        assert!(
            run.stderr.contains("P0210") && run.stderr.contains(&format!("--resource={resource}")),
            "{rule}: {}",
            run.stderr
        );
    }
}
