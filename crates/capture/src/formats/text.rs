//! Text inside XML and JSON inside HTML: whatever a target calls its functions, it stays text.

use std::fmt::Write as _;

/// Text as XML (and HTML) shows it; characters that XML does not have become U+FFFD.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that cannot end the element of HTML it stands in.
pub(super) fn json_in_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// What stands between the two.
pub(super) fn within<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    text.split_once(start)?.1.split_once(end).map(|(within, _)| within)
}

/// The first characters of a text, and an ellipsis when there are more.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// A weight in words: time where it is time, memory where it is memory, else a number.
pub(super) fn weight(weight: u64, unit: crate::Unit) -> String {
    match unit {
        crate::Unit::Samples => format!("{weight} samples"),
        crate::Unit::Bytes if weight >= 1 << 30 => format!("{:.2} GiB", weight as f64 / f64::from(1 << 30)),
        crate::Unit::Bytes => format!("{:.2} MiB", weight as f64 / f64::from(1 << 20)),
        _ if weight >= 1_000_000_000 => format!("{:.2} s", weight as f64 / 1e9),
        _ => format!("{:.1} ms", weight as f64 / 1e6),
    }
}

/// A part in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_leave_its_place() {
        let name = "</script><script>alert('x')\u{1b}[31m&\"";
        let shown = xml(name);
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{1b}']), "{shown}");
        let json = json_in_html(&serde_json::to_string(name).unwrap());
        assert!(!json.contains(['<', '>']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), name);
    }
}
