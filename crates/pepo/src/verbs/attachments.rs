//! `pepo attachments`: the sessions through a server, in the states that it has written down: list, show, wait for, end.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use pepo_wire::{
    Code, Failure,
    resource::{AttachmentSpec, DebugAttachment, State, Time},
};

use super::resources::{self, Shown, ago};
use crate::{
    config::Context,
    duration::{self, spoken},
    render::{
        Outcome,
        style::Style,
        table::{Cell, Lean},
    },
};

const EXAMPLES: &str = "\
Examples (PEPO_TOKEN holds your token):
  pepo attachments --on https://pepo.example
                                     who is attached to what, and who was
  pepo attachments show 5f0c2a91be --on https://pepo.example
                                     each state it was in: when, by whom, why
  pepo attachments wait 5f0c2a91be --for attached --timeout 2m --on https://pepo.example
  pepo attachments delete 5f0c2a91be --on https://pepo.example
                                     end the session: its target runs";

/// Arguments of `pepo attachments`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Attachments {
    #[command(subcommand)]
    act: Option<Act>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum Act {
    /// All that you may see
    List,
    /// One, with each state it was in
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        attachment: String,
    },
    /// Wait until one is attached, or has ended
    Wait {
        /// Its name
        #[arg(value_name = "NAME")]
        attachment: String,
        /// What to wait for
        #[arg(long = "for", value_enum, default_value_t = Wanted::Ended, value_name = "STATE")]
        wanted: Wanted,
        /// How long at most; without it, for ever
        #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
        timeout: Option<Duration>,
    },
    /// End one that is alive, so that its target runs; remove one that is over
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        attachment: String,
    },
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    // A debugger is on the target.
    Attached,
    // Its debugger is configured, and its breakpoints are set: a call would meet them.
    Ready,
    // It is over, however.
    Ended,
}

/// Does what is wished.
pub(crate) async fn run(arguments: &Attachments, context: &Context) -> Outcome {
    let server = || resources::server(context, "attachments");
    match &arguments.act {
        None | Some(Act::List) => {
            resources::list::<AttachmentSpec>(context, "nobody was attached to anything that you may look at")
                .await
        }
        Some(Act::Show { attachment }) => {
            resources::show(context, &server()?.get::<AttachmentSpec>(attachment).await?)
        }
        Some(Act::Wait { attachment, wanted, timeout }) => {
            let is_so = |one: &DebugAttachment| match wanted {
                Wanted::Attached => one.status.state == State::Attached,
                Wanted::Ready => one.is_ready(),
                Wanted::Ended => one.status.state.is_over(),
            };
            let is_done = |one: &DebugAttachment| is_so(one) || one.status.state.is_over();
            let there = resources::until(&server()?, attachment, *timeout, is_done).await?;
            resources::show(context, &there)?;
            if is_so(&there) { Ok(()) } else { Err(never(&there).into()) }
        }
        Some(Act::Delete { attachment }) => {
            resources::show(context, &server()?.delete::<AttachmentSpec>(attachment).await?)
        }
    }
}

fn never(attachment: &DebugAttachment) -> Failure {
    let status = &attachment.status;
    let failure = Failure::new(
        Code::NotRunning,
        format!("attachment `{}` is {}", attachment.metadata.name, status.state),
    );
    status.message.iter().fold(failure, Failure::because)
}

/// Why it is so, in words.
fn why(attachment: &DebugAttachment) -> String {
    let status = &attachment.status;
    let reason = status.reason.map(|reason| reason.word()).unwrap_or_default();
    match &status.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    }
}

impl Shown for AttachmentSpec {
    const COLUMNS: &'static [(&'static str, Lean)] = &[
        ("NAME", Lean::Left),
        ("TARGET", Lean::Left),
        ("WHO", Lean::Cut),
        ("DEBUGGER", Lean::Cut),
        ("SINCE", Lean::Cut),
        ("STATE", Lean::Left),
        ("REASON", Lean::Cut),
    ];

    fn cells(object: &DebugAttachment, now: Time) -> Vec<Cell> {
        let (spec, status) = (&object.spec, &object.status);
        let style = match status.state {
            State::Attached => Style::Good,
            State::Failed | State::Expired => Style::Warning,
            _ => Style::Plain,
        };
        vec![
            spec.target.as_str().into(),
            spec.who.as_str().into(),
            status.debugger.as_deref().unwrap_or_default().into(),
            ago(object.metadata.creation_timestamp, now).into(),
            Cell::painted(status.state.word(), style),
            status.reason.map(|reason| reason.word()).unwrap_or_default().into(),
        ]
    }

    fn facts(object: &DebugAttachment) -> Vec<(&'static str, String)> {
        let (spec, status) = (&object.spec, &object.status);
        let still = status.stood_still_millis.map(|millis| spoken(Duration::from_millis(millis)));
        let mut facts = vec![
            ("target", spec.target.clone()),
            ("image", spec.image.clone()),
            ("who", spec.who.clone()),
            ("rights", spec.rights.join(", ")),
            ("request", spec.request.clone().unwrap_or_default()),
            ("debugger", status.debugger.clone().unwrap_or_default()),
            ("state", status.state.word()),
            ("why", why(object)),
            ("stood still", still.unwrap_or_default()),
        ];
        facts.extend(status.transitions.iter().map(|one| {
            let message = one.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            ("history", format!("{}  {} by {}, {}{message}", one.time, one.state, one.who, one.reason))
        }));
        facts
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::resource::{Reason, Why};

    use super::*;

    #[test]
    fn an_attachment_tells_its_life() {
        let spec =
            AttachmentSpec { target: "docker/shop@a".into(), who: "ann".into(), ..AttachmentSpec::default() };
        let why = |who: &str, reason, message: &str| Why { who: who.into(), reason, message: message.into() };
        let at = Time::from_millis;
        let mut one =
            DebugAttachment::requested("5f", spec, why("ann", Reason::Asked, ""), at(1_000), Duration::ZERO);
        one.advance(State::Failed, why("node a", Reason::NodeRefused, "it is away"), at(2_000)).unwrap();
        let facts: Vec<_> =
            AttachmentSpec::facts(&one).into_iter().filter(|(_, value)| !value.is_empty()).collect();
        assert_eq!(
            facts,
            [
                ("target", "docker/shop@a".to_owned()),
                ("who", "ann".to_owned()),
                ("state", "failed".to_owned()),
                ("why", "NodeRefused: it is away".to_owned()),
                ("history", "1970-01-01T00:00:01Z  requested by ann, Asked".to_owned()),
                ("history", "1970-01-01T00:00:02Z  failed by node a, NodeRefused: it is away".to_owned()),
            ]
        );
        assert_eq!(never(&one).to_string(), "attachment `5f` is failed: it is away");
        assert_eq!(ago(at(1_000), at(66_000)), "1 min 5 s ago");
    }
}
