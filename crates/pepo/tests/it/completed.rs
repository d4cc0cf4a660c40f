//! What is completed, by real shells on a terminal: what they made of the keys is seen by what they run.

use std::{net::TcpListener, os::unix::fs::symlink, path::Path};

use crate::{
    support::{PEPO, Surroundings},
    terminal::Terminal,
};

/// A shell that reads no settings of anybody's, and has read the script.
pub(crate) fn shell(surroundings: &Surroundings, name: &str) -> Terminal {
    let (flags, load): (&[&str], _) = match name {
        "bash" => (&["--noprofile", "--norc", "-i"], "source <(pepo completions bash)"),
        "zsh" => (&["-f", "-i"], "autoload -U compinit; compinit -u -D; source <(pepo completions zsh)"),
        _ => (&["--no-config", "--interactive"], "pepo completions fish | source"),
    };
    // On a terminal that is its own: fish takes no other.
    let line = [&["--ctty", "--wait", name], flags].concat();
    let mut terminal = Terminal::of(surroundings.other("setsid", &line), 200);
    // The words are not in the line itself, which is echoed.
    terminal.types(&format!("{load}; echo it-is-'ready'\r"));
    terminal.waits_for("it-is-ready", 1);
    terminal
}

impl Surroundings {
    /// Besides, the command is found by its name, and by kubectl's.
    pub(crate) fn with_programs(self) -> Surroundings {
        let programs = self.path("programs");
        std::fs::create_dir(&programs).unwrap();
        for name in ["pepo", "kubectl-pepo", "kubectl_complete-pepo"] {
            symlink(PEPO, programs.join(name)).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        self.with("PATH", path).with("TERM", "xterm")
    }
}

fn completes(name: &str) {
    let surroundings = Surroundings::new().with_programs();
    std::fs::write(surroundings.path("before.json"), "no capture").unwrap();
    let mut terminal = shell(&surroundings, name);
    // A verb and a word of a list.
    terminal.types("pepo comple\telv\t\r");
    terminal.waits_for("edit:completion:arg-completer[pepo]", 1);
    // A value in the flag's own word.
    terminal.types("pepo sessions --output=js\t\r");
    terminal.waits_for("\"sessions\"", 1);
    // A file, where the command expects one.
    terminal.types("pepo diff befo\t befo\t\r");
    terminal.waits_for("before.json cannot be compared", 1);
    terminal.types("exit\r");
    terminal.status();
}

#[test]
fn bash_completes() {
    completes("bash");
}

#[test]
fn zsh_completes() {
    completes("zsh");
}

#[test]
fn fish_completes() {
    completes("fish");
}

/// Words and directive for these words.
#[track_caller]
pub(crate) fn offered(surroundings: &Surroundings, words: &[&str]) -> (Vec<String>, String) {
    let run = surroundings.run(&[&["__complete"], words].concat()).ok();
    assert_eq!(run.stderr, "");
    let mut lines: Vec<String> =
        run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
    let how = lines.pop().unwrap();
    (lines, how)
}

#[test]
fn contexts_are_those_of_the_kubeconfig_and_a_server_that_is_silent_is_left_out_silently() {
    let surroundings = Surroundings::new();
    // It takes connections, as any socket that listens, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = surroundings.path("kubeconfig");
    write_kubeconfig(&config, silent.local_addr().unwrap().port());
    let surroundings = surroundings.in_cluster(&config);
    let contexts = vec!["first".to_owned(), "second".to_owned()];
    assert_eq!(offered(&surroundings, &["stack", "--context", ""]), (contexts, ":4".to_owned()));
    for words in [&["stack", "pod/"][..], &["stack", "-n", ""], &["stack", "pod/x", "-c", ""]] {
        assert_eq!(offered(&surroundings, words), (Vec::new(), ":4".to_owned()), "{words:?}");
    }
    let kinds = ["deploy/", "ds/"].map(str::to_owned).to_vec();
    assert_eq!(offered(&surroundings, &["stack", "-n", "x", "d"]), (kinds, ":6".to_owned()));
    assert!(silent.accept().is_ok(), "it was asked");
}

fn write_kubeconfig(file: &Path, port: u16) {
    let context = |name: &str| format!(r#"{{"name": "{name}", "context": {{"cluster": "c", "user": "u"}}}}"#);
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "first",
            "clusters": [{{"name": "c", "cluster": {{"server": "http://127.0.0.1:{port}"}}}}],
            "users": [{{"name": "u", "user": {{"token": "t"}}}}],
            "contexts": [{}, {}]}}"#,
        context("first"),
        context("second"),
    );
    std::fs::write(file, text).unwrap();
}
