//! Sources that fail, names that mean nothing.

use std::{
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt as _},
    time::Duration,
};

use crate::support::{Run, Surroundings, same};

#[test]
fn an_engine_that_is_not_there_is_named_with_its_address() {
    let run = Surroundings::new().run(&["ps", "--on", "docker"]).fails(5);
    same("no-engine", &run.snapshot());
}

#[test]
fn a_source_that_never_answers_is_named_while_the_others_are_shown() {
    let surroundings = Surroundings::new();
    let socket = surroundings.path("silent.sock");
    let _silent = UnixListener::bind(&socket).unwrap();
    let surroundings = surroundings.with("DOCKER_HOST", format!("unix://{}", socket.display()));
    let run = surroundings.run(&["ps", "--all", "--output", "json"]).ok();
    let told = |kind: &str| {
        let lines = run.stderr.lines().filter(|line| line.contains("silent.sock") && line.contains(kind));
        lines.count()
    };
    assert_eq!((told("\"note\""), told("\"warning\"")), (1, 1), "{}", run.stderr);
    let own = format!("pid/{}", std::process::id());
    let data = run.json();
    let targets: Vec<_> =
        data["targets"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert!(targets.contains(&own.as_str()), "{targets:?}");
    assert!(data["sources"]["answered"].as_u64() < data["sources"]["asked"].as_u64(), "{data}");
}

#[test]
fn a_socket_of_somebody_else_is_a_matter_of_rights() {
    if !rustix::process::getuid().is_root() {
        return pepo_testkit::skip(
            "pepo-socket-of-somebody-else",
            "only root can run a command as somebody else",
        );
    }
    let surroundings = Surroundings::new();
    let socket = surroundings.path("private.sock");
    let _private = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(surroundings.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    let surroundings = surroundings.with("DOCKER_HOST", format!("unix://{}", socket.display()));
    let mut command = surroundings.command(&["ps", "--on", "docker"]);
    let Ok(output) = command.uid(65534).gid(65534).output() else {
        return pepo_testkit::skip(
            "pepo-socket-of-somebody-else",
            "the binary is in a folder that nobody may enter",
        );
    };
    same("socket-denied", &Run::of(output).fails(4).snapshot());
}

#[test]
fn a_name_that_nothing_answers_to_says_how_to_find_those_that_do() {
    let surroundings = Surroundings::new();
    for (name, status) in [("host/ffffffffffffffff", 3), ("pid/2147483647", 3)] {
        for verb in ["stack", "check", "attach", "release"] {
            let run = surroundings.run(&[verb, name]).fails(status);
            assert_eq!(run.stdout, "", "{verb} {name}");
            assert!(run.stderr.starts_with("error[P01"), "{verb} {name}: {}", run.stderr);
            assert!(run.stderr.contains("hint: "), "{verb} {name}: {}", run.stderr);
        }
    }
}

#[test]
fn a_run_folder_of_somebody_else_is_told_as_such() {
    let surroundings = Surroundings::new();
    let folder = surroundings.path("open");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
    let surroundings = surroundings.with("PEPO_RUN", folder.display().to_string());
    let run = surroundings.run(&["sessions"]);
    assert!(run.stderr.starts_with("error[P0208]") && run.stderr.contains("PEPO_RUN"), "{}", run.snapshot());
}

#[test]
fn no_word_is_said_to_a_cluster_that_nobody_named() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let surroundings = Surroundings::new();
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: 'http://{}'}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n",
        server.local_addr().unwrap()
    );
    let file = surroundings.path("config");
    std::fs::write(&file, config).unwrap();
    let surroundings = surroundings.with("KUBECONFIG", file.display().to_string());
    surroundings.run(&["ps", "--all"]);
    surroundings.run(&["stack", "shop"]).fails(5);
    assert!(server.accept().is_err());
    // The same server is asked once it is named.
    let mut asked = surroundings.command(&["ps", "--on", "kubernetes"]).spawn().unwrap();
    pepo_testkit::wait::until("a connection", Duration::from_secs(20), || server.accept());
    asked.kill().unwrap();
    asked.wait().unwrap();
}

#[test]
fn a_cluster_that_cannot_be_known_says_where_it_was_looked_for() {
    let surroundings = Surroundings::new();
    let run = surroundings.run(&["stack", "pod/shop"]).fails(5);
    assert!(run.stderr.starts_with("error[P0301]") && run.stderr.contains(".kube/config"), "{}", run.stderr);
    let run = surroundings.run(&["stack", "pod/shop", "--kubeconfig", "/dev/null"]).fails(5);
    assert!(run.stderr.starts_with("error[P0301]"), "{}", run.stderr);
}
