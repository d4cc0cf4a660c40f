//! Pepo's main job on real, shell-less containers in three languages, on a machine that had no engine: each command is shown
//! with `$` and run. Ends with a picture of it all.
//!
//! `demo [--picture FILE]`
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use pepo_testkit::{
    Fixture, Image, Language, Life as _, Variant,
    clean::Snapshot,
    engine::{Container, Docker, Engine, RunOptions},
    fixtures, http_get, pepo,
};
use pepo_trials::picture;

/// The shop's port inside each container.
const PORT: &str = "8080";
/// What three of a thing cost, with and without the demo's hand in it.
const USUAL: &str = "\"price\": 54}";
const CHANGED: &str = "\"price\": 30}";

fn main() -> Result<()> {
    let picture = arguments()?;
    let begun = Instant::now();
    let mut stage = Stage::set()?;
    stage.remark("three shops, one in each of three languages, in containers without a shell: user 65534, read-only, no capability");
    let shops: Vec<_> = [Language::Go, Language::Python, Language::C]
        .into_iter()
        .map(|language| stage.open_shop(language))
        .collect();
    stage.pepo(&["ps"])?;
    let mut first_visit = 0;
    for shop in &shops {
        stage.visit(shop)?;
        first_visit = if first_visit == 0 { stage.lines.len() } else { first_visit };
    }
    let end = stage.lines.len();
    stage.pepo(&["ps"])?;
    let still = stage.still;
    stage.remark(&format!("nothing is left behind; the three services stood still for {still} ms in all"));
    drop(shops);
    fs::create_dir_all(picture.parent().unwrap_or(Path::new(".")))?;
    // The other two visits are like the first.
    let shown: Vec<_> = stage.lines[..first_visit].iter().chain(&stage.lines[end..]).cloned().collect();
    fs::write(&picture, picture::svg(&shown))?;
    println!("\n# done in {:.0?}; to look at: {}", begun.elapsed(), picture.display());
    Ok(())
}

fn arguments() -> Result<PathBuf> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(PathBuf::from("target/demo/pepo.svg")),
        ["--picture", file] => Ok(PathBuf::from(file)),
        other => bail!("unknown arguments {other:?}; `demo [--picture FILE]`"),
    }
}

/// A service in a container.
struct Shop {
    fixture: Fixture,
    container: Container,
}

/// The engine, and all that was shown.
struct Stage {
    engine: Engine,
    run: tempfile::TempDir,
    lines: Vec<String>,
    /// Milliseconds that services stood still, by Pepo's own account.
    still: u64,
}

impl Stage {
    fn set() -> Result<Stage> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the demo starts a container engine of its own, which needs root: `sudo -E cargo xtask demo`"
        );
        println!("# a Docker engine of its own, with its socket and state in a temporary folder");
        Ok(Stage { engine: Docker::start(), run: tempfile::tempdir()?, lines: Vec::new(), still: 0 })
    }

    fn say(&mut self, line: &str) {
        println!("{line}");
        self.lines.push(line.to_owned());
    }

    fn remark(&mut self, text: &str) {
        self.say("");
        self.say(&format!("# {text}"));
    }

    fn open_shop(&mut self, language: Language) -> Shop {
        let fixture = fixtures::shop(language, Variant::debug());
        let name = format!("shop-{}", fixture.source.extension().unwrap_or_default().to_string_lossy());
        let image = Image::of(&fixture).named(&format!("{name}:1.4"));
        let container = self.engine.run(&image, &RunOptions::restricted(&name).args(&[PORT]));
        container.wait_for_line("listening", Duration::from_secs(20));
        Shop { fixture, container }
    }

    /// Runs a command of Pepo's and shows it with all that it says.
    fn pepo(&mut self, arguments: &[&str]) -> Result<String> {
        let shown: Vec<_> = arguments
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        self.say("");
        self.say(&format!("$ pepo {}", shown.join(" ")));
        let output = pepo_testkit::command(pepo())
            .args(arguments)
            .env("DOCKER_HOST", self.engine.address())
            .env("PEPO_RUN", self.run.path().join("run"))
            .env("NO_COLOR", "1")
            .current_dir(self.sources())
            .stdin(Stdio::null())
            .output()
            .context("pepo does not start")?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.lines().for_each(|line| self.say(line));
        ensure!(output.status.success(), "pepo {} ended with {}", shown.join(" "), output.status);
        Ok(text)
    }

    fn sources(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/shop")
    }

    /// Looks at a shop, stops it in the middle of a request, changes a variable, and lets it go.
    fn visit(&mut self, shop: &Shop) -> Result<()> {
        let pid = shop.container.pid();
        let before = Snapshot::take(pid).and_containers_of(&self.engine);
        let name = shop.container.name().to_owned();
        let target = format!("docker/{name}");
        self.remark(&format!("{name}: three of a thing cost {}", http_get(pid, PORT, "/price/3").trim()));
        self.pepo(&["check", &target])?;
        let line = format!("break {}:{}", shop.fixture.source_name(), shop.fixture.line("BREAK"));
        let customer = Customer::comes(pid);
        let text = self.pepo(&[
            "attach",
            &target,
            "-ex",
            &line,
            "-ex",
            "continue",
            "-ex",
            "bt",
            "-ex",
            "locals",
            "-ex",
            "set discount = 50",
            "-ex",
            "detach",
        ])?;
        let answers = customer.leaves();
        self.still += stood_still(&text);
        let (usual, changed) = (count(&answers, USUAL), count(&answers, CHANGED));
        ensure!(changed == 1, "the changed variable is seen in one answer, not {changed}: {answers:?}");
        ensure!(usual + changed == answers.len(), "some answers are neither: {answers:?}");
        self.remark(&format!(
            "{name}: one customer paid 30, the {usual} before and after paid 54; all were served"
        ));
        before.assert_same();
        Ok(())
    }
}

fn count(answers: &[String], part: &str) -> usize {
    answers.iter().filter(|answer| answer.replace(":", ": ").replace(":  ", ": ").contains(part)).count()
}

/// The number in `stood still 38 ms in all`.
fn stood_still(text: &str) -> u64 {
    let words: Vec<&str> = text
        .lines()
        .rev()
        .find(|line| line.contains("in all"))
        .map(|line| line.split_whitespace().collect())
        .unwrap_or_default();
    let at = words.iter().position(|word| *word == "still");
    let number = at.and_then(|at| words.get(at + 1)?.parse::<f64>().ok()).unwrap_or(0.0);
    let seconds = at.and_then(|at| words.get(at + 2)).is_some_and(|unit| unit.starts_with('s'));
    (if seconds { number * 1000.0 } else { number }) as u64
}

/// Somebody who asks again and again, until told to leave.
struct Customer {
    stays: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<String>>>,
    visit: std::thread::JoinHandle<()>,
}

impl Customer {
    fn comes(pid: u32) -> Customer {
        let (stays, answers) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (stay, note) = (Arc::clone(&stays), Arc::clone(&answers));
        let visit = std::thread::spawn(move || {
            while stay.load(Ordering::Relaxed) {
                let answer = http_get(pid, PORT, "/price/3");
                note.lock().expect("noting cannot panic").push(answer.trim().to_owned());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Customer { stays, answers, visit }
    }

    fn leaves(self) -> Vec<String> {
        // One more answer after the debugger has gone.
        std::thread::sleep(Duration::from_millis(300));
        self.stays.store(false, Ordering::Relaxed);
        let _ = self.visit.join();
        std::mem::take(&mut *self.answers.lock().expect("noting cannot panic"))
    }
}
