//! Runtimes that wait for a debugger of their own at a port, as their command line or environment makes them: Node's inspector
//! and the JVM's JDWP. No adapter of ours speaks these, so a user is told where and with what to connect.

use pepo_process::{
    Process, held,
    runtime::{Language, options},
};
use pepo_wire::{Code, Failure};

/// Says where a process without a debugger of ours waits for its own, if it does. The target is `called` so by the user.
pub(super) fn explain(mut failure: Failure, process: &Process, called: &str, language: Language) -> Failure {
    let Some(address) = (failure.code() == Code::NoDebugger).then(|| of_process(process, language)).flatten()
    else {
        return failure;
    };
    failure.hints.clear();
    let client = match language {
        Language::Node => format!("node inspect {address}"),
        _ => format!("jdb -attach {address}"),
    };
    let connect = format!("connect in its network namespace: `{client}`");
    if held::at_first_instruction(process) {
        return failure
            .because(format!(
                "it is held at its first instruction; let go, it waits at {address} for a debugger of its own, before its first line"
            ))
            .try_command("let it go", ["pepo".to_owned(), "release".to_owned(), called.to_owned()])
            .hint(connect);
    }
    failure.because(format!("it has a debugger of its own at {address}")).hint(connect)
}

/// As the process was told, by its arguments before its environment.
fn of_process(process: &Process, language: Language) -> Option<String> {
    let variable = match language {
        Language::Node => "NODE_OPTIONS",
        Language::Jvm => "JAVA_TOOL_OPTIONS",
        _ => return None,
    };
    options::words(process, variable).iter().find_map(|word| of_word(word, language))
}

/// The address in one option (`node --help`; "JPDA Connection and Invocation" of the JDK).
fn of_word(word: &str, language: Language) -> Option<String> {
    let (host, port) = if language == Language::Node {
        options::node_inspector(word)?
    } else {
        let options = word.strip_prefix("-agentlib:jdwp=")?;
        let address = options.split(',').find_map(|option| option.strip_prefix("address="))?;
        address.rsplit_once(':').unwrap_or(("", address))
    };
    let host = if ["", "*", "0.0.0.0"].contains(&host) { "127.0.0.1" } else { host };
    let port = if port.is_empty() { "9229" } else { port };
    let address = format!("{host}:{port}");
    // What a process says of itself is shown, and so must not steer a terminal.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".:-[]_".contains(letter);
    (address.len() <= 128 && address.chars().all(plain)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_the_address() {
        for (word, language, address) in [
            ("--inspect", Language::Node, Some("127.0.0.1:9229")),
            ("--inspect-brk=127.0.0.1:9229", Language::Node, Some("127.0.0.1:9229")),
            ("--inspect-brk=9230", Language::Node, Some("127.0.0.1:9230")),
            ("--inspect=0.0.0.0:9230", Language::Node, Some("127.0.0.1:9230")),
            ("--inspect-brk=here", Language::Node, Some("here:9229")),
            ("--inspect-brk=\u{1b}[2J:1", Language::Node, None),
            ("--inspector", Language::Node, None),
            (
                "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=*:5005",
                Language::Jvm,
                Some("127.0.0.1:5005"),
            ),
            ("-agentlib:jdwp=transport=dt_socket,address=5005", Language::Jvm, Some("127.0.0.1:5005")),
            ("-agentlib:jdwp=transport=dt_socket", Language::Jvm, None),
            ("-agentlib:other=address=5005", Language::Jvm, None),
        ] {
            assert_eq!(of_word(word, language).as_deref(), address, "{word}");
        }
    }
}
