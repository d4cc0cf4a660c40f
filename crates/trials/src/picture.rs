//! Draws what a terminal showed as an SVG file: text stays text, and looks alike everywhere.

use std::fmt::Write as _;

/// Size of a character cell in SVG units, for 14-unit monospaced type.
const CELL: (f64, f64) = (8.43, 19.0);
const MARGIN: f64 = 18.0;

/// The picture of these lines. A line that begins with `$ ` is a command, one that begins with `# ` is a remark.
#[must_use]
pub fn svg(lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).max(40);
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * CELL.1 + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1c2026\"/>\n"
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + (row as f64 + 0.75) * CELL.1;
        let (colour, weight) = style(line);
        let length = line.chars().count() as f64 * CELL.0;
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{y:.1}\" fill=\"{colour}\" font-weight=\"{weight}\" textLength=\"{length:.1}\" \
             lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\">{}</text>",
            escaped(line)
        );
    }
    out + "</svg>\n"
}

fn style(line: &str) -> (&'static str, &'static str) {
    match line {
        _ if line.starts_with("$ ") => ("#f2c14e", "bold"),
        _ if line.starts_with("# ") => ("#7bd88f", "normal"),
        _ if line.starts_with("(pepo) ") => ("#78c5ef", "normal"),
        _ => ("#d7dde5", "normal"),
    }
}

fn escaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_is_escaped() {
        let picture = svg(&["$ pepo ps".into(), "a < b & c\u{1b}[0m".into()]);
        assert!(picture.contains(">$ pepo ps</text>"));
        assert!(picture.contains("a &lt; b &amp; c [0m"));
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }
}
