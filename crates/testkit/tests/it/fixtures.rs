//! Each fixture, in each variant, has what its variant says.

use std::path::Path;

use pepo_testkit::{Fixture, Symbols, Variant, command, fixtures};

fn sections(path: &Path) -> String {
    let output = command("readelf").args(["--wide", "--sections", "--notes"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn compiled(variant: Variant) -> Vec<Fixture> {
    fixtures::all(variant).into_iter().filter(|fixture| fixture.python.is_none()).collect()
}

#[test]
fn marks_stand_at_the_same_places_in_each_language() {
    for fixture in fixtures::all(Variant::debug()) {
        let name = fixture.source_name();
        assert_eq!(fixture.line("NEXT"), fixture.line("BREAK") + 1, "{name}");
        assert!(fixture.line("INSIDE") < fixture.line("RARE"), "{name}");
        assert!(fixture.line("RARE") < fixture.line("BREAK"), "{name}");
        assert!(fixture.line("BREAK") < fixture.line("CALL"), "{name}");
    }
}

#[test]
fn symbols_are_where_the_variant_says() {
    for fixture in compiled(Variant::debug()) {
        let all = sections(&fixture.path);
        assert!(
            all.contains(".debug_info") && all.contains(".symtab") && all.contains("Build ID"),
            "{fixture:?}"
        );
    }
    for fixture in compiled(Variant::release().symbols(Symbols::NamesOnly)) {
        let all = sections(&fixture.path);
        assert!(!all.contains(".debug_info") && all.contains(".symtab"), "{fixture:?}");
    }
    for fixture in compiled(Variant::debug().symbols(Symbols::Stripped)) {
        let all = sections(&fixture.path);
        assert!(!all.contains(".debug_info") && !all.contains(".symtab"), "{fixture:?}");
    }
}

#[test]
fn split_symbols_are_found_by_build_id() {
    for fixture in compiled(Variant::debug().symbols(Symbols::Split)) {
        let (program, debug) = (sections(&fixture.path), fixture.debug_file.unwrap());
        assert!(
            !program.contains(".debug_info") && program.contains(".gnu_debuglink"),
            "{}",
            fixture.path.display()
        );
        assert!(sections(&debug).contains(".debug_info"));
        let id = program.lines().find_map(|line| Some(line.split_once("Build ID: ")?.1.trim())).unwrap();
        let link = debug.with_file_name(".build-id").join(&id[..2]).join(format!("{}.debug", &id[2..]));
        assert_eq!(link.canonicalize().unwrap(), debug.canonicalize().unwrap());
    }
}

#[test]
fn sources_can_be_said_to_be_elsewhere() {
    for fixture in compiled(Variant::debug().built_in("/builds/shop")) {
        let output = command("strings").arg(&fixture.path).output().unwrap();
        let strings = String::from_utf8_lossy(&output.stdout).into_owned();
        // Go notes its flags as well, with the folder alone.
        let own = fixture.source.display().to_string();
        assert!(strings.contains("/builds/shop") && !strings.contains(&own), "{fixture:?}");
    }
}

#[test]
fn static_programs_need_no_library() {
    for fixture in compiled(Variant::debug().linked_statically()) {
        let output = command("readelf").args(["--wide", "--dynamic"]).arg(&fixture.path).output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stdout).contains("NEEDED"), "{fixture:?}");
    }
}
