//! One request of HTTP/1.1: connected directly or through a proxy, with TLS where asked; the answer's head, bounded,
//! and its body as a stream that knows when it was cut.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{proxy::Proxies, tls::Tls, url::Url};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// As long as this may the head of an answer be.
const LONGEST_HEAD: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Somebody could not be reached, or went away: trying again may help.
    Lost(String),
    /// The server is not who it should be.
    Untrusted(String),
    /// The server has no TLS, by its first bytes.
    Plain(String),
    /// What was said is no HTTP.
    Nonsense(String),
    /// The proxy does not let us through.
    Proxy(String),
    /// The proxy is not there: trying again may help.
    NoProxy(String),
    /// What the environment says of trust cannot be followed.
    Setting(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Lost(text)
            | Trouble::Untrusted(text)
            | Trouble::Plain(text)
            | Trouble::Nonsense(text)
            | Trouble::Proxy(text)
            | Trouble::NoProxy(text)
            | Trouble::Setting(text) => to.write_str(text),
        }
    }
}

/// What a request has beside its address.
#[derive(Default)]
pub(crate) struct Wish {
    /// From which byte on.
    pub(crate) from: u64,
    /// If it is still this one (an entity tag or a date).
    pub(crate) still: Option<String>,
}

/// An answer.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body, until its end.
    pub(crate) body: Body,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The body of an answer.
pub(crate) struct Body {
    stream: BufReader<Box<dyn Stream>>,
    rest: Rest,
}

/// How the end of a body is known.
enum Rest {
    /// So many bytes are left.
    Counted(u64),
    /// So many bytes of this chunk are left; none: its size comes next.
    Chunk(u64),
    /// When the server closes.
    Open,
    /// It is over.
    Over,
}

/// A connection on which nothing takes longer than until `end`.
struct Timed {
    stream: TcpStream,
    end: Instant,
}

impl Timed {
    /// So long may the next step take.
    fn left(&self) -> io::Result<Duration> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.left()?;
            self.stream.set_read_timeout(Some(left.min(SILENCE)))?;
            match self.stream.read(buffer) {
                // The kernel's clock may wake us a moment early.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && left < SILENCE => {}
                other => return other,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?.min(SILENCE)))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Asks for `url`; the answer and its body come until `end`, or not.
pub(crate) fn get(
    url: &Url,
    wish: &Wish,
    proxies: &Proxies,
    tls: &Tls,
    end: Instant,
) -> Result<Answer, Trouble> {
    let proxy = proxies.of(url);
    let tls = url.tls.then(|| tls.config()).transpose();
    let tls = tls.map_err(|fault| Trouble::Setting(fault.to_string()))?;
    let stream = connect(proxy.unwrap_or(url), end).map_err(|what| match proxy {
        None => Trouble::Lost(what),
        Some(proxy) => Trouble::NoProxy(format!("the proxy {proxy} cannot be reached: {what}")),
    });
    let mut stream: Box<dyn Stream> = Box::new(stream?);
    if let (Some(proxy), true) = (proxy, url.tls) {
        tunnel(&mut stream, proxy, url)?;
    }
    if let Some(tls) = tls {
        stream = Box::new(secured(stream, url, tls)?);
    }
    let request = request(url, wish, proxy.filter(|_| !url.tls));
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.flush())
        .map_err(|error| stream_trouble(url, &error))?;
    answer(BufReader::with_capacity(128 * 1024, stream), url)
}

fn connect(to: &Url, end: Instant) -> Result<Timed, String> {
    let addresses = (to.host.as_str(), to.port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("the name {} is not found: {error}", to.host))?;
    let mut last = None;
    for address in addresses {
        let left = end.saturating_duration_since(Instant::now());
        let limit = left.clamp(Duration::from_millis(1), CONNECT);
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(Timed { stream, end }),
            Err(error) => last = Some(format!("cannot connect to {address}: {error}")),
        }
    }
    Err(last.unwrap_or_else(|| format!("the name {} has no address", to.host)))
}

/// Asks a proxy for a tunnel to the server.
fn tunnel(stream: &mut Box<dyn Stream>, proxy: &Url, to: &Url) -> Result<(), Trouble> {
    let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.clone() };
    let login = login("Proxy-Authorization", proxy);
    let request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n", port = to.port);
    stream.write_all(request.as_bytes()).map_err(|error| stream_trouble(proxy, &error))?;
    // Not buffered: what follows the head is TLS.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) if (head.len() as u64) < LONGEST_HEAD => head.push(byte[0]),
            Ok(_) => return Err(Trouble::Proxy(format!("the proxy {proxy} closed without an answer"))),
            Err(error) => return Err(stream_trouble(proxy, &error)),
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(Trouble::Proxy(format!("the proxy {proxy} refuses: {}", line.escape_debug()))),
    }
}

fn secured(
    stream: Box<dyn Stream>,
    url: &Url,
    tls: &Arc<ClientConfig>,
) -> Result<impl Stream + use<>, Trouble> {
    let name = ServerName::try_from(url.host.clone());
    let name = name.map_err(|_| Trouble::Untrusted(format!("{} can have no certificate", url.host)))?;
    let connection = ClientConnection::new(Arc::clone(tls), name)
        .map_err(|error| Trouble::Untrusted(error.to_string()))?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| stream_trouble(url, &error))?;
    }
    Ok(stream)
}

/// What a broken stream means: TLS's own words, silence, or somebody who went away.
fn stream_trouble(url: &Url, error: &io::Error) -> Trouble {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return match tls {
            rustls::Error::InvalidCertificate(reason) => {
                Trouble::Untrusted(format!("the certificate of {} is not trusted: {reason:?}", url.host))
            }
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Trouble::Plain(format!("{} does not speak TLS", url.authority()))
            }
            other => Trouble::Untrusted(format!("no TLS with {}: {other}", url.authority())),
        };
    }
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Trouble::Lost(format!("{} was silent for {} s", url.authority(), SILENCE.as_secs()))
        }
        io::ErrorKind::UnexpectedEof => Trouble::Lost(format!("{} closed the connection", url.authority())),
        _ => Trouble::Lost(format!("{}: {error}", url.authority())),
    }
}

/// The request; a proxy is told the whole address.
fn request(url: &Url, wish: &Wish, proxy: Option<&Url>) -> String {
    let target = match proxy {
        Some(_) => format!("{}://{}{}", url.scheme(), url.authority(), url.target),
        None => url.target.clone(),
    };
    let mut text = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pepo-entry/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n",
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(&login("Authorization", url));
    if let Some(proxy) = proxy {
        text.push_str(&login("Proxy-Authorization", proxy));
    }
    if wish.from > 0 {
        text.push_str(&format!("Range: bytes={}-\r\n", wish.from));
        if let Some(still) = &wish.still {
            text.push_str(&format!("If-Range: {still}\r\n"));
        }
    }
    text + "\r\n"
}

/// The header for a login that stands in an address.
fn login(header: &str, url: &Url) -> String {
    let login = url.login.as_deref();
    login.map(|login| format!("{header}: Basic {}\r\n", base64(login))).unwrap_or_default()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Reads the head of an answer; interim ones (1xx) are passed over.
fn answer(mut stream: BufReader<Box<dyn Stream>>, url: &Url) -> Result<Answer, Trouble> {
    loop {
        let (status, headers) = head(&mut stream, url)?;
        if (100..200).contains(&status) {
            continue;
        }
        let value = |name: &str| {
            headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let chunked =
            value("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"));
        let rest = match value("content-length") {
            _ if status == 204 || status == 304 => Rest::Over,
            _ if chunked => Rest::Chunk(0),
            Some(length) => {
                let wrong =
                    |_| Trouble::Nonsense(format!("{} says a length of {:?}", url.authority(), length));
                Rest::Counted(length.trim().parse().map_err(wrong)?)
            }
            None => Rest::Open,
        };
        return Ok(Answer { status, headers, body: Body { stream, rest } });
    }
}

type Head = (u16, Vec<(String, String)>);

fn head(stream: &mut BufReader<Box<dyn Stream>>, url: &Url) -> Result<Head, Trouble> {
    let mut limited = stream.take(LONGEST_HEAD);
    let mut line = || -> Result<String, Trouble> {
        let mut bytes = Vec::new();
        limited.read_until(b'\n', &mut bytes).map_err(|error| stream_trouble(url, &error))?;
        match bytes.strip_suffix(b"\n") {
            Some(line) => Ok(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()),
            None if limited.limit() == 0 => {
                Err(Trouble::Nonsense(format!("{} sends no end of a head", url.authority())))
            }
            None => {
                Err(Trouble::Lost(format!("{} closed the connection before it answered", url.authority())))
            }
        }
    };
    let first = line()?;
    let nonsense = || {
        Trouble::Nonsense(format!(
            "{} does not speak HTTP: {:?}",
            url.authority(),
            first.chars().take(60).collect::<String>()
        ))
    };
    let status =
        first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(nonsense)?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Rest::Chunk(0) = self.rest {
            self.rest = self.next_chunk()?;
        }
        let most = match self.rest {
            Rest::Over | Rest::Counted(0) => return Ok(0),
            Rest::Counted(left) | Rest::Chunk(left) => {
                buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            }
            Rest::Open => buffer.len(),
        };
        let count = self.stream.read(&mut buffer[..most])?;
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the file did");
        match &mut self.rest {
            Rest::Counted(_) | Rest::Chunk(_) if count == 0 => return Err(cut()),
            Rest::Counted(left) => *left -= count as u64,
            Rest::Chunk(left) => {
                *left -= count as u64;
                if *left == 0 {
                    self.line()?;
                }
            }
            Rest::Open | Rest::Over => {}
        }
        Ok(count)
    }
}

impl Body {
    /// The size of the next chunk; after the last one, its trailer.
    fn next_chunk(&mut self) -> io::Result<Rest> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("a chunk of size {size:?}"));
        match u64::from_str_radix(size, 16).map_err(wrong)? {
            0 => {
                while !self.line()?.is_empty() {}
                Ok(Rest::Over)
            }
            size => Ok(Rest::Chunk(size)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        (&mut self.stream).take(8192).read_until(b'\n', &mut bytes)?;
        match bytes.strip_suffix(b"\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).trim_end().to_owned()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a chunk")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something to read that is also written to.
    struct Both(io::Cursor<Vec<u8>>);

    impl Read for Both {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(text: &str) -> Result<(u16, io::Result<String>), Trouble> {
        let stream: Box<dyn Stream> = Box::new(Both(io::Cursor::new(text.as_bytes().to_owned())));
        let mut answer = answer(BufReader::new(stream), &Url::parse("http://host/").unwrap())?;
        let mut body = String::new();
        let result = answer.body.read_to_string(&mut body).map(|_| body);
        Ok((answer.status, result))
    }

    #[test]
    fn bodies_end_where_they_say() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
            ("HTTP/1.0 200 OK\r\n\r\nabc", "abc"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-length:1\r\n\r\na", "a"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: x\r\n\r\n",
                "abc",
            ),
        ] {
            let (status, body) = read(text).unwrap();
            assert_eq!((status, body.unwrap().as_str()), (200, expected), "{text}");
        }
    }

    #[test]
    fn what_was_cut_is_known() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ] {
            let error = read(text).unwrap().1.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
        assert!(matches!(read(&endless), Err(Trouble::Nonsense(_))));
        assert!(matches!(read("SSH-2.0-x\r\n"), Err(Trouble::Nonsense(_))));
        assert!(matches!(read(""), Err(Trouble::Lost(_))));
    }

    #[test]
    fn logins_are_encoded() {
        for (plain, encoded) in [("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("me:p@ss", "bWU6cEBzcw==")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
