//! What is told of a program, and shells that trace.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crate::support::{Init, Outcome, as_process, run};

/// Scripts, one for each shell.
struct Scripts(TempDir);

impl Scripts {
    fn new() -> Scripts {
        Scripts(tempfile::tempdir().unwrap())
    }

    fn script(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
}

fn verbose(words: &str, program: &[&str]) -> Outcome {
    run(as_process(Init::Ours, &[], program).env("PEPO_DEBUG", words))
}

#[test]
fn bash_is_traced_with_file_line_and_function_and_so_are_its_children() {
    let scripts = Scripts::new();
    let inner = scripts.script("inner", "#!/usr/bin/env bash\ntrue inner\n");
    let text = format!("#!/bin/bash\ngreet() {{\n  echo \"hello $1\"\n}}\ngreet you\n{inner}\nexit 4\n");
    let outer = scripts.script("outer", &text);
    let outcome = verbose("verbose", &[&outer, "argument"]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (4, "hello you\n"), "{outcome:?}");
    for line in [
        format!("+ {outer}:5: greet you"),
        format!("+ {outer}:3: greet(): echo 'hello you'"),
        format!("+ {inner}:2: true inner"),
        format!("traces bash ({outer})"),
        "arguments: argument".to_owned(),
    ] {
        assert!(outcome.stderr.contains(&line), "no {line:?} in {}", outcome.stderr);
    }
}

#[test]
fn other_shells_are_traced_with_file_and_line() {
    let scripts = Scripts::new();
    // Debian's dash does not know its line.
    for (shell, place) in [
        ("/bin/dash", ""),
        ("/bin/sh", ""),
        ("/bin/busybox sh", ":2"),
        ("/usr/bin/env dash", ""),
        ("/usr/bin/zsh", ":2"),
        ("/usr/bin/ksh", ":2"),
    ] {
        let script = scripts.script("script", &format!("#!{shell}\ntrue \"$1\"\n"));
        let outcome = verbose("verbose", &[&script, "given"]);
        assert_eq!(outcome.code(), 0, "{shell}: {outcome:?}");
        assert!(
            outcome.stderr.contains(&format!("script{place}: true given")),
            "{shell}: {}",
            outcome.stderr
        );
    }
    let outcome = verbose("verbose", &["sh", "-c", "true one; exit 3"]);
    assert_eq!(outcome.code(), 3);
    assert!(outcome.stderr.contains("true one"), "{}", outcome.stderr);
}

#[test]
fn bash_that_reads_no_settings_is_traced_and_one_that_traces_shows_none() {
    let scripts = Scripts::new();
    for flags in ["-p", "--posix"] {
        let script = scripts.script("script", &format!("#!/bin/bash {flags}\ntrue \"$1\"\n"));
        let outcome = verbose("verbose", &[&script, "given"]);
        assert!(outcome.code() == 0 && outcome.stderr.contains("true given"), "{flags}: {outcome:?}");
    }
    let script = scripts.script("script", "#!/bin/bash -x\ntrue \"$1\"\n");
    let outcome = verbose("verbose", &[&script, "given"]);
    assert!(outcome.stderr.contains("script:2: true given"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("PS4=") && !outcome.stderr.contains("set +x"), "{}", outcome.stderr);
}

#[test]
fn zsh_tells_the_function_with_file_and_line() {
    let scripts = Scripts::new();
    let script = scripts.script("script", "#!/usr/bin/zsh\ngreet() {\n  true \"$1\"\n}\ngreet you\n");
    let outcome = verbose("verbose", &[&script]);
    assert!(outcome.stderr.contains(&format!("+ {script}:3: greet(): true you")), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("+ {script}:5: greet you")), "{}", outcome.stderr);
}

#[test]
fn shells_behind_wrappers_are_traced_or_it_is_said_that_they_are_not() {
    let scripts = Scripts::new();
    let script = scripts.script("script", "#!/bin/dash\ntrue \"$1\"\n");
    for line in [
        &["tini", "-s", "--", &script, "given"][..],
        &["nice", "sh", "-c", "true given"],
        &["env", "A=b", "bash", "-c", "true given"],
    ] {
        let outcome = verbose("verbose", line);
        assert!(outcome.code() == 0 && outcome.stderr.contains("true given\n"), "{line:?}: {outcome:?}");
        assert!(outcome.stderr.contains("traces "), "{}", outcome.stderr);
    }
    let outcome = verbose("verbose", &["setpriv", "--no-new-privs", "sh", "-c", "true"]);
    assert!(outcome.stderr.contains("traces nothing: setpriv starts another program"), "{}", outcome.stderr);
}

/// What failed is what its user named, not what runs it for us.
#[test]
fn a_traced_script_is_named_as_its_user_named_it() {
    let scripts = Scripts::new();
    let script = scripts.script("script", "#!/bin/sh\nexit 3\n");
    let outcome = verbose("verbose,stayalive=0", &[&script]);
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    assert!(
        outcome.stderr.contains(&format!("pepo-entry: {script} failed with status 3")),
        "{}",
        outcome.stderr
    );
}

#[test]
fn it_goes_elsewhere_if_asked() {
    let scripts = Scripts::new();
    let script = scripts.script("script", "#!/bin/bash\ntrue here\n");
    let file = scripts.0.path().join("log");
    let outcome = verbose(&format!("verbose={}", file.display()), &[&script]);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let told = fs::read_to_string(&file).unwrap();
    assert!(
        told.contains(&format!("+ {script}:2: true here")) && told.contains("pepo-entry: runs"),
        "{told}"
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's business");
    let outcome = verbose("verbose=fd:2", &[&script]);
    assert!(outcome.stderr.contains("true here"), "{outcome:?}");
    let outcome = verbose("verbose=/no/such/folder", &[&script]);
    assert_eq!(outcome.code(), 5, "{outcome:?}");
}

#[test]
fn any_program_is_told_with_its_secrets_hidden() {
    let mut command = as_process(Init::Ours, &[], &["expr", "1", "=", "1"]);
    command.env("PEPO_DEBUG", "verbose").env("DB_PASSWORD", "hunter2");
    let outcome = run(command.env("CACHE", "redis://me:hunter2@cache/0").env("PLAIN", "shown"));
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    for line in [
        "as expr",
        "arguments: 1 = 1",
        "user 0 (root), group 0",
        "capabilities: ",
        "limits: open files ",
        "control group: memory ",
        "mount: / ",
        "environment: DB_PASSWORD=***",
        "environment: CACHE=redis://me:***@cache/0",
        "environment: PLAIN=shown",
    ] {
        assert!(outcome.stderr.contains(line), "no {line:?} in {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("traces"), "a program that is no shell's script traces none");
}

#[test]
fn a_program_sees_its_own_bash_env() {
    let scripts = Scripts::new();
    let before = scripts.script("before", "WAS=read\n");
    let script = scripts.script("script", "#!/bin/bash\necho \"$WAS\"\n");
    let mut command = as_process(Init::Ours, &[], &[&script]);
    let outcome = run(command.env("PEPO_DEBUG", "verbose").env("BASH_ENV", &before));
    assert_eq!(outcome.stdout, "read\n", "{outcome:?}");
    assert!(Path::new(&before).exists());
}
