//! `pepo requests`: wait at a server for the next container of an image or a service: make, list, show, wait for, remove.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use pepo_wire::{
    Code, Failure,
    resource::{DebugRequest, Next, RequestSpec, RequestState, Time},
};

use super::resources::{self, Shown, ago};
use crate::{
    config::Context,
    duration,
    render::{
        Outcome,
        style::Style,
        table::{Cell, Lean},
    },
};

const EXAMPLES: &str = "\
Examples (PEPO_TOKEN holds your token):
  pepo requests create --image 'shop:*' --on https://pepo.example
                                     the next container of this image shall be yours
  pepo requests create --service shop --wait --on https://pepo.example
                                     the same for a service; waits, and tells the target
  pepo requests create --service shop --next call --wait --on https://pepo.example
                                     the next call with a debug header, which its proxy holds for you
  pepo requests wait 1c7e03b25a --timeout 10m --on https://pepo.example
  pepo requests --on https://pepo.example
  pepo requests delete 1c7e03b25a --on https://pepo.example";

/// Arguments of `pepo requests`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Requests {
    #[command(subcommand)]
    act: Option<Act>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum Act {
    /// Yours, and those bound to a target that you may look at
    List,
    /// One of them
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        request: String,
    },
    /// Wait until one has its container, and tell which it is
    Wait {
        /// Its name
        #[arg(value_name = "NAME")]
        request: String,
        /// How long at most; without it, as long as the request waits
        #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
        timeout: Option<Duration>,
    },
    /// Wait for the next container of an image or a service; it is bound to one request alone
    Create(Create),
    /// Remove one; an attachment that was made for it stays
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        request: String,
    },
}

/// What is wished.
#[derive(Args, Debug)]
struct Create {
    /// The image, as `pepo ps` prints it; a `*` stands for any text
    #[arg(long, value_name = "PATTERN", required_unless_present = "service")]
    image: Option<String>,
    /// The service, as the engine labels its containers; a `*` stands for any text
    #[arg(long, value_name = "PATTERN")]
    service: Option<String>,
    /// What is waited for: its start, or a call that its proxy holds until the debugger is there
    #[arg(long, value_enum, default_value_t = Moment::Start, value_name = "MOMENT")]
    next: Moment,
    /// How long it waits; without it, an hour
    #[arg(long = "for", value_parser = duration::parse, value_name = "DURATION")]
    lasts: Option<Duration>,
    /// Wait until it has its container, and tell which it is
    #[arg(long)]
    wait: bool,
    /// Said twice with one key, it is made once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// What of a container can be waited for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Moment {
    // It starts.
    Start,
    // Its proxy holds a call.
    Call,
}

/// Does what is wished.
pub(crate) async fn run(arguments: &Requests, context: &Context) -> Outcome {
    let server = || resources::server(context, "requests");
    match &arguments.act {
        None | Some(Act::List) => {
            resources::list::<RequestSpec>(context, "there is no debug request that you may see").await
        }
        Some(Act::Show { request }) => {
            resources::show(context, &server()?.get::<RequestSpec>(request).await?)
        }
        Some(Act::Wait { request, timeout }) => bound(context, request, *timeout).await,
        Some(Act::Create(wish)) => create(wish, context).await,
        Some(Act::Delete { request }) => {
            resources::show(context, &server()?.delete::<RequestSpec>(request).await?)
        }
    }
}

async fn create(wish: &Create, context: &Context) -> Outcome {
    let spec = RequestSpec {
        image: wish.image.clone(),
        service: wish.service.clone(),
        next: Some(match wish.next {
            Moment::Start => Next::Start,
            Moment::Call => Next::Call,
        }),
        lasts_seconds: wish.lasts.map(|lasts| lasts.as_secs()),
        ..RequestSpec::default()
    };
    let made =
        resources::server(context, "requests")?.request(&spec, wish.idempotency_key.as_deref()).await?;
    let name = &made.metadata.name;
    if wish.wait {
        context.printer.say(&format!("debug request {name} waits for its container"));
        return bound(context, name, None).await;
    }
    if context.printer.json_wanted() {
        return context.printer.json(&resources::data(&made));
    }
    context.printer.data(name)
}

/// Waits until it has its container, and tells which.
async fn bound(context: &Context, name: &str, limit: Option<Duration>) -> Outcome {
    let is_over = |one: &DebugRequest| one.status.state != RequestState::Waiting;
    let request = resources::until(&resources::server(context, "requests")?, name, limit, is_over).await?;
    let is_for_a_call = request.spec.next == Some(Next::Call);
    let Some(target) = &request.status.target else {
        let what = if is_for_a_call { "call" } else { "container" };
        return Err(Failure::new(
            Code::TimedOut,
            format!("no {what} came for debug request `{name}` in time"),
        )
        .try_command("wait longer", again(&request.spec))
        .into());
    };
    if context.printer.json_wanted() {
        return context.printer.json(&resources::data(&request));
    }
    context.printer.data(target)?;
    context.printer.say(&format!(
        "{}: pepo attach {target} --on {}",
        if is_for_a_call {
            "a call is held for you, for a minute"
        } else {
            "it waits for you for 10 minutes"
        },
        context.global.server().unwrap_or_default()
    ));
    Ok(())
}

/// The command that wishes the same for longer.
fn again(spec: &RequestSpec) -> Vec<String> {
    let next = spec.next.filter(|next| *next == Next::Call).map(|next| next.word());
    let flags = [("--image", spec.image.clone()), ("--service", spec.service.clone()), ("--next", next)];
    let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten();
    ["pepo", "requests", "create"]
        .map(str::to_owned)
        .into_iter()
        .chain(given)
        .chain(["--for", "8h"].map(str::to_owned))
        .collect()
}

impl Shown for RequestSpec {
    const COLUMNS: &'static [(&'static str, Lean)] = &[
        ("NAME", Lean::Left),
        ("IMAGE", Lean::Cut),
        ("SERVICE", Lean::Cut),
        ("WHO", Lean::Cut),
        ("SINCE", Lean::Cut),
        ("STATE", Lean::Left),
        ("TARGET", Lean::Left),
    ];

    fn cells(object: &DebugRequest, now: Time) -> Vec<Cell> {
        let (spec, status) = (&object.spec, &object.status);
        let style = match status.state {
            RequestState::Bound => Style::Good,
            RequestState::Expired => Style::Warning,
            RequestState::Waiting => Style::Plain,
        };
        vec![
            spec.image.as_deref().unwrap_or_default().into(),
            spec.service.as_deref().unwrap_or_default().into(),
            spec.who.as_str().into(),
            ago(object.metadata.creation_timestamp, now).into(),
            Cell::painted(status.state.word(), style),
            status.target.as_deref().unwrap_or_default().into(),
        ]
    }

    fn facts(object: &DebugRequest) -> Vec<(&'static str, String)> {
        let (spec, status) = (&object.spec, &object.status);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        vec![
            ("image", text(&spec.image)),
            ("service", text(&spec.service)),
            ("who", spec.who.clone()),
            ("state", status.state.word()),
            ("waits until", status.waits_until.to_string()),
            ("target", text(&status.target)),
            ("attachment", text(&status.attachment)),
        ]
    }
}
