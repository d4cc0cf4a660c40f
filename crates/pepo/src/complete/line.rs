//! What the last word of a command line may be. The words before it may be wrong or half: what is not understood is passed over.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, ValueEnum as _, ValueHint};
use pepo_wire::name::TargetName;

use super::Candidate;
use crate::arguments::{Color, Global, On, Output, Place, To, as_gdb_spells_it};

/// What there is to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Targets.
    Targets,
    /// Targets with a path behind them, or files of this side.
    Paths,
    /// What makes pods and can be changed.
    Workloads,
    /// Containers of the pod.
    Containers,
    /// Namespaces.
    Namespaces,
    /// Contexts of the kubeconfig.
    Contexts,
    /// Processes of the target.
    Processes,
    /// Attachments of the server.
    Attachments,
    /// Debug requests of the server.
    Requests,
}

/// What the last word is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of these words, each with what it is.
    Words(Vec<Candidate>),
    /// A name that must be asked for.
    Names(Names),
    /// A file.
    File,
    /// Anything.
    Anything,
}

/// A command line up to the cursor.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Flags of every verb, as far as they are typed.
    pub(crate) global: Global,
    /// What is typed of the last word.
    pub(crate) typed: String,
    /// What stands before that in the same word, as `--output=`.
    pub(crate) before: String,
    /// What it may be.
    pub(crate) wanted: Wanted,
    /// The target, where it is typed.
    pub(crate) target: Option<TargetName>,
    /// Pods by labels, where they are typed.
    pub(crate) labels: Option<String>,
}

impl Line {
    /// Reads the words behind the program's name; the last is the one under the cursor, and may be empty.
    pub(crate) fn read(mut command: Command, words: &[String]) -> Line {
        command.build();
        let words = as_gdb_spells_it(words.iter().map(Into::into).collect());
        let mut words: Vec<String> = words.iter().map(|one| one.to_string_lossy().into_owned()).collect();
        let last = words.pop().unwrap_or_default();
        let mut walk = Walk::new(&command);
        words.iter().for_each(|word| walk.pass(word));
        let (before, typed, wanted) = walk.last(&last);
        let value =
            |id: &str| walk.values.iter().rev().find(|(of, _)| of == id).map(|(_, value)| value.clone());
        Line {
            global: global(&value),
            typed,
            before,
            wanted,
            target: value("target").or_else(|| value("targets")).and_then(|name| name.parse().ok()),
            labels: value("labels"),
        }
    }

    /// The words that are known beforehand.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        match &self.wanted {
            Wanted::Words(words) => words.clone(),
            _ => Vec::new(),
        }
    }

    /// May it be a file's name?
    pub(crate) fn may_be_file(&self) -> bool {
        match self.wanted {
            Wanted::File => true,
            Wanted::Names(Names::Paths) => !self.typed.contains(':'),
            _ => false,
        }
    }
}

/// Flags of every verb; a value that is none is passed over.
fn global(value: &dyn Fn(&str) -> Option<String>) -> Global {
    let place = |text: String| match text.contains("://") {
        true => Some(Place::Server(text)),
        false => On::from_str(&text, true).ok().map(Place::Platform),
    };
    Global {
        on: value("on").and_then(place),
        to: To::Shape(Output::Text),
        cri_socket: value("cri_socket").map(PathBuf::from),
        namespace: value("namespace"),
        context: value("context"),
        kubeconfig: value("kubeconfig").map(PathBuf::from),
        color: Color::Never,
        verbose: 0,
        yes: false,
    }
}

/// The words before the last, one by one.
struct Walk<'c> {
    /// The verb so far.
    command: &'c Command,
    /// The flag whose value comes next.
    pending: Option<&'c Arg>,
    /// How many words without a flag have been.
    positions: usize,
    /// Only words without a flag come now.
    over: bool,
    /// Id and value of all that was given.
    values: Vec<(String, String)>,
}

impl<'c> Walk<'c> {
    fn new(command: &'c Command) -> Walk<'c> {
        Walk { command, pending: None, positions: 0, over: false, values: Vec::new() }
    }

    fn pass(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            return self.keep(arg, word);
        }
        match word.strip_prefix("--") {
            Some("") if !self.over => self.over = true,
            Some(long) if !self.over => self.pass_long(long),
            None if !self.over && word.len() > 1 && word.starts_with('-') => {
                self.pending = self.short(word.trim_start_matches('-'));
            }
            _ => self.pass_position(word),
        }
    }

    fn pass_long(&mut self, long: &str) {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let Some(arg) = self.long(name) else { return };
        match value {
            Some(value) => self.keep(arg, value),
            None if takes_value(arg) => self.pending = Some(arg),
            None => self.keep(arg, ""),
        }
    }

    /// The flag that waits for its value behind these letters.
    fn short(&mut self, letters: &str) -> Option<&'c Arg> {
        for (at, letter) in letters.char_indices() {
            let arg = self.command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
            if takes_value(arg) {
                let value = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                if value.is_empty() {
                    return Some(arg);
                }
                self.keep(arg, value.strip_prefix('=').unwrap_or(value));
                return None;
            }
            self.keep(arg, "");
        }
        None
    }

    fn pass_position(&mut self, word: &str) {
        if self.positions == 0
            && !self.over
            && let Some(verb) = self.command.find_subcommand(word)
        {
            self.command = verb;
            return;
        }
        if let Some(arg) = self.position() {
            self.keep(arg, word);
        }
        self.positions += 1;
    }

    fn keep(&mut self, arg: &Arg, value: &str) {
        self.values.push((arg.get_id().to_string(), value.to_owned()));
    }

    fn long(&self, name: &str) -> Option<&'c Arg> {
        self.command.get_arguments().find(|arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
        })
    }

    /// What the next word without a flag is; the last of them may take several.
    fn position(&self) -> Option<&'c Arg> {
        let all: Vec<_> = self.command.get_positionals().collect();
        let many = |arg: &&&Arg| arg.get_num_args().is_some_and(|count| count.max_values() > 1);
        all.get(self.positions).or_else(|| all.last().filter(many)).copied()
    }

    /// The last word: what stands before what is completed, what is typed of that, and what it may be.
    fn last(&self, word: &str) -> (String, String, Wanted) {
        if let Some(arg) = self.pending {
            return (String::new(), word.to_owned(), self.value(arg));
        }
        if !self.over
            && let Some((flag, value)) = word.split_once('=').filter(|_| word.starts_with("--"))
        {
            let wanted =
                self.long(flag.trim_start_matches('-')).map_or(Wanted::Anything, |arg| self.value(arg));
            return (format!("{flag}="), value.to_owned(), wanted);
        }
        let wanted =
            if !self.over && word.starts_with('-') { Wanted::Words(self.flags()) } else { self.word() };
        (String::new(), word.to_owned(), wanted)
    }

    /// A word without a flag.
    fn word(&self) -> Wanted {
        let verbs = self.command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<_> =
            verbs.map(|verb| Candidate::new(verb.get_name(), about(verb.get_about()))).collect();
        if self.positions == 0 && !self.over && !verbs.is_empty() {
            return Wanted::Words(verbs);
        }
        self.position().map_or(Wanted::Anything, |arg| self.value(arg))
    }

    /// The verb's flags, without those that were given and can't be given twice.
    fn flags(&self) -> Vec<Candidate> {
        let given = |arg: &&Arg| self.values.iter().any(|(id, _)| id == arg.get_id().as_str());
        let again = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
        let shown = |arg: &&Arg| !arg.is_hide_set() && (!given(arg) || again(arg));
        let all = self.command.get_arguments().filter(shown);
        all.filter_map(|arg| Some(Candidate::new(format!("--{}", arg.get_long()?), about(arg.get_help()))))
            .collect()
    }

    fn value(&self, arg: &Arg) -> Wanted {
        let possible: Vec<_> = arg
            .get_possible_values()
            .iter()
            .filter(|one| !one.is_hide_set())
            .map(|one| Candidate::new(one.get_name(), about(one.get_help())))
            .collect();
        if !possible.is_empty() {
            return Wanted::Words(possible);
        }
        match arg.get_id().as_str() {
            "target" | "targets" => Wanted::Names(Names::Targets),
            "from" | "to" => Wanted::Names(Names::Paths),
            "workload" => Wanted::Names(Names::Workloads),
            "container" | "containers" => Wanted::Names(Names::Containers),
            "namespace" => Wanted::Names(Names::Namespaces),
            "context" => Wanted::Names(Names::Contexts),
            "process" => Wanted::Names(Names::Processes),
            "attachment" => Wanted::Names(Names::Attachments),
            "request" => Wanted::Names(Names::Requests),
            "output" => Wanted::File,
            _ => match arg.get_value_hint() {
                ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => Wanted::File,
                _ if arg.is_last_set() || arg.is_trailing_var_arg_set() => Wanted::File,
                _ => Wanted::Anything,
            },
        }
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// The first sentence of a help text.
fn about(help: Option<&clap::builder::StyledStr>) -> String {
    let text = help.map(ToString::to_string).unwrap_or_default();
    text.split([';', '\n']).next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    fn line(words: &[&str]) -> Line {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Line::read(arguments::command(), &words)
    }

    #[track_caller]
    fn words(line: &Line) -> Vec<String> {
        let Wanted::Words(words) = &line.wanted else { panic!("{:?}", line.wanted) };
        words.iter().map(|one| one.word.clone()).collect()
    }

    #[test]
    fn verbs_are_known_and_hidden_ones_are_not_told() {
        for before in [&[][..], &["-n", "shop"], &["--output=json", "-v"], &["help"]] {
            let verbs = words(&line(&[before, &[""]].concat()));
            assert!(verbs.contains(&"stack".to_owned()) && !verbs.contains(&"node".to_owned()), "{verbs:?}");
        }
        assert_eq!(words(&line(&["tools", ""])), ["install", "help"]);
    }

    #[test]
    fn flags_are_those_of_the_verb_without_those_that_were_given() {
        let flags = words(&line(&["record", "--rate", "9", "-vd3", "--"]));
        assert!(
            flags.contains(&"--sampler".to_owned()) && flags.contains(&"--verbose".to_owned()),
            "{flags:?}"
        );
        assert!(
            !flags.contains(&"--rate".to_owned()) && !flags.contains(&"--duration".to_owned()),
            "{flags:?}"
        );
    }

    #[test]
    fn the_last_word_is_what_its_place_says() {
        for (before, expected) in [
            (&["stack", ""][..], Wanted::Names(Names::Targets)),
            (&["check", "--for", "stack", "sh"], Wanted::Names(Names::Targets)),
            (&["attach", "-ex", "break a.c:1", ""], Wanted::Names(Names::Targets)),
            (&["attach", "x", ""], Wanted::Anything),
            (&["stack", "x", ""], Wanted::Names(Names::Targets)),
            (&["cp", "pod/x:/a", ""], Wanted::Names(Names::Paths)),
            (&["inject", ""], Wanted::Names(Names::Workloads)),
            (&["inject", "deploy/x", "-c", ""], Wanted::Names(Names::Containers)),
            (&["stack", "-n", ""], Wanted::Names(Names::Namespaces)),
            (&["attachments", "show", ""], Wanted::Names(Names::Attachments)),
            (&["requests", "delete", "1"], Wanted::Names(Names::Requests)),
            (&["--context", ""], Wanted::Names(Names::Contexts)),
            (&["stack", "x", "--process", ""], Wanted::Names(Names::Processes)),
            (&["record", "x", "-o", ""], Wanted::File),
            (&["diff", "a", ""], Wanted::File),
            (&["run", "--debug", "wait", "--", "docker", ""], Wanted::File),
            (&["stack", "x", "--thread", ""], Wanted::Anything),
        ] {
            assert_eq!(line(before).wanted, expected, "{before:?}");
        }
        assert_eq!(words(&line(&["completions", ""])), ["bash", "elvish", "fish", "powershell", "zsh"]);
    }

    #[test]
    fn a_value_may_stand_in_the_flags_own_word() {
        let shape = line(&["ps", "--output=j"]);
        assert_eq!((shape.before.as_str(), shape.typed.as_str()), ("--output=", "j"));
        assert_eq!(words(&shape), ["text", "wide", "json"]);
    }

    #[test]
    fn what_was_typed_before_says_where_is_looked() {
        let line =
            line(&["stack", "-nshop", "--context=c", "--on", "docker", "-l", "app=x", "pod/x", "-c", "a"]);
        assert_eq!(line.global.namespace.as_deref(), Some("shop"));
        assert_eq!(line.global.context.as_deref(), Some("c"));
        assert_eq!(line.global.on, Some(Place::Platform(On::Docker)));
        assert_eq!(line.labels.as_deref(), Some("app=x"));
        assert_eq!(line.target.map(|name| name.to_string()).as_deref(), Some("pod/x"));
        assert_eq!(line.typed, "a");
    }

    #[test]
    fn nonsense_is_passed_over() {
        for words in [
            &["--no-such", "x", ""][..],
            &["-", "-=", "--=", ""],
            &["", "", ""],
            &[],
            &["stäck", "-ü", "-oé"],
        ] {
            let _ = line(words);
        }
    }
}
