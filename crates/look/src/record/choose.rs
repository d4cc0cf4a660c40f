//! Which sampler a recording gets: the gentlest that works and shows the program's own frames, or the one that was asked for.

use pepo_process::{
    Process,
    runtime::{self, Language, RuntimeFacts},
};
use pepo_wire::{Code, Failure, agent::StartLook};

use super::{
    HIGHEST_RATE, Sampler, USUAL_RATE,
    flight::Flights,
    held::Held,
    java::Javas,
    mode::Mode,
    node::Nodes,
    perf::Perf,
    python::{Program, Pythons},
};
use crate::jvm::both;

/// A sampler, and what is lost by it, in words.
pub(super) type Chosen<'a> = (Box<dyn Sampler + 'a>, Vec<String>);

/// Names of samplers.
const SAMPLERS: [&str; 8] = ["", "perf", "hold", "python", "ruby", "node", "async-profiler", "jfr"];

/// What is asked.
struct Asked<'a, 'b> {
    process: &'a Process,
    facts: RuntimeFacts,
    request: &'b StartLook,
    rate: u32,
    mode: Option<Mode>,
}

/// The gentlest sampler that works here, or the one that was asked for.
pub(super) fn choose<'a>(process: &'a Process, request: &StartLook) -> Result<Chosen<'a>, Failure> {
    let rate = if request.rate == 0 { USUAL_RATE } else { request.rate };
    if rate > HIGHEST_RATE {
        return Err(Failure::new(
            Code::TooLarge,
            format!("{rate} samples a second are more than {HIGHEST_RATE}"),
        )
        .hint("99 is right for most; 999 shows what is short, at a cost"));
    }
    let sampler = request.sampler.as_str();
    if !SAMPLERS.contains(&sampler) {
        return Err(Failure::new(Code::Usage, format!("no sampler is called `{sampler}`")));
    }
    if request.mode.is_empty() && (sampler == "perf" || sampler == "hold" && !request.native) {
        return native(process, rate, sampler, None);
    }
    let facts = runtime::detect(process);
    let mode = Mode::asked(&request.mode, facts.language)?;
    let asked = Asked { process, facts, request, rate, mode };
    match (sampler, asked.facts.language) {
        ("node", _) | ("", Language::Node) if !request.native => asked.node(),
        ("jfr", _) if !request.native => asked.flight(),
        ("async-profiler", _) | ("", Language::Jvm) if !request.native => asked.java(),
        _ => asked.python(),
    }
}

impl<'a> Asked<'a, '_> {
    fn node(&self) -> Result<Chosen<'a>, Failure> {
        let idle = self.request.idle || self.mode == Some(Mode::Wall);
        match Nodes::open(self.process, self.rate, idle) {
            Ok((nodes, notes)) => Ok((Box::new(nodes), notes)),
            Err(why) => self.native_instead("JavaScript", &why.0),
        }
    }

    fn java(&self) -> Result<Chosen<'a>, Failure> {
        let mode = self.mode.unwrap_or(Mode::Cpu);
        match Javas::open(self.process, &self.facts, self.rate, mode) {
            Ok((javas, notes)) => Ok((Box::new(javas), notes)),
            Err(why) if self.request.sampler.is_empty() && mode != Mode::Wall => {
                match Flights::open(self.process, &self.facts, self.rate, mode) {
                    Ok((flights, mut notes)) => {
                        notes.insert(
                            0,
                            format!("by the JVM's own recorder (JFR), for no async-profiler: {why}"),
                        );
                        Ok((Box::new(flights), notes))
                    }
                    Err(no) => self.native_instead("Java", &both(&why, &no)),
                }
            }
            Err(why) => self.native_instead("Java", &why.to_string()),
        }
    }

    fn flight(&self) -> Result<Chosen<'a>, Failure> {
        let mode = self.mode.unwrap_or(Mode::Cpu);
        if !matches!(mode, Mode::Cpu | Mode::Alloc | Mode::Lock) {
            let what = format!("JFR is not asked for samples of `--{}`", mode.name());
            return Err(
                Failure::new(Code::NotOffered, what).hint("without `--sampler`, async-profiler takes them")
            );
        }
        match Flights::open(self.process, &self.facts, self.rate, mode) {
            Ok((flights, notes)) => Ok((Box::new(flights), notes)),
            Err(why) => self.native_instead("Java", &why.to_string()),
        }
    }

    fn python(&self) -> Result<Chosen<'a>, Failure> {
        let runs_python = self.facts.language == Language::Python;
        let (is_ruby, sampler) = (self.facts.language == Language::Ruby, self.request.sampler.as_str());
        let name = if is_ruby || sampler == "ruby" { "Ruby" } else { "Python" };
        let is_of_running = matches!(self.mode, None | Some(Mode::Cpu));
        if self.request.native && runs_python && is_of_running {
            let program = Program::open(self.process, &self.facts).ok();
            let held = Held::open(self.process, self.rate, program, Mode::Cpu)?;
            return Ok((Box::new(held), Vec::new()));
        }
        if !self.request.native && matches!(sampler, "" | "python" | "ruby") {
            let usual = if self.request.idle { Mode::Wall } else { Mode::Cpu };
            let mode = self.mode.unwrap_or(usual);
            match Pythons::open(self.process, &self.facts, self.rate, mode, self.request) {
                Ok(python) => return Ok((Box::new(python), Vec::new())),
                Err(why) if self.request.idle || self.request.lock_holder => {
                    return Err(Failure::new(
                        Code::NotOffered,
                        format!("no frames of {name} can be sampled"),
                    )
                    .because(why.0)
                    .hint("native frames can: without `--sampler`, `--idle` and `--gil`"));
                }
                Err(why) if runs_python || is_ruby || !sampler.is_empty() => {
                    return self.native_instead(name, &why.0);
                }
                Err(_) => {}
            }
        }
        native(self.process, self.rate, &self.request.sampler, self.mode)
    }

    /// Native frames, when nothing else was asked for.
    fn native_instead(&self, language: &str, why: &str) -> Result<Chosen<'a>, Failure> {
        let is_more = !matches!(self.mode, None | Some(Mode::Cpu));
        if !self.request.sampler.is_empty() || is_more {
            let hint = match is_more {
                true => format!("native frames can, without `--{}`", self.request.mode),
                false => "native frames can: `--sampler perf`".to_owned(),
            };
            let what = format!("no frames of {language} can be sampled");
            return Err(Failure::new(Code::NotOffered, what).because(why).hint(hint));
        }
        let (chosen, mut notes) = native(self.process, self.rate, "", None)?;
        notes.push(format!("native frames only: {why}"));
        Ok((chosen, notes))
    }
}

/// The kernel's timer, or else threads that are held; threads that wait are read.
fn native<'a>(
    process: &'a Process,
    rate: u32,
    sampler: &str,
    mode: Option<Mode>,
) -> Result<Chosen<'a>, Failure> {
    let mode = mode.unwrap_or(Mode::Cpu);
    let hold =
        || -> Result<Box<dyn Sampler + 'a>, Failure> { Ok(Box::new(Held::open(process, rate, None, mode)?)) };
    let is_of_time = matches!(mode, Mode::Wall | Mode::OffCpu);
    if is_of_time && sampler != "perf" {
        return Ok((hold()?, Vec::new()));
    }
    if mode != Mode::Cpu {
        return Err(Failure::new(
            Code::NotOffered,
            format!("native frames are not sampled with `--{}` so", mode.name()),
        )
        .hint("without `--native` and `--sampler`"));
    }
    if sampler == "hold" {
        return Ok((hold()?, Vec::new()));
    }
    match Perf::open(process, rate) {
        Ok((perf, notes)) => Ok((Box::new(perf), notes)),
        Err(failure) if sampler == "perf" || failure.code() == Code::ProcessGone => Err(failure),
        Err(failure) => {
            let note = format!("threads are held for each sample: {failure}");
            Ok((hold()?, vec![note]))
        }
    }
}
