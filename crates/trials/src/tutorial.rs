//! `docs/tutorial.md` as a person follows it: its manifest is applied and its commands are run, on a real cluster. What the commands say
//! is compared with the page, or written into it.
//!
//! Before each block of commands stands `<!-- says: WORD, … -->`: words that page and answer must have. Besides, the first lines are
//! equal but for numbers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use pepo_platform::HELPER_IMAGE;
use pepo_testkit::{
    Image, Language, Variant, fixtures,
    kubernetes::{Cluster, Namespace},
    pepo,
};

const FENCE: &str = "```console\n";
const SAYS: &str = "<!-- says: ";

/// The page, in parts: text, and commands with what they say.
#[derive(Clone, Debug)]
pub struct Page {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Command(Step),
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// As it is typed.
    pub command: String,
    /// What it says, by the page.
    pub answer: String,
    /// Words that are in the answer.
    pub words: Vec<String>,
}

impl Page {
    /// Where it stands.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorial.md")
    }

    /// Reads it.
    ///
    /// # Errors
    /// A block of commands is not one command, or has no words.
    pub fn read(text: &str) -> Result<Page> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, block)) = rest.split_once(FENCE) {
            let (block, after) = block.split_once("```\n").context("a block of commands has no end")?;
            let (command, answer) = block.split_once('\n').context("a block of commands is empty")?;
            let command = command.strip_prefix("$ ").context("a block of commands begins with `$ `")?;
            let words = before.rsplit_once(SAYS).and_then(|(_, words)| words.split_once(" -->"));
            let (words, between) = words.with_context(|| format!("`{command}` has no words before it"))?;
            ensure!(between.trim().is_empty(), "`{command}` has no words right before it");
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Command(Step {
                command: command.to_owned(),
                answer: answer.to_owned(),
                words: words.split(", ").map(str::to_owned).collect(),
            }));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Page { parts })
    }

    /// The page's own manifest.
    fn manifest(&self) -> Option<&str> {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Command(_) => None,
        });
        texts.filter_map(|text| Some(text.split_once("```yaml\n")?.1.split_once("```")?.0)).next()
    }

    /// Runs it all, in this namespace of this cluster; `each` is told of a command before it is run, and of its answer.
    ///
    /// # Errors
    /// Of the first command that fails or says something else than the page; with `anew` than its words.
    pub fn follow(&mut self, place: &Place<'_>, anew: bool, each: &mut dyn FnMut(&str)) -> Result<()> {
        fs::write(
            place.folder.path().join("bad-app.yaml"),
            self.manifest().context("the page has no manifest")?,
        )?;
        for part in &mut self.parts {
            let Part::Command(step) = part else { continue };
            each(&format!("$ {}", step.command));
            let answer = place.run(&step.command)?;
            each(&answer);
            step.judge(&answer, anew)?;
            step.answer = answer;
        }
        Ok(())
    }

    /// As it is written.
    pub fn text(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Command(Step { command, answer, .. }) => format!("{FENCE}$ {command}\n{answer}```\n"),
        };
        self.parts.iter().map(part).collect()
    }
}

impl Step {
    /// Is the answer as the page says?
    fn judge(&self, answer: &str, anew: bool) -> Result<()> {
        let missing = |text: &str| self.words.iter().find(|word| !text.contains(word.as_str())).cloned();
        if let Some(word) = missing(answer) {
            anyhow::bail!("`{}` does not say `{word}`, but:\n{answer}", self.command);
        }
        if anew {
            return Ok(());
        }
        if let Some(word) = missing(&self.answer) {
            anyhow::bail!("the page does not say `{word}` of `{}`; {ANEW}", self.command);
        }
        let (told, said) = (first_shape(&self.answer), first_shape(answer));
        ensure!(told == said, "`{}` begins with\n{said}\nand by the page with\n{told}\n{ANEW}", self.command);
        Ok(())
    }
}

/// What the page calls the namespace.
const NAMESPACE: &str = "shop";
const ANEW: &str = "`cargo xtask demo --kubernetes --write` writes it anew";

/// The words of the first line, without numbers and their units.
fn first_shape(text: &str) -> String {
    const UNITS: [&str; 6] = ["µs", "ms", "s", "m", "h", "d"];
    let line = text.lines().next().unwrap_or_default();
    let words = line.split_whitespace();
    let kept =
        words.filter(|word| !UNITS.contains(word) && !word.contains(|letter: char| letter.is_ascii_digit()));
    kept.collect::<Vec<_>>().join(" ")
}

/// A namespace that is `restricted`, with the images on its nodes, and a person's surroundings.
pub struct Place<'c> {
    namespace: Namespace<'c>,
    folder: tempfile::TempDir,
}

impl<'c> Place<'c> {
    /// Makes them.
    ///
    /// # Errors
    /// If the cluster does not take them.
    pub fn make(cluster: &'c Cluster) -> Result<Place<'c>> {
        let app = fixtures::build(Language::Python, "badapp", Variant::debug());
        cluster.import(&Image::usual(&app).named("pepo.test/bad-app:1"))?;
        cluster.import(&Image::new(HELPER_IMAGE).file(&pepo(), "/pepo"))?;
        let place = Place { namespace: cluster.namespace("restricted")?, folder: tempfile::tempdir()? };
        let folder = place.folder.path();
        std::os::unix::fs::symlink(pepo(), folder.join("pepo"))?;
        std::os::unix::fs::symlink(cluster.kubectl_command().get_program(), folder.join("kubectl"))?;
        fs::copy(cluster.kubeconfig(), folder.join("kubeconfig"))?;
        let namespace = format!("--namespace={}", place.namespace.name());
        place.run(&format!("kubectl config set-context --current {namespace}"))?;
        Ok(place)
    }

    /// Runs a command as a person does, and gives what it says.
    fn run(&self, command: &str) -> Result<String> {
        let folder = self.folder.path();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let output = pepo_testkit::command("sh")
            .args(["-c", command])
            .env("PATH", path)
            .env("HOME", folder)
            .env("KUBECONFIG", folder.join("kubeconfig"))
            .env("PEPO_RUN", folder.join("run"))
            .env("NO_COLOR", "1")
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .context("sh does not start")?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{command}` ended with {}:\n{said}", output.status);
        let said = said.replace(self.namespace.name(), NAMESPACE);
        let trimmed = said.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        Ok(trimmed + "\n")
    }

    /// Nothing of the helpers is in a log, and the pod's container never ended.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn left_well(&self) -> Result<()> {
        let pod = self.namespace.object("pod", "bad-app")?;
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        ensure!(restarts == 0, "the container was restarted: {restarts}");
        for helper in pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten() {
            let name = helper["name"].as_str().unwrap_or_default();
            let log = self.namespace.kubectl(&["logs", "bad-app", "--container", name])?;
            ensure!(log.is_empty(), "the log of {name}: {log}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_written_alike_and_its_steps_are_known() {
        let text = fs::read_to_string(Page::path()).unwrap();
        let page = Page::read(&text).unwrap();
        assert_eq!(page.text(), text);
        assert!(page.manifest().unwrap().contains("kind: Pod"));
        assert!(page.parts.iter().filter(|part| matches!(part, Part::Command(_))).count() > 6);
        assert!(Page::read("```console\n$ pepo ps\n```\n").is_err());
        assert!(Page::read("<!-- says: a -->\n```console\npepo ps\n```\n").is_err());
    }

    #[test]
    fn an_answer_is_judged_by_its_words_and_its_first_line() {
        let step = |answer: &str| Step {
            command: "pepo stack x".to_owned(),
            answer: answer.to_owned(),
            words: vec!["hash".to_owned()],
        };
        let told = step("x · python 3.12.4 · pid 1 · read in 31 ms\nhash\n");
        told.judge("x · python 3.11.2 · pid 17 ·  read in 1 m 6.5 s\nhash\n", false).unwrap();
        assert!(told.judge("x · python 3.11.2 · pid 17 · read in 6.5 ms\nmix\n", false).is_err());
        assert!(told.judge("y · python 3.11.2 · pid 17 · read in 6.5 ms\nhash\n", false).is_err());
        assert!(step("nothing\n").judge("nothing, hash\n", false).is_err());
        step("").judge("whatever, hash\n", true).unwrap();
    }

    /// On the cluster that tests share.
    mod kubernetes {
        use super::*;

        #[test]
        fn the_tutorial_is_followed_step_by_step_and_says_what_is_said() {
            let place = Place::make(Cluster::shared()).unwrap();
            let mut page = Page::read(&fs::read_to_string(Page::path()).unwrap()).unwrap();
            page.follow(&place, false, &mut |_| {}).unwrap();
            place.left_well().unwrap();
        }
    }
}
