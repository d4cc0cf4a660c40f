//! Proxies, as the environment names them.

use super::url::Url;

/// The environment's proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// Names (and all below them), `host:port`, or `*`.
    direct: Vec<String>,
}

impl Proxies {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small letters or capitals.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let either = |name: &str| {
            variable(name).or_else(|| variable(&name.to_ascii_uppercase())).filter(|value| !value.is_empty())
        };
        let proxy = |name: &str| {
            let value = either(name).or_else(|| either("all_proxy"));
            let value =
                value.map(|value| if value.contains("://") { value } else { format!("http://{value}") });
            value.map(|value| Url::parse(&value).map_err(|what| format!("{name}: {what}"))).transpose()
        };
        let (http, https) = (proxy("http_proxy")?, proxy("https_proxy")?);
        if [&http, &https].into_iter().flatten().any(|proxy| proxy.tls) {
            return Err("a proxy that is itself reached by https is not supported".to_owned());
        }
        let direct = either("no_proxy").unwrap_or_default();
        let direct =
            direct.split([',', ' ']).map(|name| name.trim().trim_start_matches("*.").trim_start_matches('.'));
        let direct = direct.filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
        Ok(Proxies { http, https, direct })
    }

    /// The proxy for an address, if it is not reached directly.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let host = url.host.to_ascii_lowercase();
        let matches = |name: &String| {
            let (name, port) = match name.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => {
                    (name, Some(port))
                }
                _ => (name.as_str(), None),
            };
            let below = host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            (name == "*" || below) && port.is_none_or(|port| port == url.port.to_string())
        };
        let proxy = if url.tls { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !self.direct.iter().any(matches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let find = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        let proxies = Proxies::read(find).unwrap();
        proxies.of(&Url::parse(url).unwrap()).map(Url::authority)
    }

    #[test]
    fn the_environment_names_proxies() {
        let all = [
            ("http_proxy", "p:3128"),
            ("HTTPS_PROXY", "http://q:1"),
            ("no_proxy", "a.example, .b.example,c:8080"),
        ];
        for (url, expected) in [
            ("http://x/", Some("p:3128")),
            ("https://x/", Some("q:1")),
            ("http://a.example/", None),
            ("http://w.a.example/", None),
            ("http://xa.example/", Some("p:3128")),
            ("https://w.b.example/", None),
            ("http://c:8080/", None),
            ("http://c/", Some("p:3128")),
        ] {
            assert_eq!(proxy(&all, url).as_deref(), expected, "{url}");
        }
        assert_eq!(proxy(&[("all_proxy", "p"), ("no_proxy", "*")], "http://x/"), None);
        assert!(Proxies::read(|_| Some("https://p".to_owned())).is_err());
    }
}
