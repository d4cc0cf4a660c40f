//! The bytes of one archive, wherever they are: with retries, resumed where they broke off, within the limits.

use std::{
    fs::File,
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ring::digest::{self, SHA256};

use super::{
    http::{self, Answer, Trouble, Wish},
    proxy::Proxies,
    tls::Tls,
    url::{Place, Source, Url},
};
use crate::{
    exit::{Exit, Fault},
    tell,
};

/// So often is a server asked without getting any further.
const ATTEMPTS: u32 = 5;
/// The first pause between two attempts; each one is twice as long as that before.
const PAUSE: Duration = Duration::from_millis(500);
/// As many redirects are followed.
const REDIRECTS: usize = 10;

/// How many bytes were read by now, for whoever does not read them.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    /// So many.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was wrong with the bytes of an archive, kept where the one who reads through decoders finds it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Option<Fault>>>);

impl Trace {
    /// Notes a fault, if it is the first.
    fn note(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    /// What was noted.
    pub(crate) fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The bytes of an archive, counted and summed.
pub(crate) struct Fetched {
    bytes: Box<dyn Read + Send>,
    sum: digest::Context,
    count: Count,
    most: u64,
    source: String,
    trace: Trace,
}

/// Opens a source; at most `most` bytes until `end`.
pub(crate) fn open(source: &Source, most: u64, end: Instant) -> Result<Fetched, Fault> {
    let trace = Trace::default();
    let bytes: Box<dyn Read + Send> = match &source.place {
        Place::File(path) => Box::new(File::open(path).map_err(|error| {
            let exit = if error.kind() == io::ErrorKind::PermissionDenied {
                Exit::Permission
            } else {
                Exit::Unreachable
            };
            Fault::new(exit, format!("fstree: cannot open {}: {error}", path.display()))
                .next("a file: URL names a file in the image or in a volume")
        })?),
        Place::Web(url) => Box::new(Download::start(url, end, trace.clone())?),
    };
    let sum = digest::Context::new(&SHA256);
    Ok(Fetched { bytes, sum, count: Count::default(), most, source: source.to_string(), trace })
}

impl Fetched {
    /// Bytes that are here already.
    pub(crate) fn of(bytes: Vec<u8>) -> Fetched {
        Fetched {
            bytes: Box::new(io::Cursor::new(bytes)),
            sum: digest::Context::new(&SHA256),
            count: Count::default(),
            most: u64::MAX,
            source: "bytes".to_owned(),
            trace: Trace::default(),
        }
    }

    /// Where a fault is noted.
    pub(crate) fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// How many bytes were read.
    pub(crate) fn count(&self) -> Count {
        self.count.clone()
    }

    /// The SHA-256 of all that was read.
    pub(crate) fn sum(&self) -> [u8; 32] {
        let mut sum = [0; 32];
        sum.copy_from_slice(self.sum.clone().finish().as_ref());
        sum
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.sum.update(&buffer[..count]);
        if self.count.0.fetch_add(count as u64, Ordering::Relaxed) + count as u64 > self.most {
            let fault =
                Fault::new(Exit::Limit, format!("fstree: {} has more than {} bytes", self.source, self.most));
            return Err(noted(&self.trace, fault.next("fstree-limit=SIZE allows more")));
        }
        Ok(count)
    }
}

/// Notes a fault, and gives an error for the decoders in between.
fn noted(trace: &Trace, fault: Fault) -> io::Error {
    let error = io::Error::other(fault.to_string());
    trace.note(fault);
    error
}

/// A download that goes on after breaks.
struct Download {
    url: Url,
    proxies: Proxies,
    tls: Tls,
    end: Instant,
    answer: Answer,
    /// So many bytes were given.
    at: u64,
    /// What proves that the rest belongs to them: an entity tag or a date.
    still: Option<String>,
    /// Where a fault is noted.
    trace: Trace,
    /// Attempts since there was progress.
    attempts: u32,
}

impl Download {
    fn start(url: &Url, end: Instant, trace: Trace) -> Result<Download, Fault> {
        let variable = |name: &str| std::env::var(name).ok();
        let proxies =
            Proxies::read(variable).map_err(|what| Fault::new(Exit::Usage, format!("fstree: {what}")))?;
        let tls = Tls::default();
        let mut attempts = 0;
        let answer = loop {
            match ask(url, &Wish::default(), &proxies, &tls, end) {
                Ok(answer) => break answer,
                Err(failed) => pause(url, &failed, &mut attempts, end)?,
            }
        };
        let tag = answer.header("etag").filter(|tag| !tag.starts_with("W/"));
        let still = tag.or_else(|| answer.header("last-modified")).map(str::to_owned);
        Ok(Download { url: url.clone(), proxies, tls, end, answer, at: 0, still, trace, attempts: 0 })
    }

    /// Asks for what is left.
    fn resume(&mut self, why: &str) -> Result<(), Fault> {
        let mut failed = Failed {
            what: format!("fetching {} broke off after {} bytes: {why}", self.url, self.at),
            again: true,
            exit: Exit::Unreachable,
            next: None,
        };
        loop {
            pause(&self.url, &failed, &mut self.attempts, self.end)?;
            let wish = Wish { from: self.at, still: self.still.clone() };
            match ask(&self.url, &wish, &self.proxies, &self.tls, self.end) {
                Ok(answer) => match self.continued(answer) {
                    Ok(()) => return Ok(()),
                    Err(other) => failed = other,
                },
                Err(other) => failed = other,
            }
        }
    }

    /// Takes an answer that must go on where the last one ended: the rest, or the whole again.
    fn continued(&mut self, mut answer: Answer) -> Result<(), Failed> {
        let changed =
            || Failed::last(Exit::Unreachable, format!("{} was changed while it was fetched", self.url));
        if answer.status == 206 {
            let range = answer.header("content-range").and_then(|range| range.strip_prefix("bytes "));
            let from = range
                .and_then(|range| range.split('-').next())
                .and_then(|from| from.trim().parse::<u64>().ok());
            if from != Some(self.at) {
                return Err(changed());
            }
        } else {
            let tag = answer.header("etag").or_else(|| answer.header("last-modified"));
            if self.still.is_some() && tag != self.still.as_deref() {
                return Err(changed());
            }
            let skipped = io::copy(&mut (&mut answer.body).take(self.at), &mut io::sink());
            if skipped.ok() != Some(self.at) {
                return Err(Failed {
                    what: format!("{} broke off again", self.url),
                    again: true,
                    exit: Exit::Unreachable,
                    next: None,
                });
            }
        }
        self.answer = answer;
        Ok(())
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if Instant::now() >= self.end {
                return Err(noted(&self.trace, late(&self.url)));
            }
            match self.answer.body.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    self.attempts = if count > 0 { 0 } else { self.attempts };
                    return Ok(count);
                }
                Err(error) => self.resume(&error.to_string()).map_err(|fault| noted(&self.trace, fault))?,
            }
        }
    }
}

fn late(url: &Url) -> Fault {
    Fault::new(Exit::Limit, format!("fstree: fetching {url} took too long"))
        .next("fstree-time=1h allows more")
}

/// An attempt that failed.
struct Failed {
    what: String,
    /// Whether another one may help.
    again: bool,
    exit: Exit,
    next: Option<String>,
}

impl Failed {
    fn last(exit: Exit, what: String) -> Failed {
        Failed { what, again: false, exit, next: None }
    }

    fn fault(&self) -> Fault {
        let next = self.next.as_deref().unwrap_or("fstree-optional starts the program without it");
        Fault::new(self.exit, format!("fstree: {}", self.what)).next(next)
    }
}

/// Waits before the next attempt, unless there is to be none.
fn pause(url: &Url, failed: &Failed, attempts: &mut u32, end: Instant) -> Result<(), Fault> {
    if Instant::now() >= end {
        return Err(late(url));
    }
    *attempts += 1;
    let wait = PAUSE * 2_u32.pow(*attempts - 1);
    if !failed.again || *attempts >= ATTEMPTS || Instant::now() + wait >= end {
        return Err(failed.fault());
    }
    tell::line(format!("fstree: {}; trying again in {:.1} s", failed.what, wait.as_secs_f32()));
    thread::sleep(wait);
    Ok(())
}

/// Asks, follows redirects, and takes only an answer that has the file.
fn ask(url: &Url, wish: &Wish, proxies: &Proxies, tls: &Tls, end: Instant) -> Result<Answer, Failed> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS {
        let answer = http::get(&url, wish, proxies, tls, end).map_err(|trouble| broken(&url, &trouble))?;
        match answer.status {
            200 | 206 => return Ok(answer),
            301 | 302 | 303 | 307 | 308 => {
                let location = answer
                    .header("location")
                    .ok_or_else(|| Failed::last(Exit::Unreachable, format!("{url} redirects to nowhere")))?;
                let next = url
                    .join(location)
                    .map_err(|what| Failed::last(Exit::Unreachable, format!("{url} redirects: {what}")))?;
                if url.tls && !next.tls {
                    return Err(Failed::last(
                        Exit::Unreachable,
                        format!("{url} redirects to {next}, which is not safe"),
                    ));
                }
                url = next;
            }
            status => return Err(refused(&url, status, wish)),
        }
    }
    Err(Failed::last(Exit::Unreachable, format!("{url}: more than {REDIRECTS} redirects")))
}

fn broken(url: &Url, trouble: &Trouble) -> Failed {
    let what = format!("cannot fetch {url}: {trouble}");
    let next = match trouble {
        Trouble::Plain(_) => {
            Some("if it speaks plain HTTP, write http:// (and #sha256=SUM to know what came)")
        }
        Trouble::Untrusted(_) => Some("SSL_CERT_FILE=/path/to/roots.pem names roots of your own"),
        Trouble::Proxy(_) | Trouble::NoProxy(_) => Some("no_proxy=HOST reaches a host without the proxy"),
        Trouble::Lost(_) => Some("is it there for this container? localhost is the container itself"),
        Trouble::Nonsense(_) | Trouble::Setting(_) => None,
    };
    let exit = if matches!(trouble, Trouble::Setting(_)) { Exit::Usage } else { Exit::Unreachable };
    Failed {
        what,
        again: matches!(trouble, Trouble::Lost(_) | Trouble::NoProxy(_)),
        exit,
        next: next.map(str::to_owned),
    }
}

fn refused(url: &Url, status: u16, wish: &Wish) -> Failed {
    let meaning = match status {
        401 | 403 => " (not allowed)",
        404 | 410 => " (not there)",
        416 if wish.from > 0 => " (it became shorter)",
        429 => " (too many requests)",
        500..=599 => " (the server failed)",
        _ => "",
    };
    let again = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
    let exit = if matches!(status, 401 | 403 | 407) { Exit::Permission } else { Exit::Unreachable };
    let next = match status {
        401 | 403 => Some("a login stands in the URL: https://user:password@host/…".to_owned()),
        _ => Some(format!("curl -I {url}")),
    };
    Failed { what: format!("cannot fetch {url}: status {status}{meaning}"), again, exit, next }
}
