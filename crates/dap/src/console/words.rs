//! The words of the terminal's debugger: one table for parsing, help, completion and the reference page. They are the same for
//! every language.

/// Which word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the table below says what each means
pub enum Name {
    Break,
    TemporaryBreak,
    Delete,
    Rearm,
    Continue,
    Next,
    Step,
    Out,
    Until,
    Pause,
    Threads,
    Thread,
    Backtrace,
    Up,
    Down,
    Frame,
    Locals,
    Print,
    Set,
    Watch,
    List,
    Info,
    Raw,
    Targets,
    Target,
    Detach,
    Quit,
    Help,
}

/// One word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word {
    /// Which.
    pub name: Name,
    /// As it is typed in full.
    pub word: &'static str,
    /// Shorter or other ways to type it, as gdb's users know them.
    pub short: &'static [&'static str],
    /// What stands behind it.
    pub usage: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Lines that work.
    pub examples: &'static [&'static str],
}

/// All words, in the order of the help page.
pub const WORDS: &[Word] = &[
    Word {
        name: Name::Break,
        word: "break",
        short: &["b", "br"],
        usage: "FILE:LINE | LINE | FUNCTION | *ADDRESS [hits N] [log \"TEXT\"] [if CONDITION]",
        summary: "stop there; with `log` say TEXT instead of stopping",
        examples: &["break main.go:42", "break Cart.total if n > 3", "break serve.py:22 log \"n is {n}\""],
    },
    Word {
        name: Name::TemporaryBreak,
        word: "tbreak",
        short: &["tb"],
        usage: "as `break`",
        summary: "stop there once",
        examples: &["tbreak main.c:7"],
    },
    Word {
        name: Name::Delete,
        word: "delete",
        short: &["d", "clear"],
        usage: "[N …]",
        summary: "remove breakpoints or watches by number; without a number all of them",
        examples: &["delete 2", "delete"],
    },
    Word {
        name: Name::Rearm,
        word: "rearm",
        short: &[],
        usage: "",
        summary: "set the breakpoints again that were cleared when the pause budget was spent",
        examples: &["rearm"],
    },
    Word {
        name: Name::Continue,
        word: "continue",
        short: &["c", "cont"],
        usage: "",
        summary: "go on until the next stop",
        examples: &["continue"],
    },
    Word {
        name: Name::Next,
        word: "next",
        short: &["n"],
        usage: "[TIMES]",
        summary: "go on to the next line, over calls",
        examples: &["next", "next 3"],
    },
    Word {
        name: Name::Step,
        word: "step",
        short: &["s"],
        usage: "[TIMES]",
        summary: "go on to the next line, into calls",
        examples: &["step"],
    },
    Word {
        name: Name::Out,
        word: "out",
        short: &["fin", "finish"],
        usage: "",
        summary: "go on until this function returns",
        examples: &["out"],
    },
    Word {
        name: Name::Until,
        word: "until",
        short: &["u"],
        usage: "[FILE:LINE | LINE]",
        summary: "go on until there; without a place as `next`",
        examples: &["until 48"],
    },
    Word {
        name: Name::Pause,
        word: "pause",
        short: &["interrupt"],
        usage: "",
        summary: "stop the target where it is (Ctrl-C does it too)",
        examples: &["pause"],
    },
    Word {
        name: Name::Threads,
        word: "threads",
        short: &[],
        usage: "",
        summary: "list the threads",
        examples: &["threads"],
    },
    Word {
        name: Name::Thread,
        word: "thread",
        short: &["t"],
        usage: "ID",
        summary: "look at another thread",
        examples: &["thread 3"],
    },
    Word {
        name: Name::Backtrace,
        word: "bt",
        short: &["backtrace", "where"],
        usage: "[COUNT]",
        summary: "show the stack of the thread",
        examples: &["bt", "bt 5"],
    },
    Word {
        name: Name::Up,
        word: "up",
        short: &[],
        usage: "[COUNT]",
        summary: "look at the caller",
        examples: &["up"],
    },
    Word {
        name: Name::Down,
        word: "down",
        short: &[],
        usage: "[COUNT]",
        summary: "look at the callee",
        examples: &["down 2"],
    },
    Word {
        name: Name::Frame,
        word: "frame",
        short: &["f"],
        usage: "[N]",
        summary: "look at frame N of the stack; without a number say which it is",
        examples: &["frame 2"],
    },
    Word {
        name: Name::Locals,
        word: "locals",
        short: &["lo"],
        usage: "",
        summary: "show the variables of the frame",
        examples: &["locals"],
    },
    Word {
        name: Name::Print,
        word: "print",
        short: &["p"],
        usage: "EXPRESSION",
        summary: "show a value, in the target's language",
        examples: &["print cart.items[0]", "p n * 2"],
    },
    Word {
        name: Name::Set,
        word: "set",
        short: &[],
        usage: "VARIABLE = VALUE",
        summary: "change a variable in the target",
        examples: &["set n = 7", "set cart.total = 0"],
    },
    Word {
        name: Name::Watch,
        word: "watch",
        short: &["w", "display"],
        usage: "EXPRESSION | -d VARIABLE",
        summary: "show a value at each stop; with -d stop when the variable changes",
        examples: &["watch len(queue)", "watch -d counter"],
    },
    Word {
        name: Name::List,
        word: "list",
        short: &["l"],
        usage: "[LINE | FILE:LINE]",
        summary: "show source around the frame's line or around another; again: further down",
        examples: &["list", "list 40", "list main.go:10"],
    },
    Word {
        name: Name::Info,
        word: "info",
        short: &["i"],
        usage: "breakpoints | session | sources | threads",
        summary: "show what is known",
        examples: &["info breakpoints", "i b"],
    },
    Word {
        name: Name::Raw,
        word: "raw",
        short: &[],
        usage: "COMMAND",
        summary: "a command of the debugger's own language (needs the right `raw`)",
        examples: &["raw info registers"],
    },
    Word {
        name: Name::Targets,
        word: "targets",
        short: &[],
        usage: "",
        summary: "list the targets of a session with several",
        examples: &["targets"],
    },
    Word {
        name: Name::Target,
        word: "target",
        short: &[],
        usage: "N | NAME",
        summary: "look at another target of the session",
        examples: &["target 2", "target web-7f9c"],
    },
    Word {
        name: Name::Detach,
        word: "detach",
        short: &[],
        usage: "",
        summary: "let the target go and end the session",
        examples: &["detach"],
    },
    Word {
        name: Name::Quit,
        word: "quit",
        short: &["q", "exit"],
        usage: "",
        summary: "as `detach`: the target is never ended",
        examples: &["quit"],
    },
    Word {
        name: Name::Help,
        word: "help",
        short: &["h", "?"],
        usage: "[WORD]",
        summary: "list the words, or say more of one",
        examples: &["help break"],
    },
];

/// The word that `text` means: in full, one of its short forms, or a beginning that fits just one word.
#[must_use]
pub fn find(text: &str) -> Option<&'static Word> {
    let exact = WORDS.iter().find(|word| word.word == text || word.short.contains(&text));
    exact.or_else(|| {
        let mut fits = WORDS.iter().filter(|word| word.word.starts_with(text));
        fits.next().filter(|_| fits.next().is_none() && !text.is_empty())
    })
}

/// The help page: of one word, or of all.
#[must_use]
pub fn help(word: Option<&Word>) -> String {
    match word {
        Some(word) => {
            let mut text =
                format!("{} {}\n  {}\n", word.word, word.usage, word.summary).replacen(" \n", "\n", 1);
            if !word.short.is_empty() {
                text += &format!("  also: {}\n", word.short.join(", "));
            }
            text += &word
                .examples
                .iter()
                .map(|example| format!("  for example: {example}\n"))
                .collect::<String>();
            text
        }
        None => {
            let lines = WORDS.iter().map(|word| {
                let short = word.short.first().map(|short| format!(" ({short})")).unwrap_or_default();
                format!("{:<16}{}\n", format!("{}{short}", word.word), word.summary)
            });
            lines.collect::<String>() + "`help WORD` says more; an empty line repeats the last step\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_words_are_typed_alike() {
        let mut seen = std::collections::HashSet::new();
        for word in WORDS {
            for text in std::iter::once(&word.word).chain(word.short) {
                assert!(seen.insert(*text), "`{text}` twice");
                assert_eq!(find(text).unwrap().name, word.name);
            }
        }
    }

    #[test]
    fn beginnings_count_when_they_are_clear() {
        assert_eq!(find("conti").unwrap().name, Name::Continue);
        assert_eq!(find("thr").map(|word| word.name), None);
        assert_eq!(find("frobnicate").map(|word| word.name), None);
        assert_eq!(find("").map(|word| word.name), None);
    }

    #[test]
    fn each_word_has_a_page() {
        for word in WORDS {
            let page = help(Some(word));
            assert!(page.lines().count() >= 3, "{page}");
            assert!(word.examples.iter().all(|example| page.contains(example)));
        }
        assert_eq!(help(None).lines().count(), WORDS.len() + 1);
    }
}
