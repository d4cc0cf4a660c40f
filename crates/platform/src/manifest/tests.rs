//! What becomes of manifests as people and programs write them.

use serde_json::json;

use super::*;

fn injection(words: &str) -> Injection {
    Injection { words: words.to_owned(), image: "r/entry:1".to_owned(), containers: Vec::new() }
}

fn none(wanted: &Wanted) -> Result<ImageProgram, Failure> {
    Err(Failure::new(Code::Usage, format!("{} has no command", wanted.name)))
}

fn put(text: &str) -> String {
    inject(text, &injection("stayalive"), &mut none).unwrap().text
}

#[test]
fn what_is_refused_says_what_would_be_right() {
    for (text, next) in [
        ("kind: Service\nspec: {}", "kubectl get deploy NAME -o yaml"),
        ("kind: Pod\nspec: {containers: [{name: a, command: x}]}", r#"command: ["/app", "--flag"]"#),
        ("kind: Pod\nspec: {os: {name: windows}, containers: [{name: a, command: [a]}]}", "leave it out"),
    ] {
        let failure = inject(text, &injection("stayalive"), &mut none).unwrap_err();
        assert!(failure.hints.iter().any(|hint| hint.text.contains(next)), "{text}: {failure:?}");
    }
}

#[track_caller]
fn refused(text: &str, said: &str) {
    let failure = inject(text, &injection("stayalive"), &mut none).unwrap_err();
    assert!(format!("{failure:?}").contains(said), "{text}: {failure:?}");
}

const POD: &str = r#"# a shop
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  containers:
  # the web
  - name: web   # here
    image: shop:1
    command:
    # first the program
    - /app
    - |
      two
      lines

    env:
    - name: A
      value: b # c
    # done
  - name: side
    command: [/side, "x y"]
    volumeMounts:
    - {name: data, mountPath: /data}
  volumes:
  - name: data
    emptyDir: {}
---
kind: ConfigMap
data: {containers: "- none"}
"#;

const CHANGED: &str = r#"# a shop
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  containers:
  # the web
  - name: web   # here
    image: shop:1
    command:
    - "/pepo/pepo-entry"
    - "--"
    # first the program
    - /app
    - |
      two
      lines

    env:
    - name: A
      value: b # c
    - name: "PEPO_DEBUG"
      value: "stayalive"
    volumeMounts:
    - name: "pepo-entry"
      mountPath: "/pepo"
      readOnly: true
    # done
  - name: side
    command: ["/pepo/pepo-entry", "--", /side, "x y"]
    volumeMounts:
    - {name: data, mountPath: /data}
    - name: "pepo-entry"
      mountPath: "/pepo"
      readOnly: true
    env:
    - name: "PEPO_DEBUG"
      value: "stayalive"
  volumes:
  - name: data
    emptyDir: {}
  - name: "pepo-entry"
    emptyDir: {}
  initContainers:
  - name: "pepo-entry"
    image: "r/entry:1"
    command: ["/pepo-entry", "--copy-to", "/pepo-volume/pepo-entry"]
    securityContext: {"runAsNonRoot": true, "runAsUser": 65534, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    resources: {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    volumeMounts: [{"name": "pepo-entry", "mountPath": "/pepo-volume"}]
---
kind: ConfigMap
data: {containers: "- none"}
"#;

#[test]
fn all_else_stays_letter_for_letter() {
    assert_eq!(put(POD), CHANGED);
}

#[test]
fn twice_is_once_and_words_can_be_changed() {
    assert_eq!(put(CHANGED), CHANGED);
    let other = inject(CHANGED, &injection("wait"), &mut none).unwrap();
    assert_eq!(other.text, CHANGED.replace("\"stayalive\"", "\"wait\""));
    assert!(other.notes.iter().any(|note| note.contains("web has the entry already")), "{:?}", other.notes);
}

#[test]
fn json_stays_json() {
    let text = json!({"kind": "List", "items": [
        {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"name": "web", "image": "shop:1", "command": ["/app"], "args": [], "env": null}]}}}},
        {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "initContainers": [{"name": "first"}], "containers": [{"name": "job", "command": ["a"]}]}}}}}},
    ]});
    for text in [text.to_string(), format!("{text:#}")] {
        let out: serde_json::Value = serde_json::from_str(&put(&text)).unwrap();
        let web = &out["items"][0]["spec"]["template"]["spec"];
        assert_eq!(web["containers"][0]["command"], json!([IN_CONTAINER, "--", "/app"]));
        assert_eq!(web["containers"][0]["env"], json!([{"name": "PEPO_DEBUG", "value": "stayalive"}]));
        let job = &out["items"][1]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(job["initContainers"][0]["name"], "pepo-entry", "ours is the first");
        assert_eq!(job["initContainers"][1], json!({"name": "first"}));
        assert_eq!(job["volumes"], json!([{"name": "pepo-entry", "emptyDir": {}}]));
    }
}

#[test]
fn lists_are_written_as_the_file_writes_them() {
    let text = "kind: Pod\r\nspec:\r\n    containers:\r\n        - name: a\r\n          command:\r\n              - x\r\n          env:";
    let out = put(text);
    assert!(
        out.contains(
            "\r\n              - \"/pepo/pepo-entry\"\r\n              - \"--\"\r\n              - x\r\n"
        ),
        "{out}"
    );
    assert!(out.contains("\r\n          env:\r\n              - name: \"PEPO_DEBUG\"\r\n"), "{out}");
    assert!(out.contains("\r\n    volumes:\r\n        - name: \"pepo-entry\"\r\n"), "{out}");
    assert!(!out.replace("\r\n", "").contains('\n'), "{out:?}");
    assert_eq!(put(&out), out);
}

#[test]
fn the_images_program_is_asked_for_and_not_expanded() {
    let text = "kind: Pod\nspec: {containers: [{name: a, image: i}, {name: b, image: i, args: [x]}]}";
    let mut program = |wanted: &Wanted| {
        assert_eq!((wanted.image.as_str(), wanted.has_arguments), ("i", wanted.name == "b"));
        Ok(ImageProgram {
            entrypoint: vec!["/e".to_owned(), "$(A)".to_owned()],
            command: vec!["c".to_owned()],
        })
    };
    let out = inject(text, &injection(""), &mut program).unwrap().text;
    let command = r#""command": ["/pepo/pepo-entry", "--", "/e", "$$(A)"]"#;
    assert_eq!(out.matches(command).count(), 2, "{out}");
    assert_eq!((out.matches(r#""args": ["c"]"#).count(), out.matches("PEPO_DEBUG").count()), (1, 0), "{out}");
}

#[test]
fn containers_can_be_chosen_and_init_containers_too() {
    let text = "kind: Job\nspec:\n  template:\n    spec:\n      initContainers:\n      - name: first\n        command: [f]\n      containers:\n      - name: main\n        command: [m]\n";
    let chosen = |names: &[&str]| {
        let containers = names.iter().map(|name| (*name).to_owned()).collect();
        inject(text, &Injection { containers, ..injection("stayalive") }, &mut none)
    };
    let out = chosen(&["first"]).unwrap().text;
    assert!(out.contains("[\"/pepo/pepo-entry\", \"--\", f]") && out.contains("command: [m]"), "{out}");
    assert!(out.find("name: \"pepo-entry\"").unwrap() < out.find("name: first").unwrap(), "{out}");
    let again =
        inject(&out, &Injection { containers: vec!["main".to_owned()], ..injection("stayalive") }, &mut none);
    assert_eq!(again.unwrap().text.matches("--copy-to").count(), 1);
    assert!(format!("{:?}", chosen(&["other"]).unwrap_err()).contains("first, main"));
}

#[test]
fn probes_that_would_end_it_are_told() {
    let text = "kind: Deployment\nmetadata: {name: shop}\nspec:\n  template:\n    spec:\n      containers:\n      - name: web\n        command: [a]\n        livenessProbe: {tcpSocket: {port: 1}}\n";
    let notes = |words: &str| inject(text, &injection(words), &mut none).unwrap().notes;
    let told = "deployment/shop: the livenessProbe of web would end it while it is held: \
                take spec.template.spec.containers[0].livenessProbe out";
    assert_eq!(notes("verbose,stayalive=30m"), [told]);
    assert!(notes("verbose").is_empty());
}

#[test]
fn what_cannot_be_changed_in_its_place_is_refused() {
    for (container, said) in [
        ("{name: a, command: *c}", "is shared"),
        ("{<<: *c, name: a}", "merged from elsewhere"),
        ("{name: a, command: x}", "`command` is no list"),
        ("{name: a, command: [x], command: [y]}", "twice"),
        ("{name: a}", "a has no command"),
        ("{command: [a]}", "has no name"),
        ("{name: a, command: [a], env: [{name: PEPO_DEBUG, valueFrom: {}}]}", "comes from elsewhere"),
    ] {
        refused(&format!("c: &c [x]\nkind: Pod\nspec: {{containers: [{container}]}}"), said);
    }
    refused("kind: Pod\nspec: &s {containers: [{name: a, command: [a]}]}\nother: *s", "is shared");
    refused("kind: Service\nspec: {}", "has no pod");
    refused("kind: Pod\nspec: {{ .Values.spec }", "no YAML");
    refused("kind: Pod\nspec: {os: {name: windows}, containers: [{name: a, command: [a]}]}", "Windows");
    refused("", "has no pod");
}

#[test]
fn hostile_text_is_bounded() {
    let bomb: String = (1..40).map(|at| format!("a{at}: &a{at} [*a{0}, *a{0}]\n", at - 1)).collect();
    let pod = "kind: Pod\nspec: {containers: [{name: a, command: [x]}]}\n";
    assert!(put(&format!("a0: &a0 x\n{bomb}{pod}")).contains("--copy-to"));
    refused(&"[".repeat(100_000), "");
    refused(&"- ".repeat(100_000), "");
    refused(&format!("{}x", "{a: ".repeat(101)), "");
    refused(&"a: &a *a\n".repeat(3), "");
    let many = format!("[{}]", "a,".repeat(600_000));
    assert_eq!(inject(&many, &injection(""), &mut none).unwrap_err().code(), Code::TooLarge);
    let large = " ".repeat(LARGEST + 1);
    assert_eq!(inject(&large, &injection(""), &mut none).unwrap_err().code(), Code::TooLarge);
}
