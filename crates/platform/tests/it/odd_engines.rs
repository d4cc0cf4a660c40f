//! Engines that answer oddly, played by a few lines over a unix socket.

use std::{path::PathBuf, time::Duration};

use pepo_platform::{Environment, Options, Platforms, ReachPolicy};
use pepo_wire::Code;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

/// What an engine says to a path; nothing at all: it never answers.
type Script = fn(&str) -> Option<(u16, String)>;

/// An engine at a socket of its own; it plays until the test ends.
struct Odd {
    folder: tempfile::TempDir,
    policy: ReachPolicy,
}

impl Odd {
    fn playing(script: Script) -> Odd {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream, script));
            }
        });
        Odd { folder, policy: ReachPolicy::Auto }
    }

    fn platforms(&self) -> Platforms {
        let address = format!("unix://{}", self.folder.path().join("engine.sock").display());
        let nowhere: PathBuf = self.folder.path().join("nowhere");
        let environment = Environment::of(&nowhere, [("DOCKER_HOST", &address)]);
        Platforms::find(&Options { environment, policy: self.policy, ..Options::usual(None) })
    }

    async fn list_fails(&self) -> (Code, String) {
        let listing = self.platforms().list_all().await;
        let [(_, failure)] = listing.failed.as_slice() else { panic!("{listing:?}") };
        (failure.code(), failure.to_string())
    }
}

/// Answers each request of one connection.
async fn play(stream: UnixStream, script: Script) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut line = String::from("x");
        while !line.trim().is_empty() {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let Some((status, body)) = script(path) else { return std::future::pending().await };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn version(kernel: &str) -> (u16, String) {
    (200, format!(r#"{{"ApiVersion":"1.41","KernelVersion":"{kernel}","Arch":"amd64"}}"#))
}

/// A desktop's engine: its socket is here, its kernel is not. This test's own process plays the victim.
fn desktop(path: &str) -> Option<(u16, String)> {
    let pid = std::process::id();
    Some(match path {
        "/version" => version("0.0.0-linuxkit"),
        _ if path.contains("/containers/json") => {
            (200, r#"[{"Id":"abc123","Names":["/shop"],"State":"running"}]"#.to_owned())
        }
        _ if path.contains("/containers/shop/json") || path.contains("/containers/abc123/json") => {
            (200, format!(r#"{{"Id":"abc123","Name":"/shop","State":{{"Status":"running","Pid":{pid}}}}}"#))
        }
        _ => (404, r#"{"message":"no such thing"}"#.to_owned()),
    })
}

#[tokio::test]
async fn process_ids_of_an_engine_on_another_kernel_are_never_used_here() {
    let mut odd = Odd::playing(desktop);
    odd.policy = ReachPolicy::InProcess;
    let platforms = odd.platforms();
    assert_eq!(platforms.list_all().await.listed[0].pid, None);
    let found = platforms.locate(&"docker/shop".parse().unwrap()).await.unwrap();
    assert_eq!(found.located.pid, None);
    let failure = found.reach().await.unwrap_err();
    assert_eq!(failure.code(), Code::PidNotProven);
    assert!(failure.to_string().contains("does not run on this kernel"), "{failure}");
}

#[tokio::test]
async fn a_helper_that_is_refused_says_so_in_the_engines_words() {
    let odd = Odd::playing(desktop);
    let found = odd.platforms().locate(&"docker/shop".parse().unwrap()).await.unwrap();
    let failure = found.reach().await.unwrap_err();
    assert_eq!(failure.code(), Code::AgentNotStarted);
    assert!(failure.to_string().contains("no such thing"), "{failure}");
}

#[tokio::test]
async fn an_engine_that_answers_nonsense_is_quoted() {
    let (code, words) = Odd::playing(|_| Some((200, "<html>".to_owned()))).list_fails().await;
    assert_eq!(code, Code::EngineRefused, "{words}");
    let (code, words) =
        Odd::playing(|_| Some((500, r#"{"message":"out of cheese"}"#.to_owned()))).list_fails().await;
    assert_eq!(code, Code::EngineRefused);
    assert!(words.contains("out of cheese") && words.contains("500"), "{words}");
    let (code, words) =
        Odd::playing(|_| Some((200, r#"{"ApiVersion":"one"}"#.to_owned()))).list_fails().await;
    assert_eq!(code, Code::EngineRefused, "{words}");
    assert!(words.contains("`one`"), "{words}");
}

#[tokio::test]
async fn an_engine_that_never_answers_is_left_after_ten_seconds() {
    let odd = Odd::playing(|_| None);
    let answer = tokio::time::timeout(Duration::from_secs(60), odd.list_fails());
    let (code, words) = answer.await.expect("the engine is left");
    assert_eq!(code, Code::TimedOut);
    assert!(words.contains("engine.sock") && words.contains("10 s"), "{words}");
}
