//! Verbs on pods by an image that is not ours and has a shell: the binary is streamed in.

use std::path::Path;

use pepo_testkit::{Image, Life as _, Variant, clean, fixtures};
use serde_json::json;

use super::{Here, InPod, cluster, pod, python, strict};
use crate::session::changes_a_variable;

/// A shell and a few small programs, as an administrator may permit it.
fn a_box() -> Image {
    let image = Image::new("pepo.test/box:1").with_shell();
    cluster().import(&image).unwrap();
    image
}

#[test]
fn any_image_with_a_shell_is_given_the_agent_once_and_says_nothing() {
    let image = a_box();
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    let words = |verb: &'static str| [verb, "pod/shop", "--image", image.name()];
    let stack = here.run(&words("stack")).ok();
    assert!(stack.stdout.contains("tick"), "{}", stack.stdout);
    let life = InPod::of(&here, "shop");
    let before = clean::Snapshot::take(life.pid());
    let target = here.line(&["pod/shop", "--image", image.name()]);
    changes_a_variable(&here.surroundings, &target, &fixtures::python(Variant::debug()), &life, &before);
    assert_eq!(here.helpers("shop").len(), 1, "it is used again: {:?}", here.helpers("shop"));
    here.assert_quiet("shop");
}

#[test]
fn an_image_whose_name_says_that_it_is_ours_and_which_has_a_shell_alone_is_given_the_agent() {
    let image = a_box().named("pepo.test/pepo-like:1");
    cluster().import(&image).unwrap();
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({}))]));
    for _ in 0..2 {
        let stack = here.run(&["stack", "pod/shop", "--image", image.name()]).ok();
        assert!(stack.stdout.contains("tick"), "{}", stack.stdout);
    }
    assert_eq!(here.helpers("shop").len(), 2, "what failed once is not tried again");
    here.assert_quiet("shop");
}

/// Its node is of another architecture, by all that its shell says, which asks another program for that.
#[test]
fn a_binary_for_a_node_of_another_machine_is_looked_for_beside_the_command_and_both_ways_out_are_told() {
    let image = a_box().named("pepo.test/box-elsewhere:1").file(Path::new("/bin/dash"), "/bin/dash");
    let image = image.link("/bin/sh", "dash").text("/bin/uname", "#!/bin/sh\necho riscv64\n");
    cluster().import(&image).unwrap();
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({}))]));
    let run = here.run(&["stack", "pod/shop", "--image", image.name()]).fails(5);
    assert!(run.stderr.starts_with("error[P0304]"), "{}", run.stderr);
    for said in ["riscv64", "pepo-riscv64-unknown-linux-musl", "beside the command", "cargo xtask image"] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    // What waits for the binary takes it from whoever has it, and no other one is made beside it.
    let again = here.run(&["stack", "pod/shop", "--image", image.name()]).fails(5);
    assert!(again.stderr.contains("riscv64"), "{}", again.stderr);
    assert_eq!(here.helpers("shop").len(), 1, "it is used again");
    here.assert_quiet("shop");
}
