//! What stands in `fstree=URL`: where an archive is, how its path is stripped, what its sum must be.

use std::{fmt, path::PathBuf};

use crate::verbose::secrets;

/// One archive of the chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) place: Place,
    /// `#sha256=…`: what it must be.
    pub(crate) sum: Option<[u8; 32]>,
    /// `#strip=N`: how many names are taken off each path; found out if not said.
    pub(crate) strip: Option<usize>,
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// On a server.
    Web(Url),
    /// In the image, or mounted.
    File(PathBuf),
}

/// An address as HTTP needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Whether it is https.
    pub(crate) tls: bool,
    /// `user:password`, percent-decoded.
    pub(crate) login: Option<Vec<u8>>,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// The port, as it is or as the scheme has it.
    pub(crate) port: u16,
    /// Path and query, which begin with `/`.
    pub(crate) target: String,
}

impl Source {
    /// Reads one value of `fstree=`.
    pub(crate) fn parse(text: &str) -> Result<Source, String> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let place = match address.strip_prefix("file:") {
            Some(path) => Place::File(file(path)?),
            None => Place::Web(Url::parse(address)?),
        };
        let mut source = Source { place, sum: None, strip: None };
        for part in fragment.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("sha256", sum)) => source.sum = Some(sum_of(sum)?),
                Some(("strip", number)) => {
                    let small = number.parse().ok().filter(|number: &usize| *number <= 64);
                    source.strip =
                        Some(small.ok_or_else(|| format!("strip takes a number up to 64, not {number:?}"))?);
                }
                _ => return Err(format!("after # only sha256=… and strip=N are known, not {part:?}")),
            }
        }
        Ok(source)
    }
}

/// `///path`, `//localhost/path`, `/path`.
fn file(path: &str) -> Result<PathBuf, String> {
    let path = path.strip_prefix("//").map_or(path, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
    match path.starts_with('/') {
        true => {
            let bytes = decoded(path)?;
            Ok(PathBuf::from(String::from_utf8(bytes).map_err(|_| format!("file:{path} is not UTF-8"))?))
        }
        false => Err(format!("file:{path} is not absolute: write file:///path")),
    }
}

fn sum_of(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("sha256 takes 64 hexadecimal digits, not {text:?}");
    let mut sum = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (at, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(sum)
}

impl Url {
    /// Reads an absolute http or https address.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let shown = secrets::masked(text);
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("{shown:?} is no http, https or file URL"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            other => return Err(format!("the scheme {other:?} is not known: http, https and file are")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = target.split('#').next().unwrap_or_default();
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(decoded(login)?), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address, if tls { 443 } else { 80 })
            .ok_or_else(|| format!("{shown:?} has no valid host and port"))?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{}", target.replace(' ', "%20"));
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{shown:?} has characters that must be percent-encoded"));
        }
        Ok(Url { tls, login, host, port, target })
    }

    /// Where a `Location` leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Url, String> {
        if location.contains("://") {
            return Url::parse(location);
        }
        let base = format!("{}://{}", self.scheme(), self.authority());
        let folder = self
            .target
            .split('?')
            .next()
            .and_then(|path| path.rsplit_once('/'))
            .map_or("", |(folder, _)| folder);
        let mut next = match location {
            rest if rest.starts_with("//") => Url::parse(&format!("{}:{rest}", self.scheme()))?,
            rest if rest.starts_with('/') => Url::parse(&format!("{base}{rest}"))?,
            rest => Url::parse(&format!("{base}{folder}/{rest}"))?,
        };
        if next.host == self.host && next.port == self.port && next.tls == self.tls {
            next.login.clone_from(&self.login);
        }
        Ok(next)
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// `host`, `host:8080`, `[::1]:8080`: as the header `Host` has it.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

/// As it is told: without the login, and without the query, which may hold a token.
impl fmt::Display for Url {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.target.split_once('?').map_or((self.target.as_str(), ""), |_| {
            (self.target.split('?').next().unwrap_or_default(), "?…")
        });
        write!(to, "{}://{}{path}{query}", self.scheme(), self.authority())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Web(url) => url.fmt(to),
            Place::File(path) => write!(to, "{}", path.display()),
        }
    }
}

fn host_and_port(address: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = if port.is_empty() { usual } else { port.parse().ok()? };
    let valid = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte));
    (!host.is_empty() && valid).then(|| (host.to_owned(), port))
}

/// Percent-decoded.
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, next)) = rest.split_first() {
        rest = next;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = next.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(
            byte.filter(|byte| *byte != 0).ok_or_else(|| format!("{text:?} has a % that encodes nothing"))?,
        );
        rest = &next[2..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_taken_apart() {
        let read = url("https://me:p%40ss@host.example:8443/a%2Cb.tar?x=y=z");
        assert_eq!((read.host.as_str(), read.port, read.tls), ("host.example", 8443, true));
        assert_eq!(read.login.as_deref(), Some(b"me:p@ss".as_slice()));
        assert_eq!(read.target, "/a%2Cb.tar?x=y=z");
        assert_eq!(read.to_string(), "https://host.example:8443/a%2Cb.tar?…");
        assert_eq!(url("http://[::1]:80/x").authority(), "[::1]");
        assert_eq!(url("http://host").target, "/");
        for wrong in
            ["host/x", "ftp://host/x", "http://", "http://host:x/", "http://ho st/", "http://h/\u{e9}"]
        {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redirects_are_joined_and_take_no_login_elsewhere() {
        let base = url("http://u:p@host/a/b.tar");
        assert_eq!(base.join("c").unwrap().target, "/a/c");
        assert_eq!(base.join("/c").unwrap().target, "/c");
        assert!(base.join("/c").unwrap().login.is_some());
        let other = base.join("https://other/c").unwrap();
        assert!(other.tls && other.login.is_none());
        assert_eq!(base.join("//third/c").unwrap().host, "third");
    }

    #[test]
    fn fragments_say_sum_and_strip() {
        let sum = "0123456789abcdef".repeat(4);
        let read = Source::parse(&format!("http://h/x.tgz?a=b#sha256={sum}&strip=2")).unwrap();
        assert_eq!((read.sum.unwrap()[1], read.strip), (0x23, Some(2)));
        assert_eq!(Source::parse("file:///a%2Cb").unwrap().place, Place::File("/a,b".into()));
        for wrong in ["file:x", "http://h/#strip=x", "http://h/#sha256=12", "http://h/#md5=1", "file:///a%zz"]
        {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }
}
