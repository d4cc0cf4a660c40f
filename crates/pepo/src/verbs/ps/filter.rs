//! Which rows of `pepo ps` are shown.

use pepo_wire::{Code, Failure};
use regex::Regex;

use super::rows::Row;
use crate::{arguments::regular_expression, render::words};

/// What `--filter` knows.
const KEYS: [&str; 7] = ["name", "image", "runtime", "user", "state", "look", "stop"];

/// A pattern on the whole row and conditions that must all hold.
#[derive(Debug)]
pub(super) struct Filter {
    pattern: Option<Regex>,
    conditions: Vec<(&'static str, String)>,
}

impl Filter {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`Code::Usage`] for a pattern or a condition that is none.
    pub(super) fn read(pattern: Option<&str>, conditions: &[String]) -> Result<Filter, Failure> {
        let conditions = conditions.iter().map(|text| condition(text)).collect::<Result<_, _>>()?;
        Ok(Filter { pattern: pattern.map(regular_expression).transpose()?, conditions })
    }

    /// Is the row shown?
    pub(super) fn fits(&self, row: &Row) -> bool {
        let command = row.process.as_ref().map(|process| process.command_line.join(" ")).unwrap_or_default();
        let found = |pattern: &Regex| {
            [row.target.to_string().as_str(), &row.image, &command].iter().any(|text| pattern.is_match(text))
        };
        self.pattern.as_ref().is_none_or(found)
            && self.conditions.iter().all(|(key, value)| holds(row, key, value))
    }
}

fn condition(text: &str) -> Result<(&'static str, String), Failure> {
    let bad = |why: String| Failure::new(Code::Usage, format!("`{text}` is not a filter")).because(why);
    let (key, value) = text.split_once('=').ok_or_else(|| bad("a filter is written as KEY=VALUE".into()))?;
    let key = KEYS.into_iter().find(|one| *one == key);
    Ok((key.ok_or_else(|| bad(format!("keys are {}", KEYS.join(", "))))?, value.to_owned()))
}

/// Names, images and runtimes fit by a part of them, the rest as a whole.
fn holds(row: &Row, key: &str, value: &str) -> bool {
    let process = row.process.as_ref();
    match key {
        "name" => row.target.to_string().contains(value),
        "image" => row.image.contains(value),
        "runtime" => process.is_some_and(|process| words::runtime(process).contains(value)),
        "user" => process.is_some_and(|process| process.uid.to_string() == value),
        "state" => row.state == value,
        "look" => row.look().word() == value,
        _ => row.stop().word() == value,
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::{Runtime, Verdict};

    use super::{
        super::rows::{rows, tests},
        *,
    };

    fn row() -> Row {
        let mut process = tests::process(10, 1, "aa");
        process.command_line = vec!["/bin/serve".into(), "--port".into()];
        process.uid = 65534;
        process.runtime =
            Some(Runtime { language: "python".into(), version: "3.12.4".into(), ..Runtime::default() });
        process.stop = Some(Verdict { yes: true, why: None });
        rows(vec![tests::listed("docker/shop", "aa", 10, "running")], &[process], false).remove(0)
    }

    #[test]
    fn rows_are_chosen_by_pattern_and_conditions() {
        for (pattern, conditions, fits) in [
            (None, &[][..], true),
            (Some("^docker/s"), &[], true),
            (Some("shop:1"), &[], true),
            (Some("serve --port$"), &[], true),
            (Some("cart"), &[], false),
            (None, &["name=shop", "runtime=python", "user=65534", "state=running", "stop=yes"], true),
            (None, &["name=shop", "stop=no"], false),
            (None, &["look=?"], true),
            (None, &["image=cart"], false),
        ] {
            let conditions: Vec<_> = conditions.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(
                Filter::read(pattern, &conditions).unwrap().fits(&row()),
                fits,
                "{pattern:?} {conditions:?}"
            );
        }
    }

    #[test]
    fn bad_filters_say_what_would_be_right() {
        for (condition, why) in [("shop", "KEY=VALUE"), ("colour=red", "name, image")] {
            let failure = Filter::read(None, &[condition.to_owned()]).unwrap_err();
            assert!(failure.to_string().contains(why), "{failure}");
        }
    }
}
