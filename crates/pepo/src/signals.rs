//! Ctrl-C, and the signals that ask a program to end. Whatever is held is let go on each of them.

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, SIGHUP; closing the console on Windows.
    Terminate,
}

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    /// The signals, as a stream; from its making on, none of them ends the program by itself.
    #[derive(Debug)]
    pub(crate) struct Signals {
        interrupt: Stream,
        terminate: Stream,
        hang_up: Stream,
    }

    impl Signals {
        /// Begins to listen.
        pub(crate) fn listen() -> std::io::Result<Signals> {
            Ok(Signals {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        }

        /// The next signal.
        pub(crate) async fn next(&mut self) -> super::Signal {
            tokio::select! {
                _ = self.interrupt.recv() => super::Signal::Interrupt,
                _ = self.terminate.recv() => super::Signal::Terminate,
                _ = self.hang_up.recv() => super::Signal::Terminate,
            }
        }
    }
}

#[cfg(windows)]
mod platform {
    use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

    /// The console's events, as a stream.
    #[derive(Debug)]
    pub(crate) struct Signals {
        interrupt: CtrlC,
        stop: CtrlBreak,
        close: CtrlClose,
    }

    impl Signals {
        /// Begins to listen.
        pub(crate) fn listen() -> std::io::Result<Signals> {
            Ok(Signals { interrupt: ctrl_c()?, stop: ctrl_break()?, close: ctrl_close()? })
        }

        /// The next event.
        pub(crate) async fn next(&mut self) -> super::Signal {
            tokio::select! {
                _ = self.interrupt.recv() => super::Signal::Interrupt,
                _ = self.stop.recv() => super::Signal::Terminate,
                _ = self.close.recv() => super::Signal::Terminate,
            }
        }
    }
}

pub(crate) use platform::Signals;
