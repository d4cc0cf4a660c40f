//! Real processes of the runtimes that are on this machine.

use std::process::{Child, Stdio};

use super::*;
use crate::AgentPid;

/// A child that is ended and collected with the test.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Option<Running> {
        let mut command = pepo_testkit::command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Running(command.spawn().ok()?))
    }

    /// Waits until the runtime is what it will be.
    fn facts(&self, ready: impl Fn(&RuntimeFacts) -> bool) -> RuntimeFacts {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let process = Process::open(AgentPid::new(self.0.id()).unwrap()).unwrap();
            let facts = detect(&process);
            if ready(&facts) {
                return facts;
            }
            assert!(std::time::Instant::now() < end, "last state: {facts:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn this_test_is_a_native_program_with_debug_information() {
    let facts = detect(&Process::own().unwrap());
    assert_eq!((facts.language, facts.stripped), (Language::Native, false));
    assert_eq!(facts.debug_info, DebugInfo::Present);
    assert_eq!(facts.libc, if cfg!(target_env = "musl") { Libc::None } else { Libc::Glibc });
    assert_eq!(facts.executable, std::env::current_exe().unwrap());
}

#[test]
fn a_shell_is_a_shell() {
    let shell = Running::start("/bin/sh", &["-c", "read x"]).unwrap();
    assert_eq!(shell.facts(|facts| facts.language == Language::Shell).version, None);
}

#[test]
fn every_python_here_is_recognised_with_its_exact_version() {
    for python in pepo_testkit::pythons() {
        let ask = ["-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"];
        let said = pepo_testkit::command(&python.path).args(ask).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap().trim().to_owned();
        let path = python.path.to_str().unwrap();
        let running = Running::start(path, &["-c", "import sys; sys.stdin.read()"]).unwrap();
        let facts = running.facts(|facts| facts.python.is_some());
        assert_eq!(facts.language, Language::Python);
        assert_eq!(facts.version.as_deref(), Some(said.as_str()), "{path}");
        let found = facts.python.unwrap();
        assert_eq!((found.major, found.minor), python.version);
        assert!(found.runtime_address > 0 && !found.free_threaded, "{found:?}");
        eprintln!("{path}: {said}");
    }
}

#[test]
fn addresses_of_pythons_functions_are_those_the_process_uses() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let mut child = pepo_testkit::command("/usr/bin/python3")
        .args(["-c", "import ctypes,sys;print(ctypes.cast(ctypes.pythonapi.PyRun_SimpleString,ctypes.c_void_p).value,flush=True);sys.stdin.read()"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let running = Running(child);
    let facts = running.facts(|facts| facts.python.is_some());
    let process = Process::open(AgentPid::new(running.0.id()).unwrap()).unwrap();
    let found =
        facts.python.unwrap().module.addresses(&process, &["PyRun_SimpleString", "PyGILState_Ensure"]);
    assert_eq!(found["PyRun_SimpleString"], line.trim().parse::<u64>().unwrap());
    assert!(found.contains_key("PyGILState_Ensure"));
}

#[test]
fn node_and_java_are_recognised_with_their_versions() {
    for (program, arguments, language) in [
        ("/usr/bin/node", &["-e", "process.stdin.resume()"][..], Language::Node),
        ("/usr/bin/java", &["--version"][..], Language::Jvm),
    ] {
        let Ok(said) = pepo_testkit::command(program).arg("--version").output() else { continue };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let hold = if language == Language::Jvm { return java_waits(&said) } else { arguments };
        let running = Running::start(program, hold).unwrap();
        let facts = running.facts(|facts| facts.version.is_some());
        assert_eq!(facts.language, language);
        assert!(said.contains(&facts.version.unwrap()), "{said}");
    }
}

/// A JVM that reads a program from its standard input waits for it.
fn java_waits(said: &str) {
    let jshell = PathBuf::from("/usr/bin/jshell");
    if !jshell.exists() {
        return;
    }
    let running = Running::start("/usr/bin/jshell", &["-"]).unwrap();
    let facts = running.facts(|facts| facts.version.is_some());
    assert_eq!(facts.language, Language::Jvm);
    assert!(said.contains(&facts.version.unwrap()), "{said}");
}

#[test]
fn go_programs_tell_their_version_and_how_they_were_built() {
    use pepo_testkit::{Life as _, Symbols, Variant, fixtures};
    let said = pepo_testkit::command("go").args(["env", "GOVERSION"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap().trim().trim_start_matches("go").to_owned();
    for (variant, optimised, debug_info) in [
        (Variant::debug(), false, DebugInfo::Present),
        (Variant::release(), true, DebugInfo::Present),
        (Variant::release().symbols(Symbols::Stripped), true, DebugInfo::Absent),
    ] {
        let running = pepo_testkit::spawn(&fixtures::go(variant), &["1000"]);
        let facts = detect(&Process::open(AgentPid::new(running.pid()).unwrap()).unwrap());
        assert_eq!((facts.language, facts.version.as_deref()), (Language::Go, Some(said.as_str())));
        assert_eq!((facts.optimised, facts.debug_info), (Some(optimised), debug_info), "{variant:?}");
    }
}

#[test]
fn programs_of_each_compiler_tell_whether_they_are_optimised() {
    use pepo_testkit::{Fixture, Life as _, Variant, fixtures};
    for build in [fixtures::c, fixtures::cpp, fixtures::rust] as [fn(Variant) -> Fixture; 3] {
        for (variant, optimised) in [
            (Variant::debug(), false),
            (Variant::release(), true),
            (Variant::debug().linked_statically(), false),
            (Variant::release().linked_statically(), true),
        ] {
            let fixture = build(variant);
            let running = pepo_testkit::spawn(&fixture, &["1000"]);
            let facts = detect(&Process::open(AgentPid::new(running.pid()).unwrap()).unwrap());
            assert_eq!(facts.language, Language::Native);
            assert_eq!(facts.optimised, Some(optimised), "{:?} {variant:?}", fixture.language);
        }
    }
}
