//! Generated pages are as committed, and nothing stands beside them.

use std::path::Path;

use crate::support::Surroundings;

fn docs() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").canonicalize().unwrap().display().to_string()
}

#[test]
fn the_pages_of_docs_are_as_generated() {
    let run = Surroundings::new().run(&["generate", "--check", "--docs", &docs()]);
    assert_eq!(run.status, Some(0), "run `pepo generate`:\n{}", run.stderr);
}

#[test]
fn pages_are_written_found_stale_and_mended() {
    let surroundings = Surroundings::new();
    let generate = ["generate", "--docs", "docs"];
    let check = ["generate", "--check", "--docs", "docs"];
    surroundings.run(&check).fails(1);
    let written = surroundings.run(&generate).ok().stdout;
    assert!(written.contains("docs/errors/P0112.md") && written.contains("docs/reference.md"), "{written}");
    surroundings.run(&check).ok();
    let page = surroundings.path("docs/errors/P0112.md");
    std::fs::write(&page, "changed").unwrap();
    std::fs::write(surroundings.path("docs/errors/P9999.md"), "surplus").unwrap();
    let stale = surroundings.run(&check).fails(1).stderr;
    assert!(stale.contains("P0112.md") && stale.contains("P9999.md"), "{stale}");
    surroundings.run(&generate).ok();
    surroundings.run(&check).ok();
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.starts_with("# P0112: no debug info\n"), "{text}");
    assert!(!surroundings.path("docs/errors/P9999.md").exists());
}
