//! The page on editors: what it shows can be used as it stands.

use std::{collections::BTreeSet, process::Stdio};

use serde_json::Value;

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../docs/{name}.md", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The only block of this language.
pub(crate) fn block(language: &str) -> String {
    let page = page("editors");
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.next().unwrap_or_else(|| panic!("the page has no {language}"));
    assert_eq!(blocks.next(), None, "a second block of {language} is not looked at");
    block.to_owned()
}

/// Rows of the table of attach arguments.
fn rows(page: &str) -> BTreeSet<&str> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| `target` | text |"));
    rows.take_while(|line| line.starts_with('|')).collect()
}

fn is_argument(name: &str) {
    let page = page("editors");
    let known = rows(&page).iter().any(|row| row.starts_with(&format!("| `{name}` |")));
    assert!(known, "`{name}` is no attach argument");
}

#[test]
fn the_arguments_of_attach_are_those_of_the_reference() {
    let (editors, reference) = (page("editors"), page("reference"));
    assert!(!rows(&editors).is_empty());
    assert_eq!(rows(&editors), rows(&reference));
}

#[test]
fn the_configurations_name_known_arguments() {
    let json: Value = serde_json::from_str(&block("json")).unwrap();
    for name in json.as_object().unwrap().keys().filter(|name| *name != "request") {
        is_argument(name);
    }
    is_argument("target");
    assert!(block("toml").contains("args = { target = "), "the only argument of the template");
}

#[test]
fn the_configuration_in_lua_runs_and_names_known_arguments() {
    // What nvim-dap offers to it: two tables. What stands in them afterwards is read.
    let around = format!(
        "local dap = {{ adapters = {{}}, configurations = {{}} }}\npackage.preload['dap'] = function() return dap end\ndo {} end\n\
         assert(dap.adapters.pepo.command == 'pepo' and dap.adapters.pepo.args[1] == 'dap')\n\
         for _, language in ipairs({{ 'go', 'python', 'c', 'cpp', 'rust' }}) do\n\
         for key in pairs(dap.configurations[language][1]) do print(key) end end\n",
        block("lua")
    );
    let mut lua = pepo_testkit::command("lua5.1");
    let run = lua.args(["-e", &around]).stdin(Stdio::null()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let keys = String::from_utf8(run.stdout).unwrap();
    assert!(keys.lines().count() > 5, "{keys}");
    for key in keys.lines().filter(|key| !["type", "request", "name"].contains(key)) {
        is_argument(key);
    }
}
