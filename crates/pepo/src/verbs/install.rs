//! `pepo install`: the configuration by which a proxy beside a program holds calls. It is printed and nothing else: where it goes is
//! the business of whoever runs the proxy.

use std::{net::IpAddr, time::Duration};

use clap::{Args, ValueEnum};
use pepo_wire::{Code, Failure, resource::LONGEST_HOLD};
use serde_json::json;

use crate::{config::Context, duration, environment::Environment, render::Outcome};

const ENVOY: &str = include_str!("install/envoy.yaml");
const NGINX: &str = include_str!("install/nginx.conf");
/// How much longer than the hold a proxy waits for its answer.
const MARGIN: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  pepo install envoy --print --door pepo.example:7412 > envoy.yaml
  pepo install envoy --print --door 10.0.0.1:7412 --upstream 127.0.0.1:9000 --container app
  pepo install nginx --print --door 10.0.0.1:7412 | envsubst '$POD_NAMESPACE $POD_NAME' > /etc/nginx/conf.d/pepo.conf
  pepo install nginx --print --door 10.0.0.1:7412 -n shop --pod cart-7f9c > pepo.conf

The proxy stands beside the program, so its pod is the one that serves the call. Run in the pod, with POD_NAME
and POD_NAMESPACE from Kubernetes (the downward API), that is what is written; where neither these nor the flags say
it, the configuration has ${POD_NAME} and ${POD_NAMESPACE}, to be filled in at the proxy's start.

The door is where `pepo serve --proxies` answers. A call is held that has a header x-pepo-debug, x-squash-debug, or a
member `pepo` of baggage; all others pass without a word to the door, and when the door does not answer all pass.";

/// Arguments of `pepo install`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Install {
    /// The proxy
    #[arg(value_enum, value_name = "PROXY")]
    proxy: Proxy,
    /// Print the configuration; nothing is changed anywhere
    #[arg(long, required = true)]
    print: bool,
    /// Where a server answers proxies: `pepo serve --proxies`
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    door: Address,
    /// Where the proxy listens
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8000", value_parser = Address::parse)]
    listen: Address,
    /// Where the program listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = Address::parse)]
    upstream: Address,
    /// The pod; without it $POD_NAME, else the configuration asks for it; --namespace, or $POD_NAMESPACE, is the pod's
    #[arg(long, value_name = "NAME", value_parser = name)]
    pod: Option<String>,
    /// The container of the program; without it, the one of the pod that the debug request fits
    #[arg(long, value_name = "NAME", value_parser = name)]
    container: Option<String>,
    /// How long a call may last that was held, with all the time that the debugger has it stand still
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration::parse)]
    lasts: Duration,
}

/// Proxies that can hold a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proxy {
    /// Envoy: static configuration, with ext_authz
    Envoy,
    /// nginx: a file for conf.d, with auth_request
    Nginx,
}

/// A host and a port, of which nothing can break out of the text around them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
}

impl Address {
    fn parse(text: &str) -> Result<Address, String> {
        let wanted =
            || "HOST:PORT is wanted, as in 10.0.0.1:7412, [::1]:7412 or pepo.example:7412".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_address = bare.is_some_and(|host| matches!(host.parse(), Ok(IpAddr::V6(_))));
        let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        match port.parse() {
            Ok(port @ 1..) if is_address || is_name => {
                Ok(Address { host: bare.unwrap_or(host).to_owned(), port })
            }
            _ => Err(wanted()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A name as Kubernetes gives them.
fn name(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    match !text.is_empty() && text.len() <= 253 && text.chars().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("small letters, digits, `-` and `.` make a name in Kubernetes".to_owned()),
    }
}

/// Prints it.
pub(crate) fn run(arguments: &Install, context: &Context) -> Outcome {
    let global = &context.global;
    let (pod, namespace) = identity(arguments, global.namespace.as_deref(), &context.environment)?;
    let configuration = arguments.configuration(&pod, &namespace);
    if context.printer.json_wanted() {
        let proxy = arguments.proxy.to_possible_value().map(|value| value.get_name().to_owned());
        return context.printer.json(&json!({
            "proxy": proxy, "namespace": namespace, "pod": pod, "container": arguments.container,
            "configuration": configuration,
        }));
    }
    if pod.starts_with('$') || namespace.starts_with('$') {
        context.printer.say(&format!(
            "the pod is not known here: put its names for {namespace} and {pod} where the proxy starts, or name them by -n and --pod"
        ));
    }
    context.printer.data(configuration.trim_end_matches('\n'))
}

/// Pod and namespace: as they are said, as the pod that this runs in knows them, or as something else is to fill them in.
fn identity(
    arguments: &Install,
    namespace: Option<&str>,
    environment: &Environment,
) -> Result<(String, String), Failure> {
    let one = |said: Option<&str>, variable: &str, value: &Option<String>| {
        let Some(text) = said.or(value.as_deref()) else { return Ok(format!("${{{variable}}}")) };
        name(text).map_err(|why| {
            Failure::new(Code::Usage, format!("`{text}` is no name of a pod or a namespace")).because(why)
        })
    };
    let pod = one(arguments.pod.as_deref(), "POD_NAME", &environment.pod_name)?;
    Ok((pod, one(namespace, "POD_NAMESPACE", &environment.pod_namespace)?))
}

impl Install {
    fn configuration(&self, pod: &str, namespace: &str) -> String {
        let template = match self.proxy {
            Proxy::Envoy => ENVOY,
            Proxy::Nginx => NGINX,
        };
        let seconds = |duration: Duration| duration.as_secs().max(1).to_string();
        let mut text = template.to_owned();
        for (mark, address) in [("DOOR", &self.door), ("LISTEN", &self.listen), ("UPSTREAM", &self.upstream)]
        {
            for (mark, value) in [
                (format!("@{mark}@"), address.to_string()),
                (format!("@{mark}_HOST@"), address.host.clone()),
                (format!("@{mark}_PORT@"), address.port.to_string()),
            ] {
                text = text.replace(&mark, &value);
            }
        }
        for (mark, value) in [
            ("@WAIT@", seconds(LONGEST_HOLD + MARGIN).as_str()),
            ("@LASTS@", seconds(self.lasts).as_str()),
            ("@NAMESPACE@", namespace),
            ("@POD@", pod),
            ("@CONTAINER@", self.container.as_deref().unwrap_or("-")),
        ] {
            text = text.replace(mark, value);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for (text, shown) in [
            ("10.0.0.1:7412", Some("10.0.0.1:7412")),
            ("pepo.example:80", Some("pepo.example:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("::1:80", None),
            ("pepo.example", None),
            (":80", None),
            ("a:0", None),
            ("a:70000", None),
            ("a\"}:80", None),
            ("a;b:80", None),
            ("[a]:80", None),
        ] {
            assert_eq!(Address::parse(text).ok().map(|one| one.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_configuration() {
        for (text, is_one) in
            [("cart-7f9c", true), ("a.b", true), ("", false), ("a/b", false), ("a\nb", false), ("A", false)]
        {
            assert_eq!(name(text).is_ok(), is_one, "{text}");
        }
    }
}
