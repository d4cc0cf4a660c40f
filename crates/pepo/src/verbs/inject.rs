//! `pepo inject`: the entry before the programs of containers: in a manifest, which is printed, or in what makes pods in a cluster.
//!
//! For a manifest nothing is asked of a cluster. What an image runs, where the manifest does not say it, is asked of an engine of
//! this machine that has the image; nothing is pulled.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use pepo_platform::{
    HELPER_IMAGE, ImageProgram, Injected, Injection, LARGEST_MANIFEST, Wanted, inject, no_program,
};
use pepo_wire::{Code, Failure};
use serde_json::{Value, json};

use crate::{
    arguments::On,
    config::Context,
    render::Outcome,
    verbs::{
        change::{self, Change},
        engines, entry,
    },
};

/// The entry's words for a start that is held. A helper ends with the container's first process: what becomes of the program is told
/// before that.
const HOLD: &str = "wait,stayalive=15s";

const EXAMPLES: &str = "\
Examples:
  pepo inject deploy/shop --image registry/pepo-entry:0.1 --debug verbose,stayalive
  pepo inject sts/db -c db --image IMAGE --debug wait --dry-run server
  pepo eject deploy/shop             takes it back
  pepo inject -f pod.yaml --image registry/pepo-entry:0.1 --debug verbose,stayalive | kubectl apply -f -
  kubectl get deploy shop -o yaml | pepo inject -f - --image IMAGE --debug wait -c web > held.yaml
  pepo inject -f pod.yaml --image IMAGE --debug stayalive --entrypoint '[\"/app\", \"--flag\"]'
  pepo entry --help                  the words

IMAGE has the entry at /pepo-entry:
  printf 'FROM scratch\\nCOPY pepo-entry /\\n' | docker build -t IMAGE -f - FOLDER";

/// Arguments of `pepo inject`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Inject {
    /// What makes the pods: deploy/NAME, sts/NAME or ds/NAME
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    workload: Option<String>,
    /// Instead, a manifest, YAML or JSON, that is printed with the entry in it; - is stdin
    #[arg(id = "filename", short = 'f', long = "filename", value_name = "FILE")]
    file: Option<PathBuf>,
    /// An image that the cluster can pull, with the entry at /pepo-entry
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// What the entry does, as in verbose,stayalive; without it, it is an init alone
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    debug: String,
    /// Only this container; may be repeated, and may name an init container
    #[arg(short = 'c', long = "container", value_name = "NAME")]
    containers: Vec<String>,
    /// What the image runs, where the manifest has no command: a program, or a list as JSON
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Reads, changes, prints; or changes what is in a cluster.
pub(crate) async fn run(arguments: &Inject, context: &Context) -> Outcome {
    entry::judge(&arguments.debug)?;
    image(&arguments.image)?;
    let wish = Wish {
        injection: Injection {
            words: arguments.debug.clone(),
            image: arguments.image.clone(),
            containers: arguments.containers.clone(),
        },
        entrypoint: arguments.entrypoint.as_deref().map(entrypoint).transpose()?,
        line: line(arguments),
    };
    let mut injecting = |text: &str| injected(&wish, text, context);
    match (&arguments.workload, &arguments.file) {
        (Some(workload), _) => {
            let containers = arguments.containers.iter().flat_map(|name| ["-c", name]);
            let line: Vec<&str> = wish.line.iter().map(String::as_str).chain(containers).collect();
            change::inject((workload, &line), &arguments.change, &mut injecting, context).await
        }
        (None, Some(_)) if arguments.change.is_said() => Err(Failure::new(
            Code::Usage,
            "--dry-run and --no-wait are for a workload: a manifest is only printed",
        )
        .hint("leave them out, or name the workload instead of the file: pepo inject deploy/NAME …")
        .into()),
        (None, Some(file)) => printed(&injecting(&read(file)?)?, context),
        (None, None) => Err(Failure::new(Code::Usage, "what to inject is missing").into()),
    }
}

/// Where the entry comes from, for a start that is held.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EntryArgs {
    /// An image that the cluster can pull, with the entry at /pepo-entry; without it, that of the helper
    #[arg(long, value_name = "IMAGE")]
    pub(super) entry_image: Option<String>,
    /// What the container's image runs, where the manifest has no command: a program, or a list as JSON
    #[arg(long, value_name = "COMMAND")]
    pub(super) entrypoint: Option<String>,
}

impl EntryArgs {
    /// Whether anything was said.
    pub(super) fn is_said(&self) -> bool {
        self.entry_image.is_some() || self.entrypoint.is_some()
    }

    /// A program that is held at its first instruction. `helper` is the image of the helper, as it was said.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub(super) fn wish(
        &self,
        container: &str,
        helper: Option<&str>,
        line: Vec<String>,
        context: &Context,
    ) -> Result<Wish, Failure> {
        let said = self.entry_image.as_deref().or(helper).or(context.environment.image.as_deref());
        Ok(Wish {
            injection: Injection {
                words: HOLD.to_owned(),
                image: said.unwrap_or(HELPER_IMAGE).to_owned(),
                containers: vec![container.to_owned()],
            },
            entrypoint: self.entrypoint.as_deref().map(entrypoint).transpose()?,
            line,
        })
    }
}

/// What is put where.
pub(super) struct Wish {
    /// As the manifest is changed.
    pub(super) injection: Injection,
    /// What the image runs, as it was said.
    pub(super) entrypoint: Option<Vec<String>>,
    /// The command, to be typed again with more.
    pub(super) line: Vec<String>,
}

/// A manifest with the entry in it.
///
/// # Errors
/// As [`inject`]; [`Code::Usage`] where a container's program is not known.
pub(super) fn injected(wish: &Wish, text: &str, context: &Context) -> Result<Injected, Failure> {
    let mut notes = Vec::new();
    let mut said = Vec::new();
    let mut program = |wanted: &Wanted| match &wish.entrypoint {
        Some(words) => {
            said.push(wanted.name.clone());
            Ok(ImageProgram { entrypoint: words.clone(), command: Vec::new() })
        }
        None => of_an_engine(wanted, context, &mut notes).map_err(|failure| {
            let more = ["-c", &wanted.name, "--entrypoint", "/app"].map(str::to_owned);
            failure.try_command("name its program", wish.line.iter().cloned().chain(more))
        }),
    };
    let mut injected = inject(text, &wish.injection, &mut program)?;
    if wish.entrypoint.is_some() {
        one(&said)?;
    }
    notes.append(&mut injected.notes);
    Ok(Injected { notes, ..injected })
}

/// The command without what it says of containers.
fn line(arguments: &Inject) -> Vec<String> {
    let mut line = vec!["pepo".to_owned(), "inject".to_owned()];
    match (&arguments.workload, &arguments.file) {
        (Some(workload), _) => line.push(workload.clone()),
        (None, file) => {
            let file = file.as_deref().unwrap_or(Path::new("-")).display().to_string();
            line.extend(["-f".to_owned(), file]);
        }
    }
    line.extend(["--image".to_owned(), arguments.image.clone()]);
    if !arguments.debug.is_empty() {
        line.extend(["--debug".to_owned(), arguments.debug.clone()]);
    }
    line
}

fn printed(injected: &Injected, context: &Context) -> Outcome {
    let printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&json!({"manifest": injected.text, "notes": injected.notes}));
    }
    injected.notes.iter().for_each(|note| printer.say(note));
    printer.bytes(injected.text.as_bytes())
}

/// A name that a kubelet could pull.
fn image(name: &str) -> Result<(), Failure> {
    match name.is_empty() || name.contains(char::is_whitespace) {
        true => Err(Failure::new(Code::Usage, format!("--image {name:?} names no image"))
            .hint("--image registry/pepo-entry:0.1, which has the entry at /pepo-entry")),
        false => Ok(()),
    }
}

/// A program is one container's.
fn one(containers: &[String]) -> Result<(), Failure> {
    let wrong = |what: String| Err(Failure::new(Code::Usage, what));
    match containers {
        [_] => Ok(()),
        [] => wrong("--entrypoint is not needed: the manifest says what its containers run".to_owned()),
        several => wrong(format!("--entrypoint is one container's, and {} have no command", several.join(", ")))
            .map_err(|failure| failure.hint("name it by -c, and inject the others by another call: … -c web --entrypoint /app | pepo inject -f - …")),
    }
}

/// A program, or a list as JSON.
fn entrypoint(text: &str) -> Result<Vec<String>, Failure> {
    let words: Result<Vec<String>, _> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text),
        false if text.contains(char::is_whitespace) => {
            let list = json!(text.split_whitespace().collect::<Vec<_>>());
            return Err(Failure::new(Code::Usage, format!("--entrypoint {text:?} has blanks"))
                .hint(format!("with arguments it is a list: --entrypoint '{list}'")));
        }
        false => Ok(vec![text.to_owned()]),
    };
    let wrong = || Failure::new(Code::Usage, format!("--entrypoint {text:?} is no command"));
    match words {
        Ok(words) if words.iter().any(|word| !word.is_empty()) => Ok(words),
        Ok(_) => Err(wrong().hint(r#"--entrypoint /app, or --entrypoint '["/app", "--flag"]'"#)),
        Err(error) => Err(wrong().because(error).hint(r#"--entrypoint '["/app", "--flag"]'"#)),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    // One byte more tells that there is more.
    let most = LARGEST_MANIFEST as u64 + 1;
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(most).read_to_string(&mut text),
        false => File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)),
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(Failure::new(Code::FileNotFound, format!("{} cannot be read", file.display()))
                .because(error)
                .hint("-f takes a file, or - for what comes in: kubectl get deploy shop -o yaml | pepo inject -f - …"))
        }
    }
}

/// Asks the engines of this machine, as far as they have the image.
fn of_an_engine(
    wanted: &Wanted,
    context: &Context,
    notes: &mut Vec<String>,
) -> Result<ImageProgram, Failure> {
    let Wanted { name, image, .. } = wanted;
    let mut failure =
        Failure::new(Code::Usage, format!("the manifest has no command for the container {name}"))
            .because(format!("its image {image} has one, which must be known to put the entry before it"));
    for engine in engines::ALL.into_iter().filter(|engine| is_asked(engine, context)) {
        match engines::image(engine, image)? {
            Ok(config) => {
                let program = ImageProgram::read(&config);
                if program == ImageProgram::default() && !wanted.has_arguments {
                    return Err(no_program(image));
                }
                notes.push(format!(
                    "{name}: what it runs is what {engine} has in {image}: {}",
                    shown(&program)
                ));
                return Ok(program);
            }
            Err(why) => failure = failure.because(format!("{engine}: {why}")),
        }
    }
    Err(failure.hint(format!("pull it here (docker pull {image}), and inject again")))
}

fn is_asked(engine: &str, context: &Context) -> bool {
    let wanted = match context.global.platform() {
        None => true,
        Some(On::Docker) => engine == "docker",
        Some(On::Podman) => engine == "podman",
        Some(On::Host | On::Cri | On::Kubernetes) => false,
    };
    wanted && engines::is_installed(engine, context)
}

fn shown(program: &ImageProgram) -> String {
    json!([&program.entrypoint, &program.command])
        .as_array()
        .into_iter()
        .flatten()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}
