//! From arguments and environment to what verbs are given: checked, decided, ready.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use pepo_client::{Debuginfod, Limits};

use crate::{
    arguments::{Color, Global},
    environment::Environment,
    local::Local,
    render::{Printer, style::Paint},
};

/// What every verb is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Flags of every verb.
    pub(crate) global: Global,
    /// The environment.
    pub(crate) environment: Environment,
    /// The printer.
    pub(crate) printer: Printer,
    /// The agent in this process.
    pub(crate) local: Arc<Local>,
    /// Servers of debug files, if the user names any.
    pub(crate) debuginfod: Option<Arc<Debuginfod>>,
}

impl Context {
    /// Decides what is not told by the arguments alone.
    pub(crate) fn new(global: Global, environment: Environment) -> Context {
        let paint = |terminal: bool| match global.color {
            Color::Always => Paint(true),
            Color::Never => Paint(false),
            Color::Auto => {
                let dumb = environment.term.as_deref() == Some("dumb");
                Paint(terminal && environment.no_color.is_none() && !dumb)
            }
        };
        let printer = Printer {
            output: global.to.shape(),
            paint: paint(std::io::stdout().is_terminal()),
            error_paint: paint(std::io::stderr().is_terminal()),
        };
        let local = Arc::new(Local::new(&environment));
        let debuginfod = debuginfod(&environment).map(Arc::new);
        Context { global, environment, printer, local, debuginfod }
    }
}

fn debuginfod(environment: &Environment) -> Option<Debuginfod> {
    let urls = environment.debuginfod_urls.as_deref()?;
    let number = |text: &Option<String>| text.as_ref()?.trim().parse().ok().filter(|number| *number > 0);
    let seconds = |text, usual| number(text).map_or(usual, Duration::from_secs);
    let usual = Limits::default();
    let limits = Limits {
        stall: seconds(&environment.debuginfod_timeout, usual.stall),
        whole: seconds(&environment.debuginfod_max_time, usual.whole),
        bytes: number(&environment.debuginfod_max_size).unwrap_or(usual.bytes),
    };
    Debuginfod::new(urls, environment.debuginfod_cache(), limits)
}
