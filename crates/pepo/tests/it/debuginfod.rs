//! Debug files from servers, and those that are at hand: a stripped program is named by them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use pepo_capture::debug_file_of;
use pepo_testkit::{
    Fixture, Language, Life as _, Running, Symbols, Variant, command, fixtures, spawn_command, wait,
};
use rustix::process::Signal;

use crate::{
    profiles::{LIMIT, Recording, hot, name},
    support::Surroundings,
    terminal::Terminal,
};

/// What a server answers.
#[derive(Clone)]
enum Answer {
    /// This file, whatever is asked for.
    File(Vec<u8>),
    /// The same, as soon as the test says so.
    Later(Vec<u8>, Arc<AtomicBool>),
    /// The same, half of it.
    Half(Vec<u8>),
    /// Nothing there.
    NotFound,
    /// It cannot.
    Broken,
    /// It says nothing at all.
    Silence,
    /// It says that more follows than anybody wants.
    Endless,
    /// Another address.
    Elsewhere(String),
}

/// A server of ours on the loopback, for as long as the test runs.
struct Server {
    address: String,
    /// The paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: Answer) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let paths = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, paths) = (answer.clone(), Arc::clone(&paths));
                thread::spawn(move || serve(stream.unwrap(), &answer, &paths));
            }
        });
        Server { address, asked }
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, paths: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    paths.lock().unwrap().push(first.split(' ').nth(1).unwrap().to_owned());
    lines.by_ref().find(|line| line.as_ref().map_or(true, String::is_empty));
    let mut says = |head: &str, body: &[u8], length: usize| {
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    match answer {
        Answer::File(bytes) => says("200 OK", bytes, bytes.len()),
        Answer::Later(bytes, now) => {
            wait::until("the test lets it", LIMIT, || {
                now.load(Ordering::SeqCst).then_some(()).ok_or("not yet")
            });
            says("200 OK", bytes, bytes.len());
        }
        Answer::Half(bytes) => says("200 OK", &bytes[..bytes.len() / 2], bytes.len()),
        Answer::NotFound => says("404 Not Found", b"no", 2),
        Answer::Broken => says("500 Internal Server Error", b"no", 2),
        Answer::Endless => says("200 OK", b"\x7fELF", 1 << 40),
        Answer::Elsewhere(address) => {
            says(&format!("302 Found\r\nLocation: {address}{}", first.split(' ').nth(1).unwrap()), b"", 0);
        }
        // It is held until whoever asked has gone.
        Answer::Silence => drop(lines.next()),
    }
}

/// A stripped program at work, whose debug file is with whoever starts it alone; `burn` was compiled into its functions.
struct Stripped {
    fixture: Fixture,
    target: Running,
    debug: Vec<u8>,
    id: String,
}

impl Stripped {
    fn start() -> Stripped {
        let (fixture, target) = hot(Language::C, Symbols::Split, "steady");
        target.wait_started();
        let debug = fs::read(fixture.debug_file.as_ref().unwrap()).unwrap();
        let id = debug_file_of(&debug).build_id;
        Stripped { fixture, target, debug, id }
    }

    /// Its stack, with what the command said.
    fn stack(&self, surroundings: &Surroundings, more: &[&str]) -> String {
        let run = surroundings.run(&[&["stack", &name(&self.target)], more].concat()).ok();
        format!("{}{}", run.stdout, run.stderr)
    }

    /// How often a server was asked for the program's own debug file; libraries have files of their own.
    fn asked(&self, server: &Server) -> usize {
        let path = format!("/buildid/{}/debuginfo", self.id);
        server.asked.lock().unwrap().iter().filter(|asked| **asked == path).count()
    }

    fn cached(&self, surroundings: &Surroundings) -> Option<Vec<u8>> {
        let cache = surroundings.path("home").join(".cache/debuginfod_client");
        fs::read(cache.join(&self.id).join("debuginfo")).ok()
    }
}

/// Surroundings with these servers.
fn with(servers: &[&Server]) -> Surroundings {
    let urls = servers.iter().map(|one| one.address.as_str()).collect::<Vec<_>>().join(" ");
    Surroundings::new().with("DEBUGINFOD_URLS", urls)
}

/// By a thread that waits: it is read from memory, where one that runs must first be held, which a busy machine may not grant in time.
fn is_named(said: &str) -> bool {
    said.contains("beat_for_ever") && said.contains("hot.c:")
}

#[test]
fn a_stripped_program_is_named_by_a_server_once_and_by_the_cache_thereafter() {
    let program = Stripped::start();
    let nobody = Server::start(Answer::NotFound);
    let leads = Server::start(Answer::File(program.debug.clone()));
    let server = Server::start(Answer::Elsewhere(leads.address.clone()));
    let surroundings = with(&[&nobody, &server]);
    let said = program.stack(&surroundings, &[]);
    assert!(is_named(&said), "{said}");
    assert!(said.contains(&format!("debuginfod: 1 debug file (0.0 MiB) from {}", server.address)), "{said}");
    let times = || [&nobody, &server, &leads].map(|one| program.asked(one));
    assert_eq!(times(), [1, 1, 1]);
    assert_eq!(program.cached(&surroundings).as_ref(), Some(&program.debug));
    let said = program.stack(&surroundings, &[]);
    assert!(is_named(&said) && !said.contains("debug file ("), "{said}");
    assert_eq!(times(), [1, 1, 1]);
    // What the cache has is believed no more than a server.
    let place = surroundings.path("home/.cache/debuginfod_client").join(&program.id).join("debuginfo");
    fs::write(&place, &program.debug[..program.debug.len() / 3]).unwrap();
    assert!(is_named(&program.stack(&surroundings, &[])));
    assert_eq!(times(), [2, 2, 2]);
    program.target.assert_goes_on();
}

#[test]
fn without_the_variable_no_server_is_asked_and_nothing_is_kept() {
    let program = Stripped::start();
    let surroundings = Surroundings::new();
    let said = program.stack(&surroundings, &[]);
    assert!(!is_named(&said) && !said.contains("debuginfod"), "{said}");
    assert!(!surroundings.path("home/.cache").exists());
    // Nor is one asked for what is at hand.
    let server = Server::start(Answer::File(program.debug.clone()));
    let folder = program.fixture.debug_file.as_ref().unwrap().parent().unwrap().to_str().unwrap().to_owned();
    let said = program.stack(&with(&[&server]), &["--symbols", &folder]);
    assert!(is_named(&said), "{said}");
    assert_eq!(program.asked(&server), 0);
}

#[test]
fn what_no_server_has_is_remembered_for_a_while() {
    let program = Stripped::start();
    let server = Server::start(Answer::NotFound);
    let surroundings = with(&[&server]);
    let said = program.stack(&surroundings, &[]);
    assert!(!is_named(&said) && said.contains("debuginfod: no server has the debug file of "), "{said}");
    assert_eq!(program.cached(&surroundings), Some(Vec::new()));
    let said = program.stack(&surroundings, &[]);
    assert!(!said.contains("debuginfod"), "{said}");
    assert_eq!(program.asked(&server), 1);
    fs::write(surroundings.path("home/.cache/debuginfod_client/cache_miss_s"), "0").unwrap();
    program.stack(&surroundings, &[]);
    assert_eq!(program.asked(&server), 2);
}

#[test]
fn a_server_that_gives_nothing_good_is_told_once_and_the_next_is_asked() {
    let program = Stripped::start();
    let good = Server::start(Answer::File(program.debug.clone()));
    let other = fs::read(fixtures::c(Variant::debug()).path).unwrap();
    let away = "https://127.0.0.1:1".to_owned();
    for (answer, why) in [
        (Answer::Half(program.debug.clone()), "it breaks off"),
        (Answer::File(b"\x7fELF and then nothing that is one".repeat(999)), "is no debug file of this build"),
        (Answer::File(other), "is no debug file of this build"),
        (Answer::Broken, "the answer is 500"),
        (Answer::Endless, "it is larger than 512.0 MiB (DEBUGINFOD_MAXSIZE)"),
        (Answer::Elsewhere("file:///etc".to_owned()), "leads to another address that is not followed"),
        (Answer::Elsewhere(away), "is not asked again: "),
        (Answer::Silence, "is not asked again: it does not answer within 1 s (DEBUGINFOD_TIMEOUT)"),
    ] {
        let bad = Server::start(answer);
        let alone = with(&[&bad]).with("DEBUGINFOD_TIMEOUT", "1");
        let said = program.stack(&alone, &[]);
        assert!(!is_named(&said) && said.matches(why).count() == 1, "{why}: {said}");
        assert_eq!(program.cached(&alone), None, "{why}");
        let said = program.stack(&with(&[&bad, &good]).with("DEBUGINFOD_TIMEOUT", "1"), &[]);
        assert!(is_named(&said) && said.contains(why), "{why}: {said}");
    }
    let far = Surroundings::new()
        .with("DEBUGINFOD_URLS", "ftp://host http://me:word@host ima:enforcing http://host");
    let said = program.stack(&far, &[]);
    assert!(
        said.contains("is not of the kind") && said.contains("ima:enforcing") && !said.contains("word"),
        "{said}"
    );
    program.target.assert_goes_on();
}

/// A server by TLS that is not ours, with a certificate that only whoever names it trusts: `openssl s_server`, which gives out files.
#[test]
fn a_server_by_tls_is_trusted_when_its_authority_is_named() {
    let program = Stripped::start();
    let surroundings = Surroundings::new();
    let folder = surroundings.path("server");
    let build = folder.join("buildid").join(&program.id);
    fs::create_dir_all(&build).unwrap();
    fs::write(build.join("debuginfo"), &program.debug).unwrap();
    let openssl = |words: &str| {
        let mut openssl = command("openssl");
        openssl.args(words.split(' ')).current_dir(&folder);
        openssl
    };
    let made = openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=pepo \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
    );
    let made = { made }.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = spawn_command(&mut openssl("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem -WWW"));
    let mut port = String::new();
    wait::until("it listens", LIMIT, || {
        let output = server.output();
        let line = output.lines().find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:").map(str::to_owned));
        port = line.ok_or(output)?;
        Ok::<(), String>(())
    });
    let with = |surroundings: Surroundings| {
        surroundings.with("DEBUGINFOD_URLS", format!("https://127.0.0.1:{port}"))
    };
    let stranger = with(Surroundings::new());
    let said = program.stack(&stranger, &[]);
    assert!(!is_named(&said) && said.contains("certificate"), "{said}");
    assert_eq!(program.cached(&stranger), None);
    let certificate = folder.join("cert.pem").display().to_string();
    let said = program.stack(&with(Surroundings::new()).with("SSL_CERT_FILE", certificate), &[]);
    assert!(is_named(&said) && said.contains("debuginfod: 1 debug file"), "{said}");
}

#[test]
fn a_server_that_is_silent_is_waited_for_until_ctrl_c() {
    let program = Stripped::start();
    let server = Server::start(Answer::Silence);
    let surroundings = with(&[&server]);
    let mut recording = Recording::begin(&surroundings, &[&name(&program.target), "-d", "1", "-o", "a.json"]);
    wait::until("it is asked", LIMIT, || {
        (program.asked(&server) > 0).then_some(()).ok_or_else(|| server.asked.lock().unwrap().join(" "))
    });
    recording.signal(Signal::INT);
    // The first may come while samples are still taken, and ends that alone.
    wait::until("its end", LIMIT, || {
        recording.signal(Signal::INT);
        recording.has_ended().then_some(()).ok_or("it goes on")
    });
    let run = recording.end().ok();
    assert!(run.stderr.contains("names were not all looked up: interrupted"), "{run:?}");
}

#[test]
fn profiles_are_named_by_servers_with_what_was_compiled_into_others() {
    let program = Stripped::start();
    let server = Server::start(Answer::File(program.debug.clone()));
    let surroundings = with(&[&server]);
    let run = surroundings.run(&["record", &name(&program.target), "-d", "1", "-o", "a.folded"]).ok();
    let text = fs::read_to_string(surroundings.path("a.folded")).unwrap();
    assert!(text.contains("work;hot;burn "), "{text}");
    assert!(run.stderr.contains("debuginfod: 1 debug file"), "{run:?}");
    let by_line = ["top", &name(&program.target), "--once", "--by", "line", "-o", "json"];
    let data = surroundings.run(&by_line).ok().json();
    let rows = data["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["place"].as_str().unwrap().contains("hot.c:")), "{data}");
    assert_eq!(program.asked(&server), 1);
    program.target.assert_goes_on();
}

#[test]
fn a_live_table_goes_on_while_names_are_on_their_way_and_shows_them_when_they_come() {
    let program = Stripped::start();
    let now = Arc::new(AtomicBool::new(false));
    let server = Server::start(Answer::Later(program.debug.clone(), Arc::clone(&now)));
    let surroundings = with(&[&server]);
    let line = ["top", &name(&program.target), "--interval", "200ms"];
    let mut terminal = Terminal::run(&surroundings, &line);
    wait::until("that it is fetched", LIMIT, || {
        let lines = terminal.screen().join("\n");
        (lines.contains("debuginfod: ") && lines.contains("[hot]")).then_some(()).ok_or(lines)
    });
    now.store(true, Ordering::SeqCst);
    wait::until("names", LIMIT, || {
        let lines = terminal.screen().join("\n");
        (lines.contains("burn") && !lines.contains("[hot]")).then_some(()).ok_or(lines)
    });
    terminal.types("q");
    assert_eq!(terminal.status(), Some(0));
}

/// As gdb finds them: by build id or by name in a folder of the user's, whatever else is in it, or beside the program in the target.
#[test]
fn a_debug_file_is_found_by_its_build_or_its_name_and_another_never_taken() {
    let program = Stripped::start();
    let surroundings = Surroundings::new();
    let name = program.fixture.debug_file.as_ref().unwrap().file_name().unwrap().to_str().unwrap();
    let wrong = fixtures::cpp(Variant::debug());
    for (file, bytes, shown) in [
        (format!(".build-id/{}/{}.debug", &program.id[..2], &program.id[2..]), &program.debug, true),
        (name.to_owned(), &program.debug, true),
        ("deep/down/whatever".to_owned(), &program.debug, true),
        (name.to_owned(), &fs::read(wrong.path).unwrap(), false),
        (name.to_owned(), &b"\x7fELF no more".to_vec(), false),
    ] {
        let folder = surroundings.path("symbols");
        let place = folder.join(&file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
        let said = program.stack(&surroundings, &["--symbols", "symbols"]);
        assert_eq!(is_named(&said), shown, "{file}: {said}");
        fs::remove_dir_all(folder).unwrap();
    }
    let run = surroundings.run(&["stack", &format!("pid/{}", program.target.pid()), "--symbols", "nowhere"]);
    assert!(run.fails(2).stderr.contains("nowhere cannot be used for --symbols"));
}

#[test]
fn a_debug_file_beside_the_program_in_the_target_is_found() {
    let program = Stripped::start();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("hot");
    fs::copy(&program.fixture.path, &copy).unwrap();
    let mut command = std::process::Command::new(&copy);
    let target = spawn_command(command.arg("steady"));
    target.wait_started();
    let surroundings = Surroundings::new();
    let stack = || surroundings.run(&["stack", &name(&target)]).ok().stdout;
    assert!(!is_named(&stack()));
    let link = program.fixture.debug_file.as_ref().unwrap().file_name().unwrap();
    fs::create_dir(folder.path().join(".debug")).unwrap();
    fs::write(folder.path().join(".debug").join(link), &program.debug).unwrap();
    let text = stack();
    assert!(is_named(&text), "{text}");
}
