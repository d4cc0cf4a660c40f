//! `pepo run`: a container as the engine's own command would start it, with the entry before its program.
//!
//! The entry is this very binary, mounted: it is at hand, static, and of the same version. What the container runs is what the
//! image and the command line say, and nothing else is changed.

use clap::Args;

use crate::{config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo run --debug stayalive -- shop:1.4
  pepo run --debug verbose,stayalive=30m -- --rm -p 8080:80 shop:1.4 serve
  pepo run --debug wait --on podman -- -it --cap-add SYS_PTRACE shop:1.4
  pepo entry --help                  the words";

/// Arguments of `pepo run`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// What the entry does, as in verbose,stayalive
    #[arg(long, value_name = "WORDS")]
    debug: String,
    /// What would stand after `docker run`: options, the image, what it runs
    #[arg(last = true, required = true, value_name = "WORD")]
    line: Vec<String>,
}

/// Becomes the engine's command.
pub(crate) fn run(arguments: &Run, context: &Context) -> Outcome {
    here::run(&arguments.debug, &arguments.line, context)
}

/// Where the entry is no program of this system's.
#[cfg(not(target_os = "linux"))]
mod here {
    use pepo_wire::{Code, Failure};

    use crate::{config::Context, render::Outcome};

    pub(super) fn run(_words: &str, _line: &[String], _context: &Context) -> Outcome {
        let what = "this binary cannot be mounted into a container: it is not Linux's";
        Err(Failure::new(Code::NotReachable, what)
            .hint("COPY pepo-entry into the image, as its ENTRYPOINT")
            .into())
    }
}

#[cfg(target_os = "linux")]
mod here {
    use std::process::Stdio;

    use pepo_platform::{Before, RunLine};
    use pepo_wire::{Code, Failure};
    use serde_json::Value;

    use crate::{
        arguments::On,
        config::Context,
        render::Outcome,
        verbs::{engines, entry},
    };

    /// The variable that has the words.
    const VARIABLE: &str = "PEPO_DEBUG";

    pub(super) fn run(words: &str, line: &[String], context: &Context) -> Outcome {
        entry::judge(words)?;
        if words.is_empty() {
            return Err(Failure::new(Code::Usage, "--debug says no word")
                .try_command("see the words", ["pepo", "entry", "--help"])
                .into());
        }
        let engine = engine(context)?;
        engines::judge(engine, line)?;
        let read = RunLine::read(line)?;
        let config = image(engine, read.image())?;
        let own = engines::own_binary()?;
        let at = format!("/{}", entry::NAME);
        let before = Before { file: &own, at: &at, variable: VARIABLE };
        let line = read.with_before(&before, &config).map_err(|failure| {
            let begun = ["pepo", "run", "--debug", words, "--on", engine, "--"];
            let next = begun.into_iter().chain(line.iter().map(String::as_str)).chain(["/app"]);
            failure.try_command("name its program", next)
        })?;
        let mut command = engines::command(engine);
        command.arg("run").args(line).env(VARIABLE, words);
        engines::become_command(engine, command)
    }

    /// The engine's command that was asked for, else the first that is installed.
    fn engine(context: &Context) -> Result<&'static str, Failure> {
        match context.global.platform() {
            Some(On::Docker) => Ok("docker"),
            Some(On::Podman) => Ok("podman"),
            Some(On::Host | On::Cri | On::Kubernetes) => {
                Err(Failure::new(Code::Usage, "only Docker and Podman start containers here")
                    .hint("--on docker, or --on podman"))
            }
            None => {
                engines::ALL.into_iter().find(|name| engines::is_installed(name, context)).ok_or_else(|| {
                    Failure::new(Code::ToolMissing, "neither `docker` nor `podman` is in PATH")
                        .hint("install one of them, or COPY pepo-entry into the image, as its ENTRYPOINT")
                })
            }
        }
    }

    /// What the image says, fetched as the engine would if it is not there.
    fn image(engine: &str, name: &str) -> Result<Value, Failure> {
        let why = match engines::image(engine, name)? {
            Ok(config) => return Ok(config),
            Err(why) => why,
        };
        engines::answers(engine)?;
        let pull = engines::command(engine).args(["pull", "--quiet", name]).stdout(Stdio::null()).status();
        let pulled = pull.map_err(|error| engines::not_started(engine, &error))?.success();
        let none = |why: String| {
            Failure::new(Code::EngineRefused, format!("there is no image {name}"))
                .because(why)
                .try_command("see what there is", [engine, "images"])
        };
        if !pulled {
            return Err(none(why));
        }
        engines::image(engine, name)?.map_err(none)
    }
}
