//! Diagnostics: on stderr, silent but for errors, unless `-v` or `PEPO_LOG` asks for more; or, of what runs for long, as JSON on stdout.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::config::Context;

/// Shape of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // For people, on stderr; silent without `-v`.
    #[default]
    Text,
    // An object a line, on stdout.
    Json,
}

/// Starts the logging of this process, once.
pub(crate) fn start(context: &Context, format: LogFormat) {
    let level = match (context.global.verbose, format) {
        (0, LogFormat::Text) => "off",
        // Of the libraries, only what is amiss: frames of HTTP/2 help nobody before the third.
        (0, LogFormat::Json) | (1, _) => "warn,pepo=info",
        (2, _) => "warn,pepo=debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(context.environment.log.as_deref().unwrap_or(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A second call in one process (a test) finds the first one's; that is as good.
    let _ = match format {
        LogFormat::Text => {
            let builder = builder.with_writer(std::io::stderr).with_ansi(context.printer.error_paint.0);
            tracing::subscriber::set_global_default(builder.finish())
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_writer(std::io::stdout);
            tracing::subscriber::set_global_default(builder.finish())
        }
    };
}
