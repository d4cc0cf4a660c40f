//! debuginfod: debug files by build id, from the servers that `DEBUGINFOD_URLS` names, kept where elfutils and gdb keep theirs.
//!
//! What comes is as hostile as any file: it is bounded in size and time, and believed only when it is an ELF file of the build that was
//! asked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, Uri, body::Bytes, body::Incoming, header};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use object::Object as _;
use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};
use tokio::{sync::Semaphore, time::timeout};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// So many bytes must come within [`Limits::stall`].
const PIECE: usize = 100 << 10;
/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;
/// Redirections that are followed for one file.
const REDIRECTIONS: usize = 5;
/// The longest build id, in bytes; the usual one has 20.
const LONGEST_ID: usize = 64;
/// How long it is remembered that no server has a file, unless `cache_miss_s` in the cache says otherwise.
const MISS: Duration = Duration::from_secs(600);
/// Files that a note names.
const NAMES: usize = 5;

type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// How long and how large a file may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the answer may take to begin, and each 100 KiB of it (`DEBUGINFOD_TIMEOUT`).
    pub stall: Duration,
    /// How long a whole file may take (`DEBUGINFOD_MAXTIME`).
    pub whole: Duration,
    /// Bytes of a file (`DEBUGINFOD_MAXSIZE`).
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { stall: Duration::from_secs(90), whole: Duration::from_secs(600), bytes: 512 << 20 }
    }
}

/// The servers, what they have said, and what is under way.
#[derive(Debug)]
pub struct Debuginfod {
    servers: Vec<Server>,
    cache: Option<PathBuf>,
    limits: Limits,
    http: OnceLock<Result<Http, rustls::Error>>,
    room: Semaphore,
    /// One at a time asks for a file.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Server {
    /// Without a slash at its end.
    base: String,
    /// It did not answer: it is not asked again.
    is_silent: AtomicBool,
}

/// What is told once.
#[derive(Debug, Default)]
struct Said {
    /// Bytes of what was fetched, by server.
    fetched: BTreeMap<String, Vec<u64>>,
    /// What no server has.
    missing: BTreeSet<String>,
    /// What went wrong.
    notes: BTreeSet<String>,
    /// Name, bytes that have come, bytes in all.
    under_way: BTreeMap<String, (u64, Option<u64>)>,
}

/// Why a server gave nothing.
enum Trouble {
    /// It is not asked again.
    Silent(String),
    /// This file is not to be had from it.
    File(String),
}

enum Cached {
    File(Vec<u8>),
    Missing,
    Unknown,
}

impl Debuginfod {
    /// The servers of `DEBUGINFOD_URLS`, separated by spaces; nothing when it names none. Without `cache`, nothing is kept.
    #[must_use]
    pub fn new(urls: &str, cache: Option<PathBuf>, limits: Limits) -> Option<Debuginfod> {
        let mut said = Said::default();
        let mut servers = Vec::new();
        let mut is_signed = false;
        for word in urls.split_whitespace() {
            if let Some(policy) = word.strip_prefix("ima:") {
                is_signed = policy == "enforcing";
                continue;
            }
            match (is_signed, server(word)) {
                (true, _) => drop(said.notes.insert(
                    "debuginfod: servers after `ima:enforcing` are not asked: signatures of files are not checked"
                        .to_owned(),
                )),
                (false, Some(base)) => servers.push(Server { base, is_silent: AtomicBool::new(false) }),
                (false, None) => drop(said.notes.insert(
                    "debuginfod: an address in DEBUGINFOD_URLS is not of the kind http://HOST or https://HOST"
                        .to_owned(),
                )),
            }
        }
        (!servers.is_empty() || !said.notes.is_empty()).then(|| Debuginfod {
            servers,
            cache,
            limits,
            http: OnceLock::new(),
            room: Semaphore::new(AT_ONCE),
            turns: Mutex::default(),
            said: Mutex::new(said),
        })
    }

    /// The debug file of a build, from the cache or the first server that has it. `name` is for people.
    pub async fn debug_file(&self, build_id: &str, name: &str) -> Option<Vec<u8>> {
        // It becomes part of a path and of an address.
        let is_id = build_id.len() >= 2
            && build_id.len() <= 2 * LONGEST_ID
            && build_id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        if !is_id {
            return None;
        }
        let turn = Arc::clone(lock(&self.turns).entry(build_id.to_owned()).or_default());
        let _turn = turn.lock().await;
        match self.cached(build_id).await {
            Cached::File(bytes) => return Some(bytes),
            Cached::Missing => return None,
            Cached::Unknown => {}
        }
        let mut all_answered = true;
        for server in &self.servers {
            let Ok(_room) = self.room.acquire().await else { return None };
            if server.is_silent.load(Ordering::Relaxed) {
                all_answered = false;
                continue;
            }
            let under_way = UnderWay::begin(self, name);
            match self.ask(server, build_id, &under_way).await {
                Ok(Some(bytes)) => {
                    lock(&self.said).fetched.entry(server.base.clone()).or_default().push(bytes.len() as u64);
                    self.keep(build_id, &bytes);
                    return Some(bytes);
                }
                Ok(None) => {}
                Err(trouble) => {
                    all_answered = false;
                    self.note(server, name, trouble);
                }
            }
        }
        if all_answered && !self.servers.is_empty() {
            lock(&self.said).missing.insert(name.to_owned());
            self.keep(build_id, &[]);
        }
        None
    }

    /// What is being fetched, for a line of progress.
    #[must_use]
    pub fn under_way(&self) -> Option<String> {
        let said = lock(&self.said);
        let (name, (come, whole)) = said.under_way.first_key_value()?;
        let of = whole.map(|whole| format!(" of {}", mib(whole))).unwrap_or_default();
        let more = match said.under_way.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!("debuginfod: {name}, {}{of}{more}", mib(*come)))
    }

    /// What was fetched and what went wrong since it was last asked, for people.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut said = lock(&self.said);
        let mut notes: Vec<String> = std::mem::take(&mut said.notes).into_iter().collect();
        for (server, sizes) in std::mem::take(&mut said.fetched) {
            let files = if sizes.len() == 1 { "file" } else { "files" };
            let bytes = mib(sizes.iter().sum());
            notes.push(format!("debuginfod: {} debug {files} ({bytes}) from {server}", sizes.len()));
        }
        let missing: Vec<String> = std::mem::take(&mut said.missing).into_iter().collect();
        if !missing.is_empty() {
            let more = missing.len().saturating_sub(NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = missing.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
            notes.push(format!("debuginfod: no server has the debug file of {names}{more}"));
        }
        notes
    }

    fn note(&self, server: &Server, name: &str, trouble: Trouble) {
        let base = &server.base;
        let note = match trouble {
            Trouble::Silent(why) => {
                server.is_silent.store(true, Ordering::Relaxed);
                format!("debuginfod: {base} is not asked again: {why}")
            }
            Trouble::File(why) => format!("debuginfod: {name} from {base}: {why}"),
        };
        lock(&self.said).notes.insert(note);
    }

    /// The file from one server; nothing when it has none.
    async fn ask(
        &self,
        server: &Server,
        build_id: &str,
        under_way: &UnderWay<'_>,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let address = format!("{}/buildid/{build_id}/debuginfo", server.base);
        let fetching = self.fetch(&address, under_way);
        let Ok(fetched) = timeout(self.limits.whole, fetching).await else {
            let limit = self.limits.whole.as_secs();
            return Err(Trouble::File(format!("it takes longer than {limit} s (DEBUGINFOD_MAXTIME)")));
        };
        match fetched? {
            Some(bytes) if is_build(&bytes, build_id) => Ok(Some(bytes)),
            Some(_) => Err(Trouble::File("what came is no debug file of this build".to_owned())),
            None => Ok(None),
        }
    }

    async fn fetch(&self, address: &str, under_way: &UnderWay<'_>) -> Result<Option<Vec<u8>>, Trouble> {
        let mut address: Uri = address.parse().map_err(|error| Trouble::File(format!("{error}")))?;
        for _ in 0..=REDIRECTIONS {
            let answer = self.get(&address).await?;
            match answer.status() {
                StatusCode::OK => return self.body(answer, under_way).await.map(Some),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
                status if status.is_redirection() => {
                    let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
                    address = place.and_then(|place| redirected(&address, place)).ok_or_else(|| {
                        Trouble::File("it leads to another address that is not followed".to_owned())
                    })?;
                }
                status => return Err(Trouble::File(format!("the answer is {status}"))),
            }
        }
        Err(Trouble::File(format!("it leads to another address more than {REDIRECTIONS} times")))
    }

    async fn get(&self, address: &Uri) -> Result<Response<Incoming>, Trouble> {
        let request = Request::get(address)
            .header(header::USER_AGENT, concat!("pepo/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| Trouble::File(error.to_string()))?;
        let http = self.http.get_or_init(http).as_ref();
        let http = http.map_err(|error| Trouble::Silent(error.to_string()))?;
        match timeout(self.limits.stall, http.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Trouble::Silent(causes(&error))),
            Err(_) => Err(Trouble::Silent(format!(
                "it does not answer within {} s (DEBUGINFOD_TIMEOUT)",
                self.limits.stall.as_secs()
            ))),
        }
    }

    async fn body(&self, answer: Response<Incoming>, under_way: &UnderWay<'_>) -> Result<Vec<u8>, Trouble> {
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let whole: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let most = self.limits.bytes;
        let too_large = || Trouble::File(format!("it is larger than {} (DEBUGINFOD_MAXSIZE)", mib(most)));
        if whole.is_some_and(|whole| whole > most) {
            return Err(too_large());
        }
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            let piece = async {
                while bytes.len() - before < PIECE {
                    let Some(frame) = body.frame().await else { return Ok(false) };
                    let frame =
                        frame.map_err(|error| Trouble::File(format!("it breaks off: {}", causes(&error))))?;
                    if let Ok(data) = frame.into_data() {
                        bytes.extend_from_slice(&data);
                    }
                    if bytes.len() as u64 > most {
                        return Err(too_large());
                    }
                    under_way.tell(bytes.len() as u64, whole);
                }
                Ok(true)
            };
            match timeout(self.limits.stall, piece).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(bytes),
                Ok(Err(trouble)) => return Err(trouble),
                Err(_) => {
                    let limit = self.limits.stall.as_secs();
                    return Err(Trouble::Silent(format!(
                        "less than 100 KiB come within {limit} s (DEBUGINFOD_TIMEOUT)"
                    )));
                }
            }
        }
    }

    fn place(&self, build_id: &str) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join(build_id).join("debuginfo"))
    }

    /// What the cache has. An empty file stands for one that no server had at the time.
    async fn cached(&self, build_id: &str) -> Cached {
        let Some(path) = self.place(build_id) else { return Cached::Unknown };
        let Ok(there) = tokio::fs::metadata(&path).await else { return Cached::Unknown };
        if !there.is_file() || there.len() > self.limits.bytes {
            return Cached::Unknown;
        }
        if there.len() == 0 {
            let age = there.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            return if age < self.miss().await { Cached::Missing } else { Cached::Unknown };
        }
        match tokio::fs::read(&path).await {
            Ok(bytes) if is_build(&bytes, build_id) => Cached::File(bytes),
            _ => Cached::Unknown,
        }
    }

    async fn miss(&self) -> Duration {
        let Some(cache) = &self.cache else { return MISS };
        let text = tokio::fs::read_to_string(cache.join("cache_miss_s")).await.unwrap_or_default();
        text.trim().parse().map_or(MISS, Duration::from_secs)
    }

    /// Keeps what came; empty, that nothing did. Without a cache it is fetched again another time.
    fn keep(&self, build_id: &str, bytes: &[u8]) {
        let Some(path) = self.place(build_id) else { return };
        if let Err(error) = put(&path, bytes) {
            let note = format!("debuginfod: nothing is kept: {}: {error}", path.display());
            lock(&self.said).notes.insert(note);
        }
    }
}

/// A file that is being fetched, until it is dropped.
struct UnderWay<'a> {
    servers: &'a Debuginfod,
    name: &'a str,
}

impl<'a> UnderWay<'a> {
    fn begin(servers: &'a Debuginfod, name: &'a str) -> UnderWay<'a> {
        let under_way = UnderWay { servers, name };
        under_way.tell(0, None);
        under_way
    }

    fn tell(&self, come: u64, whole: Option<u64>) {
        lock(&self.servers.said).under_way.insert(self.name.to_owned(), (come, whole));
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.servers.said).under_way.remove(self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a file into its place, whole or not at all. The folders are the user's alone.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut private = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
    private.recursive(true).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// The address of a server, without user, password and the slash at its end.
fn server(word: &str) -> Option<String> {
    let address: Uri = word.parse().ok()?;
    let is_http = matches!(address.scheme_str(), Some("http" | "https"));
    let is_plain = address.query().is_none() && !address.authority()?.as_str().contains('@');
    (is_http && is_plain).then(|| word.trim_end_matches('/').to_owned())
}

/// Where an answer leads; nothing where one would not go: to what is no http, or from TLS to what is none.
fn redirected(from: &Uri, place: &str) -> Option<Uri> {
    let place = if place.starts_with('/') && !place.starts_with("//") {
        format!("{}://{}{place}", from.scheme_str()?, from.authority()?)
    } else {
        place.to_owned()
    };
    let to: Uri = place.parse().ok()?;
    match (from.scheme_str()?, to.scheme_str()?) {
        (_, "https") | ("http", "http") => Some(to),
        _ => None,
    }
}

/// Is it an ELF file with this build id?
fn is_build(bytes: &[u8], build_id: &str) -> bool {
    let file = object::File::parse(bytes).ok();
    let id = file.as_ref().and_then(|file| file.build_id().ok().flatten());
    id.is_some_and(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == build_id)
}

/// A client that trusts the authorities that this system trusts. A system without any still has servers without TLS.
fn http() -> Result<Http, rustls::Error> {
    let provider = Arc::new(default_provider());
    let trust = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = match trust.clone().with_native_roots() {
        Ok(trusting) => trusting,
        Err(_) => trust.with_root_certificates(RootCertStore::empty()),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// An error with what led to it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
