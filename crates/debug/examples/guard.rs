//! The guard alone, for tests: what `pepo guard` is in the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // As the command does: the first word is the verb.
    match args.next() {
        Some(verb) if verb == "guard" => pepo_debug::guard::main(args),
        _ => ExitCode::from(2),
    }
}
