//! The adapters' attach: bare, and through Pepo, guarded and not.

use std::time::Duration;

use anyhow::Result;
use pepo_trials::{
    cells::{By, Cell, DEBUGGERS, Death, Load},
    measure::{self, Times, Way, median},
};

/// Attaching: bare adapter, Pepo guarded and not, in turns so that a busy moment hits all alike.
pub(crate) async fn run(rounds: usize) -> Result<String> {
    let mut out = String::from(include_str!("attach.md"));
    for debugger in DEBUGGERS {
        let ways: &[Way] = if debugger == "python" {
            &[Way::Bare, Way::Guarded]
        } else {
            &[Way::Bare, Way::Unguarded, Way::BareStub, Way::Guarded]
        };
        let fixture = Cell { debugger, by: By::Bare, load: Load::Hot, death: Death::Cut }.fixture();
        let mut all: Vec<Vec<Times>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for (way, times) in ways.iter().zip(&mut all) {
                times.push(with_patience(debugger, *way, &fixture).await?);
            }
        }
        for (way, times) in ways.iter().zip(&all) {
            let without = way.without_pepo(debugger);
            let bare = ways.iter().position(|one| *one == without).and_then(|at| all.get(at));
            out += &row(debugger, *way, median(times), bare.map(|bare| median(bare)));
        }
    }
    Ok(out)
}

/// lldb fails now and then to attach on a loaded machine, with or without Pepo: such a round is taken again.
async fn with_patience(debugger: &str, way: Way, fixture: &pepo_testkit::Fixture) -> Result<Times> {
    let mut last = anyhow::anyhow!("not tried");
    for _ in 0..8 {
        match measure::attach(debugger, way, fixture).await {
            Ok(times) => return Ok(times),
            Err(error) => last = error,
        }
    }
    Err(last.context(format!("{debugger}, {way:?}")))
}

fn row(debugger: &str, way: Way, times: Times, bare: Option<Times>) -> String {
    let name = match (debugger, way) {
        ("python", Way::Bare) => "debugpy `--pid`",
        ("python", _) => "Pepo",
        (_, Way::Bare) => "bare adapter",
        (_, Way::BareStub) => "bare adapter over a bare stub",
        (_, Way::Guarded) => "Pepo",
        (_, Way::Unguarded) => "Pepo, `--guard=off`",
    };
    let bare = bare.filter(|_| matches!(way, Way::Guarded | Way::Unguarded));
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let cell = |step: fn(&Times) -> Duration| {
        let ratio = bare.map(|bare| step(&times).as_secs_f64() / step(&bare).as_secs_f64().max(1e-9));
        let ratio = ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
        format!("{:.2} ms{ratio}", millis(step(&times)))
    };
    let cost = bare.map(|bare| format!("{:+.2} ms", millis(times.round_trip) - millis(bare.round_trip)));
    format!(
        "| {debugger} | {name} | {} | {} | {} | {} | {} |\n",
        cell(|times| times.ready),
        cell(|times| times.first_stop),
        cell(|times| times.round_trip),
        cost.unwrap_or_default(),
        cell(|times| times.detach),
    )
}
