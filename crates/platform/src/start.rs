//! How an engine is told to start a container: the command line of `docker run` and `podman run`, read, and written again
//! with another program before the image's own.

use pepo_wire::{Code, Failure};
use serde_json::Value;

/// Long options of `run` that have no value of their own; all others take the next word.
const SWITCHES: [&str; 23] = [
    "detach",
    "disable-content-trust",
    "env-host",
    "help",
    "http-proxy",
    "init",
    "interactive",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-kill-disable",
    "passwd",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "rm",
    "rmi",
    "sig-proxy",
    "tls-verify",
    "tty",
];
/// The same of one podman alone, or of one docker alone.
const RARE_SWITCHES: [&str; 3] = ["rootfs", "unsetenv-all", "use-api-socket"];
/// Short ones.
const SHORT_SWITCHES: [char; 5] = ['d', 'i', 'P', 'q', 't'];

/// A command line of `run`, without the engine's and the verb's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLine {
    /// All options but `--entrypoint`, as they were written.
    options: Vec<String>,
    entrypoint: Option<String>,
    image: String,
    arguments: Vec<String>,
}

/// What an image runs, unless whoever starts it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageProgram {
    /// The image's entry point.
    pub entrypoint: Vec<String>,
    /// Its command: the arguments, or all there is.
    pub command: Vec<String>,
}

impl ImageProgram {
    /// From what the image says of itself (`.Config` of its `inspect`).
    #[must_use]
    pub fn read(config: &Value) -> ImageProgram {
        let list = |name: &str| -> Vec<String> {
            let words = config[name].as_array().into_iter().flatten();
            words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        ImageProgram { entrypoint: list("Entrypoint"), command: list("Cmd") }
    }
}

/// There is nothing before which the entry could be put. Who calls this knows the command that says it.
#[must_use]
pub fn no_program(image: &str) -> Failure {
    Failure::new(Code::Usage, format!("nothing says what a container of {image} runs"))
        .because("the image has neither ENTRYPOINT nor CMD for it, and no command is given")
}

/// A program that is put into the container and before the image's own.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The file on the engine's machine.
    pub file: &'a str,
    /// Where it goes in the container.
    pub at: &'a str,
    /// A variable that the engine's command takes from its own environment, so that its value stands on no command line.
    pub variable: &'a str,
}

impl RunLine {
    /// Reads the words after `run`.
    ///
    /// # Errors
    /// [`Code::Usage`] if there is no image, or a root folder in its place.
    pub fn read(words: &[String]) -> Result<RunLine, Failure> {
        let (mut options, mut entrypoint) = (Vec::new(), None);
        if let [engine @ ("docker" | "podman"), "run", ..] =
            words.iter().map(String::as_str).collect::<Vec<_>>()[..]
        {
            return Err(Failure::new(Code::Usage, format!("`{engine} run` stands in the line already"))
                .hint("write only what would stand after it: pepo run --debug WORDS -- --rm IMAGE"));
        }
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = match option(word) {
                Word::Image => {
                    let image = if word == "--" { words.next() } else { Some(word) };
                    let image = image.ok_or_else(no_image)?.clone();
                    return Ok(RunLine { options, entrypoint, image, arguments: words.cloned().collect() });
                }
                Word::Whole => None,
                Word::WithNext => Some(words.next().ok_or_else(no_image)?),
            };
            match (word.split_once('='), value) {
                (Some(("--entrypoint", value)), _) => entrypoint = Some(value.to_owned()),
                (_, Some(value)) if word == "--entrypoint" => entrypoint = Some(value.clone()),
                _ if word == "--rootfs" => {
                    return Err(Failure::new(
                        Code::Usage,
                        "`--rootfs` names no image to ask for its program",
                    ));
                }
                _ => options.extend([word].into_iter().chain(value).cloned()),
            }
        }
        Err(no_image())
    }

    /// The image's name.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// What the container would run, with what the image says (`.Config` of its `inspect`).
    ///
    /// # Errors
    /// [`no_program`].
    pub fn program(&self, config: &Value) -> Result<Vec<String>, Failure> {
        // As the engines do: another entry point takes the image's command away, arguments take its place.
        let (mut program, command) = match &self.entrypoint {
            None => {
                let image = ImageProgram::read(config);
                (image.entrypoint, image.command)
            }
            Some(word) if word.is_empty() => (Vec::new(), Vec::new()),
            Some(word) => (serde_json::from_str(word).unwrap_or_else(|_| vec![word.clone()]), Vec::new()),
        };
        program.extend(if self.arguments.is_empty() { command } else { self.arguments.clone() });
        if program.is_empty() {
            let failure = no_program(&self.image);
            return Err(match self.entrypoint {
                None => failure,
                Some(_) => failure.hint("an empty --entrypoint takes away what the image has"),
            });
        }
        Ok(program)
    }

    /// The words after `run` with a program before the image's own.
    ///
    /// # Errors
    /// As [`RunLine::program`].
    pub fn with_before(&self, before: &Before<'_>, config: &Value) -> Result<Vec<String>, Failure> {
        let program = self.program(config)?;
        let mut line = self.options.clone();
        line.extend([
            "--mount".to_owned(),
            format!("type=bind,source={},target={},readonly", before.file, before.at),
            "--env".to_owned(),
            before.variable.to_owned(),
            "--entrypoint".to_owned(),
            before.at.to_owned(),
            self.image.clone(),
            "--".to_owned(),
        ]);
        line.extend(program);
        Ok(line)
    }
}

/// What a word is to its neighbours.
enum Word {
    /// No option: the image.
    Image,
    /// An option, whole.
    Whole,
    /// An option whose value is the next word.
    WithNext,
}

fn option(word: &str) -> Word {
    if let Some(name) = word.strip_prefix("--").filter(|name| !name.is_empty()) {
        let whole = name.contains('=') || SWITCHES.contains(&name) || RARE_SWITCHES.contains(&name);
        return if whole { Word::Whole } else { Word::WithNext };
    }
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty() && word != "--") else {
        return Word::Image;
    };
    // `-itd`, `-it -e A=b`, `-eA=b`: the first letter with a value ends the cluster, and what follows is its value.
    match letters.find(|letter| !SHORT_SWITCHES.contains(&letter)) {
        Some(at) if at + 1 == letters.len() => Word::WithNext,
        _ => Word::Whole,
    }
}

fn no_image() -> Failure {
    Failure::new(Code::Usage, "no image is named after `--`")
        .try_command("see examples", ["pepo", "help", "run"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(text: &str) -> Result<RunLine, Failure> {
        RunLine::read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_image_is_found_behind_any_options() {
        for (text, options, rest) in [
            ("shop:1", "", ""),
            ("-it --rm -p 80:80 -eA=b shop:1 serve -x", "-it --rm -p 80:80 -eA=b", "serve -x"),
            ("-d --name x --network=none -v /a:/b shop:1", "-d --name x --network=none -v /a:/b", ""),
            ("-itv /a:/b --read-only shop:1 -it", "-itv /a:/b --read-only", "-it"),
            ("--sig-proxy=false -- shop:1 --rm", "--sig-proxy=false", "--rm"),
        ] {
            let read = line(text).unwrap();
            assert_eq!(
                (read.image(), read.options.join(" "), read.arguments.join(" ")),
                ("shop:1", options.to_owned(), rest.to_owned()),
                "{text}"
            );
        }
        for text in ["--rm", "-it -e", "--name", "--rootfs /x", "docker run shop:1", "podman run --rm shop:1"]
        {
            assert_eq!(line(text).unwrap_err().code(), Code::Usage, "{text}");
        }
    }

    #[test]
    fn the_program_is_the_one_that_the_engine_would_run() {
        let config = json!({"Entrypoint": ["/entry", "-a"], "Cmd": ["serve"]});
        for (text, expected) in [
            ("i", "/entry -a serve"),
            ("i other x", "/entry -a other x"),
            ("--entrypoint /bin/sh i", "/bin/sh"),
            ("--entrypoint=/bin/sh i -c x", "/bin/sh -c x"),
            (r#"--entrypoint ["/a","b"] i c"#, "/a b c"),
            ("--entrypoint= i c", "c"),
        ] {
            assert_eq!(line(text).unwrap().program(&config).unwrap().join(" "), expected, "{text}");
        }
        let command = json!({"Entrypoint": null, "Cmd": ["/app"]});
        assert_eq!(line("i").unwrap().program(&command).unwrap(), ["/app"]);
        assert_eq!(line("i").unwrap().program(&json!({})).unwrap_err(), no_program("i"));
        let taken = line("--entrypoint= i").unwrap().program(&command).unwrap_err();
        assert_ne!(taken, no_program("i"));
        assert_eq!(taken.to_string(), no_program("i").to_string());
    }

    #[test]
    fn nothing_else_is_changed() {
        let before = Before { file: "/usr/bin/pepo", at: "/pepo-entry", variable: "PEPO_DEBUG" };
        let line = line("--rm --entrypoint /x -e A=b i c").unwrap().with_before(&before, &json!({})).unwrap();
        assert_eq!(
            line.join(" "),
            "--rm -e A=b --mount type=bind,source=/usr/bin/pepo,target=/pepo-entry,readonly --env PEPO_DEBUG \
             --entrypoint /pepo-entry i -- /x c"
        );
    }
}
