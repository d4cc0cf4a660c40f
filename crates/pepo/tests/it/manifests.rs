//! `pepo inject`: what is printed, where, and what is told when it cannot be done.

use std::{fs, io::Write as _, process::Stdio};

use crate::support::{Run, Surroundings};

const POD: &str = "\
# The shop's front.
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  containers:
  - name: web # it listens
    image: shop/web:1
    command: [/app, --port=80]
    livenessProbe:
      httpGet: {path: /healthz, port: 80}
";

const LINE: [&str; 7] = ["inject", "--image", "entry:1", "--debug", "verbose,stayalive", "-f", "-"];

fn fed(surroundings: &Surroundings, line: &[&str], manifest: &str) -> Run {
    let mut command = surroundings.command(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    Run::to_end(child)
}

#[test]
fn a_manifest_is_printed_with_the_entry_and_notes_stand_apart() {
    let surroundings = Surroundings::new();
    let run = fed(&surroundings, &LINE, POD).ok();
    for line in [
        "# The shop's front.",
        "  - name: web # it listens",
        r#"    command: ["/pepo/pepo-entry", "--", /app, --port=80]"#,
        r#"      value: "verbose,stayalive""#,
    ] {
        assert!(run.stdout.lines().any(|printed| printed == line), "{line}: {run:?}");
    }
    assert!(run.stderr.contains("take spec.containers[0].livenessProbe out"), "{run:?}");

    // From a file it is the same; as data, text and notes are apart; a second time only the words are set.
    let file = surroundings.path("pod.yaml");
    fs::write(&file, POD).unwrap();
    let line = [&LINE[..6], &[file.to_str().unwrap()]].concat();
    assert_eq!(surroundings.run(&line).ok().stdout, run.stdout);
    let data = surroundings.run(&[&line[..], &["--output", "json"]].concat()).ok().json();
    assert_eq!(data["manifest"], run.stdout);
    assert!(data["notes"][0].as_str().unwrap().contains("livenessProbe"), "{data}");
    let again =
        fed(&surroundings, &["inject", "--image", "entry:1", "--debug", "wait", "-f", "-"], &run.stdout).ok();
    assert_eq!(again.stdout, run.stdout.replace("verbose,stayalive", "wait"));
}

#[test]
fn what_cannot_be_injected_is_one_clear_error_and_prints_nothing() {
    let surroundings = Surroundings::new();
    let unknown = POD.replace("    command: [/app, --port=80]\n", "");
    let error = fed(&surroundings, &LINE, &unknown).fails(2);
    assert!(error.stderr.contains("the manifest has no command for the container web"), "{error:?}");
    assert!(error.stderr.contains("--entrypoint"), "{error:?}");
    assert_eq!(error.stdout, "");
    let said = [&LINE[..], &["--entrypoint", r#"["/app", "a b"]"#]].concat();
    let run = fed(&surroundings, &said, &unknown).ok();
    assert!(run.stdout.contains(r#""--", "/app", "a b"]"#), "{run:?}");

    // A program is one container's, and only where it is not known.
    let two = format!("{unknown}  - {{name: side, image: 'shop/side:1'}}\n");
    for (manifest, told) in [(two.as_str(), "web, side have no command"), (POD, "--entrypoint is not needed")]
    {
        let error = fed(&surroundings, &said, manifest).fails(2);
        assert!(error.stderr.contains(told) && error.stdout.is_empty(), "{error:?}");
    }
    let first = fed(&surroundings, &[&said[..], &["-c", "web"]].concat(), &two).ok();
    let side = [&LINE[..], &["-c", "side", "--entrypoint", "/side"]].concat();
    let both = fed(&surroundings, &side, &first.stdout).ok();
    assert!(
        both.stdout.contains(r#""/app", "a b"]"#) && both.stdout.contains(r#""--", "/side"]"#),
        "{both:?}"
    );
    let blank = [&LINE[..], &["--entrypoint", "/side x"]].concat();
    let error = fed(&surroundings, &blank, &unknown).fails(2);
    assert!(error.stderr.contains(r#"--entrypoint '["/side","x"]'"#), "{error:?}");
    let error = fed(&surroundings, &["inject", "--image", "", "-f", "-"], POD).fails(2);
    assert!(error.stderr.contains("names no image"), "{error:?}");

    let error = fed(&surroundings, &[&LINE[..], &["-c", "cache"]].concat(), POD).fails(2);
    assert!(error.stderr.contains("the manifest has no container cache"), "{error:?}");
    let error = fed(&surroundings, &LINE, "kind: ConfigMap\ndata: {}\n").fails(2);
    assert!(error.stderr.contains("the manifest has no pod"), "{error:?}");
    let error = fed(&surroundings, &LINE, "{").fails(2);
    assert!(!error.stderr.contains("panicked"), "{error:?}");
    let error = surroundings.run(&["inject", "--image", "entry:1", "-f", "/nowhere/pod.yaml"]).fails(3);
    assert!(error.stderr.contains("/nowhere/pod.yaml") && error.stderr.contains("hint: "), "{error:?}");
}
