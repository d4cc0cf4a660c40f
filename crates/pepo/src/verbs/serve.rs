//! `pepo serve`: a server, by which a team reaches the containers of many nodes by name.

/// Where its settings are from.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "a server runs on Linux"))]
mod settings;

use std::{path::PathBuf, time::Duration};

use clap::Args;

pub(crate) use self::settings::SETTINGS;
use crate::{config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo serve                         on this machine alone, to try it: it tells what to run next
  pepo serve --listen 0.0.0.0:7411 --name pepo.example --state /var/lib/pepo
  pepo serve --config /etc/pepo/server.json --print-config -o json
  pepo serve --state /var/lib/pepo --new-token ann
                                     a token for a person; policy.json there says what she may do
  pepo serve --state /var/lib/pepo --new-node node-7
                                     a token by which the agent of a node joins; then it has a certificate

On each node:     PEPO_TOKEN=... pepo node --server https://pepo.example:7411
Everybody else:   PEPO_TOKEN=... pepo ps --on https://pepo.example:7411";

/// Arguments of `pepo serve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// File of settings, as JSON; a flag goes before the environment, that before the file (docs/configuration.md)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tell the settings as they are decided, and end; with `-o json`, as a file of them
    #[arg(long)]
    print_config: bool,
    /// Where to listen, 127.0.0.1:7411 without it; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of what is kept: tokens, policy.json, audit.log; without it, ~/.local/state/pepo/server
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
    /// A further name or address by which it is called, for its certificate; may be given several times
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Where proxies are answered that hold calls (Envoy, nginx), in cleartext and without any proof of who asks; keep it to their network
    #[arg(long, value_name = "ADDRESS")]
    proxies: Option<String>,
    /// Make a token for a person, tell it, and end
    #[arg(long, value_name = "NAME", group = "new")]
    new_token: Option<String>,
    /// Make a token for a node, tell it, and end
    #[arg(long, value_name = "NAME", group = "new")]
    new_node: Option<String>,
    /// With --new-node: the token counts once, for the first node agent that joins by it
    #[arg(long, requires = "new_node")]
    once: bool,
    /// With --new-token and --new-node: the token counts for so long
    #[arg(long, requires = "new", value_name = "DURATION", value_parser = crate::duration::parse)]
    expires: Option<Duration>,
    /// How long a certificate of a node is good, 24h without it; it is renewed long before its end
    #[arg(long, value_name = "DURATION")]
    certificates_last: Option<String>,
    /// How long open sessions may go on when the server is asked to end, 20s without it; asked again, it ends at once
    #[arg(long, value_name = "DURATION")]
    drain: Option<String>,
    /// The log: `text` for people on stderr, with -v; or `json`, an object a line on stdout, and nothing else there
    #[arg(long, value_name = "SHAPE")]
    log_format: Option<String>,
}

impl Serve {
    /// A setting as it was typed.
    fn flag(&self, key: &str) -> Option<Vec<String>> {
        let one = |text: &Option<String>| text.clone().map(|text| vec![text]);
        match key {
            "listen" => one(&self.listen),
            "state" => one(&self.state),
            "name" => Some(self.name.clone()).filter(|names| !names.is_empty()),
            "proxies" => one(&self.proxies),
            "certificates-last" => one(&self.certificates_last),
            "drain" => one(&self.drain),
            "log-format" => one(&self.log_format),
            _ => None,
        }
    }
}

/// Serves until it is asked to end.
#[cfg(target_os = "linux")]
pub(crate) async fn run(arguments: &Serve, context: &Context) -> Outcome {
    use pepo_server::{Config, Folder, Kind, Listening, Terms};

    use self::settings::Settings;
    use crate::{
        logging::{self, LogFormat},
        render::no_runtime,
        signals::Signals,
    };

    let settings = Settings::of(arguments, &context.environment)?;
    logging::start(context, settings.log_format);
    if arguments.print_config {
        return match context.printer.json_wanted() {
            true => context.printer.json(&settings.as_file()),
            false => context.printer.data(&settings.lines().join("\n")),
        };
    }
    let folder = settings.state.clone().map_or_else(|| usual(context), Ok)?;
    let new = match (&arguments.new_token, &arguments.new_node) {
        (Some(name), _) => Some((name, Kind::Person)),
        (None, Some(name)) => Some((name, Kind::Node)),
        (None, None) => None,
    };
    if let Some((name, kind)) = new {
        let terms = Terms { lasts: arguments.expires, once: arguments.once };
        let (folder, mut tokens) = Folder::open(&folder)?;
        tokens.push(folder.add_token(name, kind, terms)?);
        return told::tokens(context, &tokens);
    }
    let config = Config {
        listen: settings.listen,
        folder: folder.clone(),
        // A log is no place for them.
        first_tokens: settings.log_format == LogFormat::Text,
        proxies: settings.proxies,
        names: settings.names,
        certificates_last: Some(settings.certificates_last),
        drain: Some(settings.drain),
    };
    let signals = Signals::listen().map_err(no_runtime)?;
    let mut told = Ok(());
    let ready = |listening: &Listening| match settings.log_format {
        LogFormat::Text => told = told::listening(context, &folder, listening),
        LogFormat::Json => tracing::info!(address = %listening.address, state = %folder.display(), "serving"),
    };
    let stops = futures::stream::unfold(signals, |mut signals| async {
        signals.next().await;
        Some(((), signals))
    });
    pepo_server::serve(config, ready, stops).await?;
    told
}

/// In the user's state folder.
#[cfg(target_os = "linux")]
fn usual(context: &Context) -> Result<PathBuf, pepo_wire::Failure> {
    context.environment.state_folder().map(|folder| folder.join("server")).ok_or_else(|| {
        pepo_wire::Failure::new(pepo_wire::Code::Usage, "there is no folder for what the server keeps")
            .because("neither XDG_STATE_HOME nor HOME is set")
            .try_command("name one", ["pepo", "serve", "--state", "/var/lib/pepo"])
    })
}

/// What a server tells the person who starts it.
#[cfg(target_os = "linux")]
mod told {
    use std::path::Path;

    use pepo_server::{Kind, Listening, NewToken};
    use serde_json::{Value, json};

    use crate::{config::Context, render::Outcome};

    /// Where it listens and, at its first start, the tokens with what to do with them.
    pub(super) fn listening(context: &Context, folder: &Path, listening: &Listening) -> Outcome {
        let printer = context.printer;
        let address = format!("https://{}", listening.address);
        if printer.json_wanted() {
            return printer.json_line(&json!({
                "address": address, "proxies": listening.proxies, "state": folder, "tokens": data(&listening.new_tokens),
            }));
        }
        printer.data(&format!("serving on {address}, state in {}", folder.display()))?;
        if let Some(proxies) = listening.proxies {
            printer.say(&format!(
                "proxies are answered at http://{proxies}: whoever reaches it can end the waiting of debug requests, and nothing else"
            ));
        }
        for token in &listening.new_tokens {
            let (what, command) = match token.kind {
                Kind::Person => ("you look with", format!("pepo ps --on {address}")),
                Kind::Node => ("a node joins with", format!("pepo node --server {address}")),
            };
            printer.data(&format!("{what:<18} PEPO_TOKEN={} {command}", token.text))?;
        }
        if listening.new_tokens.is_empty() {
            printer.say("tokens are told once; `pepo serve --new-token NAME` makes another");
        }
        Ok(())
    }

    /// Tokens that were just made.
    pub(super) fn tokens(context: &Context, tokens: &[NewToken]) -> Outcome {
        if context.printer.json_wanted() {
            return context.printer.json(&json!({ "tokens": data(tokens) }));
        }
        context.printer.say("told once, and kept nowhere:");
        let lines =
            tokens.iter().map(|token| format!("{:<8} {:<6} {}", token.name, word(token.kind), token.text));
        context.printer.data(&lines.collect::<Vec<_>>().join("\n"))
    }

    fn data(tokens: &[NewToken]) -> Vec<Value> {
        let one =
            |token: &NewToken| json!({ "name": token.name, "kind": word(token.kind), "token": token.text });
        tokens.iter().map(one).collect()
    }

    fn word(kind: Kind) -> &'static str {
        match kind {
            Kind::Person => "person",
            Kind::Node => "node",
        }
    }
}

/// Built for Linux alone.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_arguments: &Serve, _context: &Context) -> Outcome {
    Err(pepo_wire::Failure::new(pepo_wire::Code::NotReachable, "a server runs on Linux")
        .hint("any system reaches one with `--on https://...`")
        .into())
}
