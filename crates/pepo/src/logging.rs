//! Diagnostics on stderr: silent but for errors, unless `-v` or `PEPO_LOG` asks for more.

use tracing_subscriber::EnvFilter;

use crate::config::Context;

/// Starts the logging of this process, once.
pub(crate) fn start(context: &Context) {
    let level = match context.global.verbose {
        0 => "off",
        // Of the libraries, only what is amiss: frames of HTTP/2 help nobody before the third.
        1 => "warn,pepo=info",
        2 => "warn,pepo=debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(context.environment.log.as_deref().unwrap_or(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(context.printer.error_paint.0)
        .finish();
    // A second call in one process (a test) finds the first one's; that is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
