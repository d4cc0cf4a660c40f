//! Commands as they can be pasted into a shell (POSIX sh quoting).

/// One argument, quoted when a shell would read it otherwise.
fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,^".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// A whole command.
pub(crate) fn command<S: AsRef<str>>(arguments: &[S]) -> String {
    arguments.iter().map(|argument| quote(argument.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        for (arguments, text) in [
            (&["pepo", "attach", "docker/shop"][..], "pepo attach docker/shop"),
            (&["pepo", "attach", "x", "-ex", "break main.go:42"], "pepo attach x -ex 'break main.go:42'"),
            (&["sh", "-c", "echo it's"], r"sh -c 'echo it'\''s'"),
            (&["x", ""], "x ''"),
            (&["x", "$HOME", "a*b"], "x '$HOME' 'a*b'"),
        ] {
            assert_eq!(command(arguments), text);
        }
    }
}
