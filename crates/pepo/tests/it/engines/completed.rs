//! Containers and their processes, as shells are told of them.

use pepo_testkit::{Engine, Image, Kind, Life as _, RunOptions, Variant, fixtures};

use crate::{completed::offered, support::Surroundings};

#[test]
fn containers_and_their_processes_are_completed() {
    let engine = Engine::shared(Kind::Docker);
    let image = Image::usual(&fixtures::python(Variant::debug()));
    engine.load(&image);
    let name = format!("it-completed-{}", std::process::id());
    let container = engine.run(&image, &RunOptions::named(&name).args(&["1000"]));
    container.wait_started();
    let surroundings = Surroundings::new().at(&engine);
    let full = format!("docker/{name}");
    for (words, word, how) in [
        (&["attach", "docker/it-completed"][..], full.as_str(), ":4"),
        (&["stack", "docker/other", "it-completed"], name.as_str(), ":4"),
        (&["cp", "docker/it-completed"], &format!("{full}:"), ":6"),
    ] {
        assert_eq!(offered(&surroundings, words), (vec![word.to_owned()], how.to_owned()), "{words:?}");
    }
    let (all, _) = offered(&surroundings, &["stack", ""]);
    assert!(all.contains(&full) && all.contains(&"pod/".to_owned()) && !all.contains(&name), "{all:?}");
    let (processes, _) = offered(&surroundings, &["stack", &full, "--process", "pyth"]);
    assert!(processes.len() == 1 && processes[0].starts_with("python"), "{processes:?}");
}
