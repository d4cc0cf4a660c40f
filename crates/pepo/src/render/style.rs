//! Colours: few, by meaning, and never the only carrier of a meaning.

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Headings and asides.
    Faint,
    /// What matters most in a line.
    Strong,
    /// It works.
    Good,
    /// It works with less, or with a danger.
    Warning,
    /// It does not work.
    Bad,
    /// What the user can type.
    Command,
}

/// Paints or leaves alone, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// Never a colour.
    pub(crate) const NEVER: Paint = Paint(false);

    /// The text between the sequences of its style (ECMA-48, "select graphic rendition").
    pub(crate) fn over(self, style: Style, text: &str) -> String {
        let sequence = match style {
            Style::Plain => return text.to_owned(),
            Style::Faint => "2",
            Style::Strong => "1",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "1;31",
            Style::Command => "36",
        };
        if self.0 && !text.is_empty() { format!("\x1b[{sequence}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
