//! What a runtime was told at its start, by its arguments and by the variable that it reads besides.

use crate::Process;

/// The words of the command line, then those of the variable in the environment; none where the process may not be read.
#[must_use]
pub fn words(process: &Process, variable: &str) -> Vec<String> {
    let environment = process.environ().unwrap_or_default();
    let values = environment.iter().filter(|(name, _)| name == variable).map(|(_, value)| value);
    let more = values.flat_map(|value| value.split_whitespace().map(str::to_owned));
    let mut words = process.command_line().unwrap_or_default();
    words.extend(more);
    words
}

/// Host and port at which Node's inspector listens by this option, each empty where it does not say (`node --help`).
#[must_use]
pub fn node_inspector(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    ["--inspect", "--inspect-brk", "--inspect-wait"].contains(&name).then_some(())?;
    let is_port = value.bytes().all(|byte| byte.is_ascii_digit());
    Some(value.rsplit_once(':').unwrap_or(if is_port { ("", value) } else { (value, "") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_node_tell_where_its_inspector_listens() {
        for (word, told) in [
            ("--inspect", Some(("", ""))),
            ("--inspect-brk=0.0.0.0:9230", Some(("0.0.0.0", "9230"))),
            ("--inspect=9231", Some(("", "9231"))),
            ("--inspect-wait=here", Some(("here", ""))),
            ("--inspect=[::1]:9229", Some(("[::1]", "9229"))),
            ("--inspect-port=1", None),
            ("--inspector", None),
            ("index.js", None),
        ] {
            assert_eq!(node_inspector(word), told, "{word}");
        }
    }
}
