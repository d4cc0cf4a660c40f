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
    use std::{
        os::unix::process::CommandExt as _,
        path::Path,
        process::{Command, Stdio},
    };

    use pepo_platform::{Before, RunLine};
    use pepo_wire::{Code, Failure};
    use serde_json::Value;

    use crate::{arguments::On, config::Context, render::Outcome, verbs::entry};

    /// The variable that has the words.
    const VARIABLE: &str = "PEPO_DEBUG";

    pub(super) fn run(words: &str, line: &[String], context: &Context) -> Outcome {
        pepo_entry::judge_words(words).map_err(|why| Failure::new(Code::Usage, why))?;
        let line = RunLine::read(line)?;
        let engine = engine(context)?;
        let config = image(engine, line.image())?;
        let own = own()?;
        let at = format!("/{}", entry::NAME);
        let line = line.with_before(&Before { file: &own, at: &at, variable: VARIABLE }, &config)?;
        let mut command = command(engine);
        // It takes our place: terminal, signals and status are its own.
        let error = command.arg("run").args(line).env(VARIABLE, words).exec();
        Err(not_started(engine, &error).into())
    }

    /// The engine's command that was asked for, else the first that is installed.
    fn engine(context: &Context) -> Result<&'static str, Failure> {
        let installed = |name: &str| {
            let path = context.environment.path.as_deref().unwrap_or_default();
            std::env::split_paths(path).any(|folder| folder.join(name).is_file())
        };
        match context.global.on {
            Some(On::Docker) => Ok("docker"),
            Some(On::Podman) => Ok("podman"),
            Some(On::Host | On::Cri) => {
                Err(Failure::new(Code::Usage, "only Docker and Podman start containers here")
                    .hint("--on docker, or --on podman"))
            }
            None => ["docker", "podman"]
                .into_iter()
                .find(|name| installed(name))
                .ok_or_else(|| Failure::new(Code::ToolMissing, "neither `docker` nor `podman` is in PATH")),
        }
    }

    /// What the image says, fetched as the engine would if it is not there.
    fn image(engine: &str, name: &str) -> Result<Value, Failure> {
        let inspect = || {
            let line = ["image", "inspect", "--format", "{{json .Config}}", name];
            command(engine).args(line).output().map_err(|error| not_started(engine, &error))
        };
        let mut told = inspect()?;
        if !told.status.success() {
            let pull = command(engine).args(["pull", "--quiet", name]).stdout(Stdio::null()).status();
            if !pull.map_err(|error| not_started(engine, &error))?.success() {
                return Err(Failure::new(Code::EngineRefused, format!("there is no image {name}"))
                    .because(String::from_utf8_lossy(&told.stderr).trim())
                    .try_command("see what there is", [engine, "images"]));
            }
            told = inspect()?;
        }
        serde_json::from_slice(&told.stdout).map_err(|error| {
            Failure::new(Code::EngineRefused, format!("`{engine} image inspect {name}` is not understood"))
                .because(error)
        })
    }

    /// This binary, where it is.
    fn own() -> Result<String, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(Code::NotReachable, "this binary cannot be mounted into a container").because(why)
        };
        let own = std::env::current_exe().map_err(|error| failed(&error))?;
        match own.to_str().filter(|path| !path.contains([',', '"']) && Path::new(path).is_file()) {
            Some(path) => Ok(path.to_owned()),
            None => Err(failed(&format!("its path is {}", own.display()))),
        }
    }

    fn not_started(engine: &str, error: &std::io::Error) -> Failure {
        Failure::new(Code::ToolMissing, format!("`{engine}` cannot be started")).because(error)
    }

    #[expect(clippy::disallowed_methods, reason = "the only place where engines' own commands are started")]
    fn command(engine: &str) -> Command {
        Command::new(engine)
    }
}
