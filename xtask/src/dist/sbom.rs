//! What the binaries are made of, as CycloneDX (JSON): every package that cargo locks for them, by its licence and checksum, and what
//! is packed into them besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::paths;
use crate::run::cmd;
use crate::setup::{JAR, JAR_SHA256, WHEEL, WHEEL_SHA256};

/// The programs that are shipped.
const ROOTS: [&str; 2] = ["pepo", "pepo-entry"];

/// The bill of materials.
pub(crate) fn bill(version: &str) -> Result<Value> {
    let metadata = cmd("cargo").args(["metadata", "--format-version=1", "--locked"]).dir(&paths::root());
    let metadata: Value = serde_json::from_str(&metadata.quiet().output()?).context("cargo prints JSON")?;
    let lock = fs::read_to_string(paths::root().join("Cargo.lock")).context("Cargo.lock cannot be read")?;
    let checksums = checksums(&lock);
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).map(|package| (text(&package["id"]), package)).collect();
    let graph = graph(&metadata);
    let ours: BTreeSet<&str> =
        packages.iter().filter(|(_, one)| ROOTS.contains(&text(&one["name"]))).map(|(id, _)| *id).collect();
    let all = reached(&graph, &ours);
    let named = |id: &&str| packages.get(id).copied();
    let mut components: Vec<Value> =
        all.iter().filter_map(named).map(|package| component(package, &checksums)).collect();
    components.extend(packed());
    let mut dependencies: Vec<Value> = all
        .iter()
        .filter_map(|id| {
            let on = graph.get(id).into_iter().flatten().filter_map(named).map(reference);
            Some(json!({"ref": reference(named(id)?), "dependsOn": on.collect::<Vec<_>>()}))
        })
        .collect();
    let roots: Vec<String> = ours.iter().filter_map(named).map(reference).collect();
    let packed = packed().into_iter().map(|one| one["bom-ref"].clone());
    let on: Vec<Value> = roots.into_iter().map(Value::from).chain(packed).collect();
    dependencies.push(json!({"ref": "release", "dependsOn": on}));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "release", "name": "Pepo", "version": version,
            "licenses": [{"expression": "Apache-2.0"}]}},
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Who needs whom to be built and run; tests are left out.
fn graph(metadata: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let needed = |one: &&Value| list(&one["dep_kinds"]).any(|kind| kind["kind"] != "dev");
    let nodes = list(&metadata["resolve"]["nodes"]);
    let of = nodes.map(|node| {
        let on = list(&node["deps"]).filter(needed).map(|one| text(&one["pkg"]));
        (text(&node["id"]), on.collect())
    });
    of.collect()
}

/// All that these need, themselves included.
fn reached<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut all = from.clone();
    let mut new: Vec<&str> = from.iter().copied().collect();
    while let Some(id) = new.pop() {
        new.extend(graph.get(id).into_iter().flatten().copied().filter(|one| all.insert(one)));
    }
    all
}

fn component(package: &Value, checksums: &BTreeMap<String, String>) -> Value {
    let reference = reference(package);
    let mut component = json!({
        "type": if ROOTS.contains(&text(&package["name"])) { "application" } else { "library" },
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
    });
    if let Some(licence) = package["license"].as_str() {
        // As they were written before SPDX had `OR`.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(checksum) = checksums.get(&reference) {
        component["purl"] = format!("pkg:cargo/{reference}").into();
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

/// What comes from no registry of Rust's.
fn packed() -> Vec<Value> {
    let one = |name: &str, file: &str, purl: &str, licence: &str, sum: &str| {
        let version = file.trim_start_matches(name).trim_start_matches('-').trim_end_matches(".jar");
        let version = version.split('-').next().unwrap_or_default();
        json!({
            "type": "library", "bom-ref": format!("{name}@{version}"), "name": name, "version": version,
            "purl": format!("{purl}@{version}"), "licenses": [{"expression": licence}],
            "hashes": [{"alg": "SHA-256", "content": sum}],
        })
    };
    vec![
        one("debugpy", WHEEL, "pkg:pypi/debugpy", "MIT AND EPL-1.0", WHEEL_SHA256),
        one("async-profiler", JAR, "pkg:maven/tools.profiler/async-profiler", "Apache-2.0", JAR_SHA256),
    ]
}

/// `name@version` with the checksum that cargo compares.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]").skip(1);
    blocks
        .filter_map(|block| {
            let id = format!("{}@{}", value(block, "name")?, value(block, "version")?);
            Some((id, value(block, "checksum")?))
        })
        .collect()
}

fn reference(package: &Value) -> String {
    format!("{}@{}", text(&package["name"]), text(&package["version"]))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup;

    #[test]
    fn the_bill_names_what_is_in_the_binaries_and_nothing_of_the_tests() {
        let bill = bill("1.2.3").unwrap();
        let refs: Vec<&str> = list(&bill["components"]).map(|one| text(&one["bom-ref"])).collect();
        let has = |name: &str| refs.iter().any(|one| one.split('@').next() == Some(name));
        for there in ["pepo", "pepo-entry", "pepo-wire", "tokio", "kube-client", "debugpy", "async-profiler"]
        {
            assert!(has(there), "{there}");
        }
        for absent in ["pepo-testkit", "insta", "xtask"] {
            assert!(!has(absent), "{absent}");
        }
        let unique: BTreeSet<&str> = refs.iter().copied().collect();
        assert_eq!(unique.len(), refs.len());
        let closed = list(&bill["dependencies"]).flat_map(|one| list(&one["dependsOn"])).map(text);
        let open: Vec<&str> = closed.filter(|one| !unique.contains(one)).collect();
        assert!(open.is_empty(), "{open:?}");
        let from_registry = list(&bill["components"]).filter(|one| one["purl"].is_string()).count();
        let with_sum = list(&bill["components"]).filter(|one| one["hashes"].is_array()).count();
        assert!(from_registry > 200 && from_registry == with_sum, "{from_registry} {with_sum}");
        let unlicensed: Vec<_> = list(&bill["components"]).filter(|one| one["licenses"].is_null()).collect();
        assert!(unlicensed.is_empty(), "{unlicensed:?}");
    }

    #[test]
    fn the_bill_is_valid_to_a_reader_that_is_not_ours() {
        let script = "import sys\n\
            from cyclonedx.schema import SchemaVersion\n\
            from cyclonedx.validation.json import JsonStrictValidator\n\
            error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())\n\
            sys.exit(str(error) if error else 0)\n";
        let file = std::env::temp_dir().join(format!("pepo-bill-{}.json", std::process::id()));
        let judged = |bill: &Value| {
            fs::write(&file, bill.to_string()).unwrap();
            let python = cmd("python3").arg("-c").arg(script).arg(&file).quiet();
            python.env("PYTHONPATH", setup::cyclonedx()).output().map_err(|error| error.to_string())
        };
        let mut bill = bill("1.2.3").unwrap();
        judged(&bill).unwrap();
        bill["components"][0]["type"] = "fruit".into();
        let refused = judged(&bill).unwrap_err();
        fs::remove_file(&file).unwrap();
        assert!(refused.contains("fruit"), "{refused}");
    }
}
