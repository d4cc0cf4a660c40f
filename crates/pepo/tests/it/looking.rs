//! Looking at processes of this machine: `ps`, `check`, `stack`, none of which stops anything.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use pepo_testkit::{Language, Life as _, Symbols, Variant, fixtures, spawn, wait};

use crate::support::Surroundings;

#[test]
fn the_stack_of_a_process_names_its_functions() {
    let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let name = format!("pid/{}", target.pid());
    let surroundings = Surroundings::new();
    let text = surroundings.run(&["stack", &name]).ok().stdout;
    assert!(text.starts_with(&name) && text.contains("tick_for_ever"), "{text}");
    assert!(text.contains("loop.c:"), "{text}");
    let data = surroundings.run(&["stack", &name, "--output", "json"]).ok().json();
    let threads = data["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 3, "{data}");
    let thread = threads[1]["container_tid"].as_u64().unwrap().to_string();
    let one = surroundings.run(&["stack", &name, "--thread", &thread, "--output", "json"]).ok().json();
    assert_eq!(one["threads"].as_array().unwrap().len(), 1, "{one}");
    target.assert_goes_on();
}

#[test]
fn the_stack_of_a_python_program_is_its_own_and_hides_what_is_secret() {
    let target = spawn(&fixtures::build(Language::Python, "hot", Variant::debug()), &["secrets"]);
    target.wait_started();
    let name = format!("pid/{}", target.pid());
    let surroundings = Surroundings::new();
    let text = surroundings.run(&["stack", &name, "--locals"]).ok().stdout;
    for shown in
        ["target not stopped", "\"MainThread\" tid", "hot.py:", "password = [hidden]", "user = 'anna'"]
    {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let data = surroundings.run(&["stack", &name, "--native", "--output", "json"]).ok().json();
    let thread = &data["threads"][0];
    assert!(thread["given_name"] == "MainThread" && thread["idle"].is_boolean(), "{thread}");
    let frames = thread["frames"].as_array().unwrap();
    assert!(
        ["python", "native"].iter().all(|one| frames.iter().any(|frame| frame["language"] == *one)),
        "{thread}"
    );
    target.assert_goes_on();
}

#[test]
fn the_stack_of_a_stripped_go_program_is_its_goroutines_as_go_would_dump_them() {
    let variant = Variant::debug().symbols(Symbols::Stripped);
    let fixture = fixtures::build(Language::Go, "waits", variant);
    let target = spawn(&fixture, &["many", "25"]);
    target.wait_for_line("beat 3 ", Duration::from_secs(20));
    let name = format!("pid/{}", target.pid());
    let surroundings = Surroundings::new();
    // Its main goroutine runs now and then; then it is held for a moment, which is told.
    let text = wait::until("all of them wait", Duration::from_secs(60), || {
        let text = surroundings.run(&["stack", &name]).ok().stdout;
        if text.contains("target not stopped") { Ok(text) } else { Err(text) }
    });
    let (start, many) = (fixture.line("START"), fixture.line("MANY"));
    for shown in [
        "[select]\n    main.choose",
        "[sync.Mutex.Lock]",
        "[chan receive, locked to thread]\n    main.own",
        "25 goroutines [chan receive]: ",
        "of the runtime itself: `--native` shows them",
        &format!("created by main.main in goroutine 1  {}:{start}", fixture.source.display()),
        &format!("created by main.many  {}:{many}", fixture.source.display()),
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("runtime.gopark") && !text.contains(" tid "), "{text}");
    let all = surroundings.run(&["stack", &name, "--native"]).ok().stdout;
    assert!(all.contains("runtime.gopark") && all.contains(" tid "), "{all}");
    let data = surroundings.run(&["stack", &name, "--output", "json"]).ok().json();
    let chooses = data["goroutines"].as_array().unwrap().iter().find(|one| one["state"] == "select").unwrap();
    let stack = &data["goroutine_stacks"][chooses["stack"].as_u64().unwrap() as usize];
    let frame =
        stack["frames"].as_array().unwrap().iter().find(|one| one["function"] == "main.choose").unwrap();
    assert!(
        frame["file"].as_str().unwrap().ends_with("waits.go") && frame["line"].as_u64() > Some(0),
        "{frame}"
    );
    target.assert_goes_on();
}

#[test]
fn threads_are_told_with_what_they_wait_for_and_who_keeps_them_waiting() {
    let fixture = fixtures::build(Language::C, "waits", Variant::release());
    let server = spawn(&fixture, &[]);
    let line = server.wait_for_line("port=", Duration::from_secs(20));
    let port = line.rsplit("port=").next().unwrap().trim_end_matches('.');
    let client = spawn(&fixture, &["connect", port]);
    let surroundings = Surroundings::new();
    let told = |target: &pepo_testkit::Running, shown: &[String]| {
        let name = format!("pid/{}", target.pid());
        pepo_testkit::wait::until("what is waited for", Duration::from_secs(20), || {
            let text = surroundings.run(&["stack", &name]).ok().stdout;
            if shown.iter().all(|one| text.contains(one.as_str())) { Ok(()) } else { Err(text) }
        });
    };
    let other = format!("for waits (process {}) at the other end of 3", server.pid());
    told(&client, &[format!("→ 127.0.0.1:{port}, 1 byte)"), other]);
    told(
        &server,
        &[
            "deadlock: threads ".into(),
            "for the lock that \"holds-second\" (tid ".into(),
            "for the end of ".into(),
        ],
    );
    let data = surroundings.run(&["stack", &format!("pid/{}", client.pid()), "-o", "json"]).ok().json();
    let waiting = data["threads"].as_array().unwrap().iter().find(|one| one["name"] == "client").unwrap();
    assert_eq!(waiting["sockets"][0]["other_end"]["agent_pid"], server.pid(), "{waiting}");
}

#[test]
fn a_stack_is_watched_until_ctrl_c_or_the_end_of_the_process() {
    let surroundings = Surroundings::new();
    for by_signal in [true, false] {
        let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
        let mut command =
            surroundings.command(&["stack", &format!("pid/{}", target.pid()), "--watch", "-o", "json"]);
        let mut watching =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let data: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(data["threads"].as_array().unwrap().len(), 3, "{data}");
        }
        if by_signal {
            let pid = rustix::process::Pid::from_child(&watching);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            target.assert_goes_on();
        } else {
            drop(target);
        }
        let rest = lines.count();
        let run = crate::support::Run::to_end(watching).ok();
        assert!(rest < 20 && run.stderr.contains("the process has ended") != by_signal, "{}", run.stderr);
    }
}

#[test]
fn a_process_is_chosen_by_its_number_on_this_machine() {
    let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let pid = target.pid().to_string();
    let data = Surroundings::new().run(&["stack", "--host-pid", &pid, "--output", "json"]).ok().json();
    assert_eq!(data["process"]["agent_pid"], target.pid());
}

#[test]
fn a_check_of_a_process_and_of_this_machine_has_findings_for_each_verb() {
    let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let name = format!("pid/{}", target.pid());
    let surroundings = Surroundings::new();
    let verbs = ["stack", "attach"];
    let run = surroundings.run(&["check", &name, "--output", "json"]);
    let data = run.json();
    let findings = data["findings"].as_array().unwrap();
    for verb in verbs {
        let concerns =
            |one: &&serde_json::Value| one["verbs"].as_array().unwrap().iter().any(|other| other == verb);
        assert!(findings.iter().any(|one| concerns(&one)), "{verb}: {data}");
    }
    let no = findings.iter().any(|one| one["level"] == "no");
    assert_eq!(run.status, Some(i32::from(no)), "{}", run.snapshot());
    let text = surroundings.run(&["check", &name]).stdout;
    assert!(
        text.lines().all(|line| ["ok ", "lost", "risk", "no "].iter().any(|level| line.starts_with(level))),
        "{text}"
    );
    let machine = surroundings.run(&["check", "--output", "json"]).json();
    assert!(!machine["findings"].as_array().unwrap().is_empty(), "{machine}");
}

#[test]
fn ps_shows_a_process_with_its_runtime_and_a_name_that_works() {
    let target = spawn(&fixtures::go(Variant::debug()), &["1000"]);
    let surroundings = Surroundings::new();
    let name = format!("pid/{}", target.pid());
    let run = surroundings
        .run(&[
            "ps",
            "--all",
            "--output",
            "json",
            "--filter",
            &format!("name={name}"),
            "--filter",
            "runtime=go",
        ])
        .ok();
    let data = run.json();
    let targets = data["targets"].as_array().unwrap();
    assert!(
        targets.iter().any(|one| one["target"] == name.as_str() && one["process"]["look"]["yes"] == true),
        "{data}"
    );
    let wide = surroundings.run(&["ps", "--all", "--output", "wide", &format!("^{name}$")]).ok();
    assert!(
        wide.stdout.lines().next().unwrap().contains("COMMAND") && wide.stdout.contains("loop"),
        "{}",
        wide.stdout
    );
    assert!(wide.stderr.contains("answered in"), "{}", wide.stderr);
}

#[test]
fn a_verb_that_fails_is_told_with_the_check() {
    let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let name = format!("pid/{}", target.pid());
    // A toolkit with nothing in it, and no PATH: no debugger is found.
    let surroundings = Surroundings::new().with("PEPO_TOOLS", "/nonexistent").with("PATH", "/nonexistent");
    let run = surroundings.run(&["attach", &name, "-ex", "bt"]).fails(7);
    assert!(
        run.stderr.starts_with("error[P0401]") && run.stderr.contains("pepo tools install"),
        "{}",
        run.stderr
    );
    target.assert_goes_on();
}

#[test]
fn nothing_is_held_and_nothing_to_release_on_a_process_left_alone() {
    let target = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let name = format!("pid/{}", target.pid());
    let surroundings = Surroundings::new();
    let sessions = surroundings.run(&["sessions", "--output", "json"]).ok().json();
    let of_target = |one: &&serde_json::Value| one["process"]["agent_pid"] == target.pid();
    assert!(!sessions["sessions"].as_array().unwrap().iter().any(|one| of_target(&one)), "{sessions}");
    surroundings.run(&["release", &name]).ok();
    assert!(target.goes_on(Duration::from_secs(20)).is_ok());
}

#[test]
fn tools_are_listed_with_what_each_is_for() {
    let run = Surroundings::new().run(&["tools"]).ok();
    for word in ["delve", "gdb", "lldb", "python", "built in"] {
        assert!(run.stdout.contains(word), "{word} is not in\n{}", run.stdout);
    }
    let missing = Surroundings::new()
        .with("PEPO_TOOLS", "/nonexistent")
        .with("PATH", "/nonexistent")
        .run(&["tools"])
        .ok();
    assert!(missing.stdout.contains("pepo tools install delve"), "{}", missing.stdout);
    Surroundings::new().run(&["tools", "install", "crystal-ball"]).fails(7);
}
