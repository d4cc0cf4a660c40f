//! From arguments and environment to what verbs are given: checked, decided, ready.

use std::{io::IsTerminal as _, sync::Arc};

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
        Context { global, environment, printer, local }
    }
}
