//! Debuggers of compiled programs, which no helper has unless its image brings them.

use std::path::Path;

use pepo_testkit::{Image, Variant, clean, fixtures};

use super::{Here, InPod, cluster, pod, strict};
use crate::{session::changes_a_variable, support::PEPO};

/// As `cargo xtask image --debuggers` makes it.
fn with_debuggers() -> Image {
    let image = Image::pepo(Path::new(PEPO), "pepo.test/pepo-debuggers:1").debuggers().unwrap();
    cluster().import(&image).unwrap();
    image
}

#[test]
fn compiled_programs_of_restricted_pods_are_debugged_by_the_image_that_brings_debuggers() {
    let image = with_debuggers();
    let here = Here::new("restricted");
    for (name, fixture) in [("c", fixtures::c(Variant::debug())), ("go", fixtures::go(Variant::debug()))] {
        let program = Image::of(&fixture).named(&format!("pepo.test/debugged-{name}:1"));
        cluster().import(&program).unwrap();
        here.namespace.apply(pod(name, &[("app", &program, strict())])).unwrap();
        here.namespace.wait_ready(name).unwrap();
        let life = InPod::of(&here, name);
        let target = format!("pod/{name}");
        let without = here.run(&["attach", &target, "-ex", "detach"]);
        assert!(!matches!(without.status, Some(0) | None), "{}", without.snapshot());
        assert!(
            without.stderr.contains("is not installed")
                && without.stderr.contains("--image pepo.dev/pepo-debuggers:"),
            "{}",
            without.stderr
        );
        let check = here.run(&["check", &target, "--for", "attach", "--image", image.name()]).ok();
        assert!(check.stdout.contains("fits"), "{}", check.stdout);
        let before = clean::Snapshot::take(life.pid);
        let target = here.line(&[&target, "--image", image.name()]);
        changes_a_variable(&here.surroundings, &target, &fixture, &life, &before);
        assert_eq!(here.helpers(name).len(), 2, "one of each image: {:?}", here.helpers(name));
        here.assert_quiet(name);
    }
}
