//! The house keeping: `cargo xtask VERB`. One verb, one file; this page only picks it.
//!
//! It depends on no crate of ours, so that it builds in seconds and can judge the others from outside.

// A program for developers' terminals: printing is its job.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// What was typed, split into words, switches and values.
mod args;
/// Where things are: the workspace, the toolkit, the target triple.
mod paths;
/// The one place that starts programs.
mod run;

/// `bench`: the benchmarks, into `docs/benchmarks.md`.
mod bench;
/// `cluster`: a Kubernetes on this machine.
mod cluster;
/// `demo`: a debugger on a real container, from nothing.
mod demo;
/// `dist`: the binaries of a release.
mod dist;
/// `fuzz`: hostile bytes for the readers of our own.
mod fuzz;
/// `image`: what stands beside pods.
mod image;
/// `safety`: who survives what, into `docs/safety.md`.
mod safety;
/// `setup`: installs what is missing.
mod setup;
/// `test`: every check and every test, by groups.
mod test;
/// `tidy`: the rules no compiler knows.
mod tidy;

use std::process::ExitCode;

use args::Args;

const HELP: &str = "\
cargo xtask VERB

  setup   install what is missing on this machine      [--for demo|test|bench|cluster|dist] [--yes] [--list]
  demo    debug three programs in real containers      [--kubernetes [--write]: a slow pod] [--yes]
  test    every check and every test                   [GROUP...] [--kubernetes 1.34|1.36|all] [--list] [--yes]
  cluster a Kubernetes on this machine                 up|down|status [--nodes 1|2] [--version 1.34|1.36] [DIR]
  bench   measure, and write docs/benchmarks.md        [words for the benchmark]
  safety  kill everything, and write docs/safety.md    [words for the safety run]
  fuzz    hostile bytes for our readers                [TARGET...] [--seconds N] [--seed N]
  tidy    rules that no compiler knows                 [--write]
  dist    a release, into dist/: archives, sums, SBOM   [--target TRIPLE...] [--url URL] [--yes]
  image   what stands beside pods, an OCI archive      [--name IMAGE] [--out FILE] [--target TRIPLE...] [--debuggers] [--yes]
";

fn main() -> ExitCode {
    match verb() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verb() -> anyhow::Result<()> {
    let (verb, args) = Args::from_command_line();
    match verb.as_str() {
        "setup" => setup::main(args),
        "demo" => demo::main(args),
        "test" => test::main(args),
        "cluster" => cluster::main(args),
        "bench" => bench::main(args),
        "fuzz" => fuzz::main(args),
        "safety" => safety::main(args),
        "tidy" => tidy::main(args),
        "dist" => dist::main(args),
        "image" => image::main(args),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => anyhow::bail!("no verb `{other}`; `cargo xtask help` lists them"),
    }
}
