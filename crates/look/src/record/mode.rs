//! What samples can be of, and of which programs.

use pepo_process::runtime::Language;
use pepo_wire::{Code, Failure};

/// What samples are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Time that threads run.
    Cpu,
    /// Time, whatever threads do.
    Wall,
    /// Time that threads wait.
    OffCpu,
    /// Memory that is allocated.
    Alloc,
    /// Time that threads wait for locks.
    Lock,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 5] = [Mode::Cpu, Mode::Wall, Mode::OffCpu, Mode::Alloc, Mode::Lock];

    /// Its name on the wire, and as an option of a command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Cpu => "cpu",
            Mode::Wall => "wall",
            Mode::OffCpu => "off-cpu",
            Mode::Alloc => "alloc",
            Mode::Lock => "lock",
        }
    }

    /// Those that there are for programs of a language, whose own frames are sampled or not.
    #[must_use]
    pub fn of(language: Language) -> &'static [Mode] {
        match language {
            Language::Jvm => &[Mode::Cpu, Mode::Wall, Mode::Alloc, Mode::Lock],
            Language::Node => &[Mode::Cpu, Mode::Wall],
            // What waits is a goroutine, which no thread stands for.
            Language::Go => &[Mode::Cpu],
            _ => &[Mode::Cpu, Mode::Wall, Mode::OffCpu],
        }
    }

    /// Does each sample weigh something other than the time between two?
    pub(crate) fn is_weighed(self) -> bool {
        matches!(self, Mode::Alloc | Mode::Lock)
    }

    /// The mode that is asked for, if any.
    ///
    /// # Errors
    /// There is none of this name, or not for this language; those that there are are named.
    pub(super) fn asked(name: &str, language: Language) -> Result<Option<Mode>, Failure> {
        if name.is_empty() {
            return Ok(None);
        }
        let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == name) else {
            return Err(Failure::new(Code::Usage, format!("samples of `{name}` are not known")));
        };
        let offered = Mode::of(language);
        if offered.contains(&mode) {
            return Ok(Some(mode));
        }
        let options: Vec<String> = offered.iter().map(|mode| format!("`--{}`", mode.name())).collect();
        Err(Failure::new(Code::NotOffered, format!("`--{name}` is not there for {}", language.name()))
            .because(format!("for {} there is {}", language.name(), options.join(", ")))
            .hint("the table of docs/look.md says which samples there are of which programs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the documentation.
    #[test]
    fn the_page_tells_what_there_is() {
        let page = include_str!("../../../../docs/look.md");
        for (name, language) in [
            ("C, C++, Rust", Language::Native),
            ("Go", Language::Go),
            ("Python", Language::Python),
            ("Java", Language::Jvm),
            ("Node", Language::Node),
            ("Ruby", Language::Ruby),
            ("others", Language::Php),
        ] {
            let told = |mode: &Mode| if Mode::of(language).contains(mode) { " yes |" } else { " |" };
            let row = format!("| {name} |{}\n", Mode::ALL.iter().map(told).collect::<String>());
            assert!(page.contains(&row), "{row}");
        }
    }
}
