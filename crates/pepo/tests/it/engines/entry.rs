//! `pepo run`: the engines' own commands, with the entry before the program.

use std::{fs, path::Path, process::Command, time::Duration};

use pepo_testkit::{Engine, Image, Kind, Podman, Variant, command, fixtures, only_child, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    session::{self, language},
    support::{PEPO, Run, Surroundings},
    terminal::Terminal,
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn docker_runs_with_the_entry() {
    runs("docker", Kind::Docker);
    says_no_program("docker", Kind::Docker);
}

#[test]
fn podman_runs_with_the_entry() {
    runs("podman", Kind::Podman);
    says_no_program("podman", Kind::Podman);
}

/// The engine's own command, beside ours.
struct Own<'a>(&'a str, &'a Surroundings);

impl Own<'_> {
    fn run(&self, line: &[&str]) -> Run {
        let ours = self.1.command(&[]);
        let mut command: Command = command(self.0);
        command.args(line).env_clear();
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Run::of(command.output().unwrap())
    }

    fn logs(&self, name: &str) -> String {
        let run = self.run(&["logs", name]);
        run.stdout + &run.stderr
    }
}

fn runs(name: &str, kind: Kind) {
    let engine = Engine::shared(kind);
    let image = Image::new("pepo.test/run:1").with_shell().user("65534:65534").env("FROM", "image");
    engine.load(&image.command(&["sh", "-c", "echo said $FROM $ASKED $0 by $(id -u); exit 4", "word"]));
    let surroundings = Surroundings::new().at(&engine);
    let own = Own(name, &surroundings);
    let start = |line: &[&str]| {
        surroundings.run(&[&["run", "--debug", "stayalive", "--on", name, "--"], line].concat())
    };

    // What the image says, with the engine's own options, as its own user; kept, asked, stopped.
    start(&[
        "-d",
        "--name",
        "kept",
        "--network=none",
        "-e",
        "ASKED=option",
        "--read-only",
        "pepo.test/run:1",
    ])
    .ok();
    let log = wait::until("it is kept", LIMIT, || match own.logs("kept") {
        log if log.contains("the container is kept") => Ok(log),
        log => Err(log),
    });
    assert!(
        log.contains("said image option word by 65534") && log.contains("sh failed with status 4"),
        "{log}"
    );
    assert!(log.contains(&format!("{name} exec -it ")), "{log}");
    let status = own.run(&["exec", "kept", "/pepo-entry", "status"]).ok();
    assert!(status.stdout.contains("failed with status 4; the container is kept"), "{status:?}");
    // What is left is no program to look at.
    let target = format!("{name}/kept");
    for line in [&["check", &target][..], &["stack", &target], &["attach", &target, "-ex", "bt"]] {
        let run = surroundings.run(line).fails(3);
        let told = [format!("the program of {target} has ended"), format!("pepo shell {target}")];
        assert!(told.iter().all(|words| run.stderr.contains(words)), "{run:?}");
    }
    own.run(&["stop", "-t", "60", "kept"]).ok();
    let code = own.run(&["inspect", "--format", "{{.State.ExitCode}}", "kept"]).ok();
    assert_eq!(code.stdout.trim(), "4");

    // What is mistyped is told before anything is fetched or run.
    for (line, said) in [
        (&["--rmm", "--network=none", "pepo.test/run:1"][..], "unknown flag: --rmm"),
        (&[name, "run", "--rm", "pepo.test/run:1"], "stands in the line already"),
    ] {
        let run = start(line).fails(2);
        assert!(run.stderr.contains(said), "{run:?}");
    }

    // Another command, in the foreground: the streams and the status are its own.
    let run =
        start(&["--rm", "--network=none", "pepo.test/run:1", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
    let run = start(&["--rm", "--network=none", "--entrypoint", "cat", "pepo.test/run:1", "/etc/group"]).ok();
    assert!(run.stdout.starts_with("root:"), "{run:?}");
}

/// An image that says no program is told apart, by both verbs, with the command that names one.
fn says_no_program(name: &str, kind: Kind) {
    let engine = Engine::shared(kind);
    let surroundings = Surroundings::new().at(&engine);
    engine.load(&Image::new("pepo.test/says-nothing:1").with_shell());
    let line = ["run", "--debug", "stayalive", "--on", name, "--", "--rm", "pepo.test/says-nothing:1"];
    let run = surroundings.run(&line).fails(2);
    let manifest = surroundings.path("pod.yaml");
    let manifest = manifest.to_str().unwrap();
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec:\n  containers:\n  - {name: web, image: 'pepo.test/says-nothing:1'}\n";
    fs::write(manifest, pod).unwrap();
    let inject = ["inject", "--on", name, "-f", manifest, "--image", "entry:1", "--debug", "stayalive"];
    let injected = surroundings.run(&inject).fails(2);
    let said = "error[P0002]: nothing says what a container of pepo.test/says-nothing:1 runs\n  \
                the image has neither ENTRYPOINT nor CMD for it, and no command is given\n";
    for (run, next) in [
        (&run, format!("`pepo run --debug stayalive --on {name} -- --rm pepo.test/says-nothing:1 /app`")),
        (
            &injected,
            format!("`pepo inject -f {manifest} --image entry:1 --debug stayalive -c web --entrypoint /app`"),
        ),
    ] {
        assert_eq!(
            run.stderr,
            format!("{said}hint: name its program: {}\n", next.trim_matches('`')),
            "{run:?}"
        );
        assert_eq!(run.stdout, "");
    }
    let named = [&inject[..], &["-c", "web", "--entrypoint", "/app"]].concat();
    assert!(surroundings.run(&named).ok().stdout.contains(r#""--", "/app"]"#));
    fs::write(manifest, pod.replace(":1'}", ":1', args: [/app]}")).unwrap();
    assert!(surroundings.run(&inject).ok().stdout.contains(r#""--"]"#));
}

#[test]
fn an_engine_that_is_away_is_not_taken_for_one_without_the_image() {
    let surroundings = Surroundings::new();
    let mut command =
        surroundings.command(&["run", "--debug", "stayalive", "--on", "docker", "--", "shop:1"]);
    command.env("DOCKER_HOST", format!("unix://{}", surroundings.path("none").display()));
    let run = Run::of(command.output().unwrap()).fails(5);
    assert!(run.stderr.contains("docker does not answer") && run.stderr.contains("--on podman"), "{run:?}");
    let run = surroundings.run(&["run", "--debug", "", "--", "shop:1"]).fails(2);
    assert!(run.stderr.contains("--debug says no word"), "{run:?}");
    let run = surroundings.run(&["run", "--debug", "wiat", "--", "shop:1"]).fails(2);
    assert!(run.stderr.contains("--debug: there is no word \"wiat\""), "{run:?}");
}

#[test]
fn docker_containers_are_looked_into() {
    looks("docker", Kind::Docker);
}

#[test]
fn podman_containers_are_looked_into() {
    looks("podman", Kind::Podman);
}

/// With the image's own shell, with the entry that it was started with, and with neither.
fn looks(name: &str, kind: Kind) {
    let engine = Engine::shared(kind);
    let surroundings = Surroundings::new().at(&engine);
    let own = Own(name, &surroundings);
    let look = |target: &str, typed: &str| {
        let file = surroundings.path("typed");
        fs::write(&file, typed).unwrap();
        let mut command = surroundings.command(&["shell", &format!("{name}/{target}")]);
        Run::of(command.stdin(fs::File::open(&file).unwrap()).output().unwrap())
    };

    let shell = Image::new("pepo.test/with-shell:1").with_shell().env("FROM", "image").user("65534:65534");
    engine.load(&shell.command(&["sleep", "1000"]));
    own.run(&["run", "-d", "--name", "with-shell", "--network=none", "pepo.test/with-shell:1"]).ok();
    let run = look("with-shell", "echo $FROM by $(id -u)\nexit 3\n").fails(3);
    assert_eq!(run.stdout, "image by 65534\n", "{run:?}");

    let mut terminal = Terminal::run(&surroundings, &["shell", &format!("{name}/with-shell")]);
    terminal.waits_for("$ ", 1);
    own.run(&["kill", "with-shell"]).ok();
    assert_eq!(terminal.status(), Some(3), "{}", terminal.said());
    assert!(terminal.said().contains("ended while it was looked into"), "{}", terminal.said());

    let bare = Image::of(&fixtures::c(Variant::debug()));
    engine.load(&bare);
    let words = ["run", "--debug", "stayalive", "--on", name, "--", "-d", "--network=none"];
    surroundings.run(&[&words[..], &["--name", "with-entry", bare.name()]].concat()).ok();
    let run = look("with-entry", "ps\nexit 4\n").fails(4);
    assert!(run.stdout.contains("/pepo-entry") && run.stdout.contains("/app/loop"), "{run:?}");

    for user in ["0:0", "65534:65534"] {
        let options = ["-d", "--name", "with-neither", "--read-only", "--network=none", "--user", user];
        let mount = ["--mount", "type=tmpfs,destination=/only-here"];
        own.run(&[&["run"], &options[..], &mount, &[bare.name()]].concat()).ok();
        let run = look("with-neither", "ps\nls\nexit 5\n").fails(5);
        for words in ["/app/loop", "pepo-entry sh", "only-here"] {
            assert!(run.stdout.contains(words), "no {words} for {user} in {run:?}");
        }
        let left = own.run(&["ps", "-aq", "--filter", "label=dev.pepo.shell"]).ok();
        assert_eq!(left.stdout, "");
        own.run(&["rm", "-f", "with-neither"]).ok();
    }
    own.run(&["run", "-d", "--name", "with-neither", "--network=none", bare.name()]).ok();
    let beside = || own.run(&["ps", "-aq", "--filter", "label=dev.pepo.shell"]).ok().stdout;
    // Interrupted while it starts.
    let mut terminal = Terminal::run(&surroundings, &["shell", &format!("{name}/with-neither")]);
    wait::until("there is a container", LIMIT, || if beside().is_empty() { Err("none") } else { Ok(()) });
    terminal.interrupts();
    terminal.types("exit\r");
    terminal.status();
    assert_eq!(beside(), "", "{}", terminal.said());
    // Killed in the middle: the next one removes what is left.
    let terminal = Terminal::run(&surroundings, &["shell", &format!("{name}/with-neither")]);
    terminal.waits_for("/ $ ", 1);
    let listed = surroundings.run(&["ps"]).ok();
    assert!(!listed.stdout.contains("pepo-shell"), "{listed:?}");
    drop(terminal);
    assert!(look("with-neither", "ps\n").ok().stdout.contains("/app/loop"));
    assert_eq!(beside(), "");
    own.run(&["rm", "-f", "with-neither", "with-shell", "with-entry"]).ok();
    let run = surroundings.run(&["shell", "pid/1"]).fails(5);
    assert!(run.stderr.contains("no container of an engine"), "{run:?}");
}

/// One that dies at its start again and again: each time the breakpoint is there first.
#[test]
fn a_container_in_a_crash_loop_is_caught_before_its_first_line() {
    let engine = Engine::shared(Kind::Docker);
    let surroundings = Surroundings::new().at(&engine);
    let own = Own("docker", &surroundings);
    for fixture in session::fixtures() {
        let name = format!("caught-{}", language(&fixture));
        let image = Image::of(&fixture);
        engine.load(&image);
        let words = ["run", "--debug", "wait", "--on", "docker", "--"];
        let options = ["-d", "--restart=on-failure:3", "--name", &name, "--network=none", image.name()];
        surroundings.run(&[&words[..], &options].concat()).ok();
        for start in 1..=2 {
            let held = "is held at its first instruction";
            wait::until("it is held", LIMIT, || match own.logs(&name) {
                log if log.matches(held).count() == start => Ok(()),
                log => Err(log),
            });
            let target = format!("docker/{name}");
            let place = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
            let script = ["-ex", &place, "-ex", "continue", "-ex", "print counter", "-ex", "detach"];
            let run = surroundings.run(&[&["attach", &target][..], &script].concat()).ok();
            let after = run.stdout.split("(pepo) continue").nth(1).unwrap();
            assert!(after.contains("stopped: breakpoint") && after.contains("counter = 1"), "{run:?}");
            // By the engine it would not be restarted.
            let init = own.run(&["inspect", "--format", "{{.State.Pid}}", &name]).ok().stdout;
            let program = only_child(init.trim().parse().unwrap());
            let program = Pid::from_raw(program.cast_signed()).unwrap();
            kill_process(program, Signal::SEGV).unwrap();
        }
        own.run(&["rm", "-f", &name]).ok();
    }
}

/// Podman plays manifests as a cluster would.
#[test]
fn podman_plays_what_is_injected() {
    let engine = Engine::shared(Kind::Podman);
    let surroundings = Surroundings::new().at(&engine);
    let own = Own("podman", &surroundings);
    engine.load(&Podman::pause_image());
    engine.load(&Image::new("pepo.test/entry:1").file(Path::new(PEPO), "/pepo-entry"));
    let shop = Image::new("pepo.test/shop:1").with_shell().user("65534:65534");
    engine.load(&shop.command(&["sh", "-c", "echo said $0 by `id -u`; exit 4", "word"]));
    let manifest = surroundings.path("pod.yaml");
    let pod = "\
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - {name: web, image: 'pepo.test/shop:1'}
";
    fs::write(&manifest, pod).unwrap();
    let manifest = manifest.to_str().unwrap();
    let line = ["inject", "-f", manifest, "--image", "pepo.test/entry:1", "--debug", "stayalive"];
    let run = surroundings.run(&line).ok();
    assert!(run.stderr.contains("what it runs is what podman has in pepo.test/shop:1"), "{run:?}");
    fs::write(manifest, &run.stdout).unwrap();

    own.run(&["kube", "play", manifest]).ok();
    let log = wait::until("it is kept", LIMIT, || match own.logs("shop-web") {
        log if log.contains("the container is kept") => Ok(log),
        log => Err(log),
    });
    assert!(log.contains("said word by 65534") && log.contains("sh failed with status 4"), "{log}");
    let status = own.run(&["exec", "shop-web", "/pepo/pepo-entry", "status"]).ok();
    assert!(status.stdout.contains("failed with status 4; the container is kept"), "{status:?}");
    own.run(&["kube", "down", manifest]).ok();
}
