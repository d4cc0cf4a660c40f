//! Which proxy leads to an API server, as kubectl has it: the one that the kubeconfig names, else the one that the surroundings say.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use kube::config::Kubeconfig;

use crate::{Environment, PlatformError};

/// No proxy leads to this machine itself (Go's `http.ProxyFromEnvironment`, which kubectl asks).
const HERE: &str = "localhost,127.0.0.0/8,::1";

/// What the surroundings say.
pub(super) struct Proxy {
    url: Option<String>,
    none_to: String,
}

impl Proxy {
    pub(super) fn of(environment: &Environment) -> Proxy {
        let either = |upper: &str, lower: &str| environment.get(upper).or_else(|| environment.get(lower));
        let url = either("HTTPS_PROXY", "https_proxy").map(|url| match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        });
        let more = either("NO_PROXY", "no_proxy").unwrap_or_default();
        Proxy { url, none_to: format!("{HERE},{more}") }
    }

    /// The one that leads to a server.
    ///
    /// # Errors
    /// [`PlatformError::NoCluster`] for what is no URL.
    pub(super) fn to(&self, server: &Uri) -> Result<Option<Uri>, PlatformError> {
        let Some(url) = &self.url else { return Ok(None) };
        let why = |error: hyper::http::uri::InvalidUri| PlatformError::NoCluster {
            why: format!("HTTPS_PROXY is no URL: {error}"),
        };
        let uri: Uri = url.parse().map_err(why)?;
        let matcher = Matcher::builder().https(url.as_str()).no(self.none_to.as_str()).build();
        Ok(matcher.intercept(server).map(|_| uri))
    }
}

/// Whether a kubeconfig says itself which proxy leads to a context's cluster.
pub(super) fn is_named(all: &Kubeconfig, context: Option<&str>) -> bool {
    let mut contexts = all.contexts.iter().filter(|one| Some(one.name.as_str()) == context);
    let cluster = contexts.next().and_then(|one| one.context.as_ref()).map(|one| &one.cluster);
    let mut clusters = all.clusters.iter().filter(|one| Some(&one.name) == cluster);
    let proxy = clusters.next().and_then(|one| one.cluster.as_ref()).and_then(|one| one.proxy_url.as_ref());
    proxy.is_some_and(|url| !url.is_empty())
}

/// For messages: without the password that it may have.
pub(super) fn address(proxy: &Uri) -> String {
    let scheme = proxy.scheme_str().unwrap_or("http");
    let port = proxy.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{}{port}", proxy.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn to(server: &str, variables: [(&str, &str); 2]) -> Option<String> {
        let proxy = Proxy::of(&Environment::of(Path::new("/"), variables));
        proxy.to(&server.parse().unwrap()).unwrap().map(|uri| uri.to_string())
    }

    #[test]
    fn the_surroundings_proxy_leads_to_all_but_what_they_except_and_this_machine() {
        let proxy = ("HTTPS_PROXY", "http://user:secret@proxy:3128");
        let far = Some("http://user:secret@proxy:3128/".to_owned());
        assert_eq!(to("https://api.shop.example:6443", [proxy, ("NO_PROXY", "")]), far);
        for (server, none_to) in [
            ("https://api.shop.example:6443", "a, shop.example"),
            ("https://api.shop.example:6443", ".example"),
            ("https://api.shop.example:6443", "*"),
            ("https://10.0.0.1:6443", "10.0.0.0/8"),
            ("https://127.0.0.1:6443", ""),
            ("https://localhost:6443", ""),
            ("https://[::1]:6443", ""),
        ] {
            assert_eq!(to(server, [proxy, ("no_proxy", none_to)]), None, "{server} {none_to}");
            assert_eq!(to("https://api.other:6443", [proxy, ("NO_PROXY", "10.0.0.0/8")]), far);
        }
        let lower = [("https_proxy", "proxy:3128"), ("NO_PROXY", "other")];
        assert_eq!(to("https://api.shop:6443", lower).as_deref(), Some("http://proxy:3128/"));
        assert_eq!(to("https://api.shop:6443", [("HTTPS_PROXY", ""), ("NO_PROXY", "")]), None);
    }

    #[test]
    fn what_is_no_url_is_told_and_passwords_are_not() {
        let proxy = Proxy::of(&Environment::of(Path::new("/"), [("HTTPS_PROXY", "http://a b")]));
        let told = proxy.to(&"https://api:6443".parse().unwrap()).unwrap_err().to_string();
        assert!(told.contains("HTTPS_PROXY is no URL"), "{told}");
        let uri = "http://user:secret@proxy:3128".parse().unwrap();
        assert_eq!(address(&uri), "http://proxy:3128");
    }

    #[test]
    fn a_kubeconfig_may_name_its_own() {
        let text = "contexts: [{name: a, context: {cluster: one, user: u}}, {name: b, context: {cluster: two, user: u}}]\n\
            clusters: [{name: one, cluster: {server: 'https://api', proxy-url: 'socks5://proxy'}},\n  \
            {name: two, cluster: {server: 'https://api', proxy-url: ''}}]\n";
        let all = Kubeconfig::from_yaml(text).unwrap();
        assert!(is_named(&all, Some("a")) && !is_named(&all, Some("b")) && !is_named(&all, None));
    }
}
