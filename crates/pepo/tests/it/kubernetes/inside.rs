//! A look around inside pods, by `pepo shell`.

use std::fs;

use pepo_testkit::{Image, wait};
use serde_json::json;

use super::{Here, cluster, native, pod, processes, python, strict};
use crate::{session::LIMIT, support::Run, terminal::Terminal};

impl Here<'_> {
    /// A shell that is typed this.
    fn shell(&self, words: &[&str], typed: &str) -> Run {
        let file = self.surroundings.path("typed");
        fs::write(&file, typed).unwrap();
        let line = self.line(&[&["shell"], words].concat());
        let mut command = self.surroundings.command(&line);
        Run::of(command.stdin(fs::File::open(&file).unwrap()).output().unwrap())
    }
}

/// A pod whose image has a shell, and one variable.
fn with_shell() -> Image {
    let image = Image::new("pepo.test/with-shell:1").with_shell().env("FROM", "image");
    let image = image.command(&["sleep", "100000"]);
    cluster().import(&image).unwrap();
    image
}

#[test]
fn a_restricted_read_only_pod_without_a_shell_is_looked_into_by_its_helper() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &native(), strict())]));
    let run = here.shell(&["pod/shop"], "ps\nls /app\nls /nowhere\nexit 5\n").fails(5);
    for words in ["/app/loop", "entry sh /proc/1/root", "loop\n"] {
        assert!(run.stdout.contains(words), "no {words:?} in {run:?}");
    }
    assert!(run.stderr.contains("ls: /nowhere: No such file"), "{run:?}");
    let run = here.shell(&["pod/shop"], "cat /proc/self/status\n").ok();
    assert!(run.stdout.contains("Uid:\t65532"), "it has the target's user: {run:?}");
    let mut terminal = Terminal::run(&here.surroundings, &here.line(&["shell", "pod/shop"]));
    terminal.waits_for("/ $ ", 1);
    terminal.types("\x03");
    terminal.waits_for("/ $ ", 2);
    terminal.types("ls /app\r");
    terminal.waits_for("loop", 1);
    let shells = || processes("shop", &here.namespace, "entry\0sh");
    assert_eq!(shells(), 1);
    terminal.types("exit 6\r");
    assert_eq!(terminal.status(), Some(6), "{}", terminal.said());
    wait::until("no shell is left", LIMIT, || match shells() {
        0 => Ok(()),
        count => Err(format!("{count} of them")),
    });
    assert_eq!(here.helpers("shop").len(), 1);
    here.assert_quiet("shop");
    let run = here.shell(&["pod/shopp"], "").fails(3);
    assert!(run.stderr.contains("near names: pod/shop"), "{run:?}");
}

#[test]
fn each_of_two_containers_has_its_own_root_also_in_one_pid_namespace() {
    let mut both = pod("both", &[("app", &native(), json!({})), ("side", &python(), json!({}))]);
    both["spec"]["shareProcessNamespace"] = true.into();
    let here = Here::new("privileged").with(both);
    let told = |words: &[&str]| here.shell(words, "ls /app\n").ok().stdout;
    let (app, side) = (told(&["pod/both", "-c", "app"]), told(&["pod/both/side"]));
    assert!(app.contains("loop") && !app.contains(".py") && side.contains(".py"), "{app}\n{side}");
}

#[test]
fn an_image_that_is_not_ours_brings_the_tools_too() {
    let image = Image::new("pepo.test/box:1").with_shell();
    cluster().import(&image).unwrap();
    let here = Here::new("baseline").with(pod("shop", &[("app", &native(), json!({"runAsUser": 65532}))]));
    let run = here.shell(&["pod/shop", "--image", image.name()], "ls /app\nexit 7\n").fails(7);
    assert!(run.stdout.contains("loop"), "{run:?}");
    here.assert_quiet("shop");
}

#[test]
fn the_containers_own_shell_is_taken_where_there_is_one_and_has_a_terminal() {
    let here = Here::new("privileged").with(pod("shop", &[("app", &with_shell(), json!({}))]));
    let run = here.shell(&["pod/shop"], "echo $FROM\nexit 3\n").fails(3);
    assert_eq!(run.stdout, "image\n", "{run:?}");
    let mut terminal = Terminal::run(&here.surroundings, &here.line(&["shell", "pod/shop"]));
    terminal.types("busybox stty size\r");
    terminal.waits_for("50 200", 1);
    terminal.types("sleep 100000; echo slept $((40+2))\r");
    terminal.waits_for("sleep 100000", 1);
    terminal.types("\x03");
    terminal.types("echo woken $((6*7))\r");
    terminal.waits_for("woken 42", 1);
    terminal.types("exit 4\r");
    assert_eq!(terminal.status(), Some(4), "{}", terminal.said());
    assert!(!terminal.said().contains("slept 42"), "{}", terminal.said());
    assert!(here.helpers("shop").is_empty());
    let mut terminal = Terminal::run(&here.surroundings, &here.line(&["shell", "pod/shop"]));
    terminal.types("echo $((6*7))\r");
    terminal.waits_for("42", 1);
    here.namespace.kubectl(&["delete", "pod", "shop", "--wait=false"]).unwrap();
    assert_eq!(terminal.status(), Some(3), "{}", terminal.said());
    assert!(terminal.said().contains("ended while it was looked into"), "{}", terminal.said());
}

#[test]
fn without_the_right_to_exec_there_is_one_error() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &native(), json!({}))]));
    let reads = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let account = here.namespace.account("reader", reads).unwrap();
    let run = here.shell(&["pod/shop", "--kubeconfig", &account.display().to_string()], "ls\n").fails(4);
    assert!(run.stderr.contains("pods/exec") && run.stderr.matches("error[").count() == 1, "{run:?}");
    assert!(here.helpers("shop").is_empty());
}
