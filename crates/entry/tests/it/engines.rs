//! In containers of real engines: images with a shell and without one; as root, as another user, in user namespaces; with a
//! root that may be written and one that may not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pepo_testkit::{
    Container, Engine, Image, Kind, Life as _, RunOptions, Variant, fixtures, only_child, wait,
};
use rustix::process::Signal;

use crate::{
    archive::{Member, tar},
    support::{Init, LIMIT, signal, status_field},
};

/// Far more than an end takes that nobody has to wait for; an engine kills after it.
const GRACE: Duration = Duration::from_secs(30);

#[test]
fn docker() {
    all(Kind::Docker, "docker exec -it ");
}

#[test]
fn podman() {
    all(Kind::Podman, "podman exec -it ");
}

#[test]
fn podman_without_root() {
    all(Kind::PodmanRootless, "podman exec -it ");
}

#[test]
fn containerd() {
    all(Kind::Containerd, "kubectl exec -it ");
}

/// All of it in one engine, as starting one takes longest. `enter` is how the log says to enter.
fn all(kind: Kind, enter: &str) {
    let engine = Engine::shared(kind);
    without_a_shell(&engine, enter);
    as_another_user(&engine, enter);
    with_an_archive(&engine);
    by_a_file(&engine);
}

/// Options with the words, and what a kubelet would set where there is one.
fn options(engine: &Engine, name: &str, words: &str) -> RunOptions {
    let mut options = RunOptions::named(name);
    options.env.push(format!("PEPO_DEBUG={words}"));
    if engine.kind() == Kind::Containerd {
        options.env.push("KUBERNETES_SERVICE_HOST=10.0.0.1".to_owned());
    }
    options
}

fn with_entry(image: Image) -> Image {
    image.file(Path::new(Init::Ours.path()), "/pepo-entry")
}

fn says(container: &Container, what: &str) {
    wait::until(&format!("the log says {what:?}"), LIMIT, || match container.logs() {
        log if log.contains(what) => Ok(()),
        log => Err(log),
    });
}

/// Stopping it takes no patience; its status.
fn stopped(container: &Container) -> i64 {
    let start = Instant::now();
    let status = container.stop(GRACE);
    assert!(start.elapsed() < GRACE / 2, "it had to be killed, or was slow: {:?}", start.elapsed());
    status
}

/// An image with one program and its libraries, held at its first instruction, and kept after its fault.
fn without_a_shell(engine: &Engine, enter: &str) {
    let fixture = fixtures::c(Variant::debug());
    let image = with_entry(Image::of(&fixture)).named("pepo.test/entry-bare:1");
    let program = image.command_line()[0].clone();
    let image = image.command(&["/pepo-entry", "--", &program]);
    let container = engine.run(&image, &options(engine, "entry-bare", "wait,stayalive"));
    says(&container, "is held at its first instruction");
    let held = only_child(container.pid()).to_string();
    let of = |name: &str| status_field(&held, name);
    assert_eq!((of("State"), of("TracerPid")), ("T (stopped)".to_owned(), "0".to_owned()));
    assert!(!container.logs().contains("answer="), "{}", container.logs());
    assert_eq!(container.exec(&["/pepo-entry", "release"]), (0, "the program goes on\n".to_owned()));
    says(&container, "answer=");

    signal(held.parse().unwrap(), Signal::SEGV);
    says(&container, "was ended by SIGSEGV");
    says(&container, &format!("{enter}{}", named_inside(&container)));
    says(&container, " /pepo-entry sh\n");
    assert_eq!(container.logs().contains("livenessProbe"), engine.kind() == Kind::Containerd);
    let (status, said) = container.exec(&["/pepo-entry", "status"]);
    assert!(status == 0 && said.contains("was ended by SIGSEGV") && said.contains("is kept"), "{said}");
    assert_eq!(container.exec(&["/pepo-entry", "sh"]).0, 0);

    let before = container.logs().len();
    let (status, said) = container.exec(&["/pepo-entry", "rerun"]);
    assert!(status == 0 && said.starts_with("runs as PID "), "{said}");
    wait::until("it runs again", LIMIT, || match &container.logs()[before..] {
        log if log.contains("answer=") => Ok(()),
        log => Err(log.to_owned()),
    });
    signal(only_child(container.pid()), Signal::SEGV);
    wait::until("it is kept again", LIMIT, || match container.logs()[before..].contains("is kept") {
        true => Ok(()),
        false => Err(container.logs()),
    });
    assert_eq!(stopped(&container), 139);
}

/// As the commands to enter name it.
fn named_inside(container: &Container) -> String {
    match container.engine().kind() {
        // A pod's name is its host's; Podman tells a container its name only when it is privileged.
        Kind::Containerd => container.name().to_owned(),
        _ => container.id()[..12].to_owned(),
    }
}

/// A shell's script that fails, as a user without rights, in a root that is read-only.
fn as_another_user(engine: &Engine, enter: &str) {
    let image = with_entry(Image::new("pepo.test/entry-shell:1").with_shell());
    let image =
        image.command(&["/pepo-entry", "--", "sh", "-c", "true traced; exit 3"]).text("/archive", "none");
    let words = "verbose,fstree=file:///archive,fstree-optional,stayalive";
    let strict = RunOptions::restricted("entry-shell");
    let options = RunOptions { env: options(engine, "", words).env, ..strict };
    let container = engine.run(&image, &options);
    says(&container, "sh failed with status 3");
    let log = container.logs();
    for line in [
        "is no archive but",
        "the program starts all the same",
        "user 65534",
        "capabilities: none",
        "true traced",
    ] {
        assert!(log.contains(line), "no {line:?} in {log}");
    }
    says(&container, enter);
    assert_eq!(container.exec(&["/pepo-entry", "status"]).0, 0, "the same user may ask");
    assert_eq!(container.exec(&["sh", "-c", "exit 5"]).0, 5);
    assert_eq!(stopped(&container), 3);
}

/// An archive in a container's root, a container that runs on, and one that is refused.
fn with_an_archive(engine: &Engine) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    fs::write(&archive, tar(&[Member::file("etc/group", "patched\n"), Member::file("opt/new", "new\n")]))
        .unwrap();
    let script = "cat /etc/group /opt/new; trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let image = with_entry(Image::new("pepo.test/entry-archive:1").with_shell()).file(&archive, "/archive");
    let image = image.command(&["/pepo-entry", "--", "sh", "-c", script]);
    let container = engine.run(&image, &options(engine, "entry-archive", "fstree=file:///archive,stayalive"));
    says(&container, "patched\nnew\nready\n");
    says(&container, "replaced /etc/group: ");
    says(&container, "1 replaced, 1 new, 1 folder made");
    // What is stopped is no fault, and nothing of it is kept.
    assert_eq!(stopped(&container), 7);
    assert!(!container.logs().contains("is kept"), "{}", container.logs());
}

/// Words of a file that lies there as the kubelet mounts a ConfigMap.
fn by_a_file(engine: &Engine) {
    let image = with_entry(Image::new("pepo.test/entry-file:1").with_shell());
    let image = image.text("/etc/pepo/..data/debug", "verbose\nstayalive=always\n");
    let image = image.link("/etc/pepo/debug", "..data/debug");
    let image = image.command(&["/pepo-entry", "--", "sh", "-c", "echo \"words: ${PEPO_DEBUG-unset}\""]);
    let container = engine.run(&image, &RunOptions::named("entry-file"));
    says(&container, "pepo-entry: runs /bin/sh");
    says(&container, "words: unset");
    says(&container, "stayalive: the container is kept");
    assert_eq!(stopped(&container), 0);
}
