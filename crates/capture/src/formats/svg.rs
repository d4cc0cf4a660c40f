//! A flame graph as a picture: it can be searched and zoomed, needs nothing from outside, and whatever a target calls its functions
//! stays text.

use std::fmt::Write as _;

use super::{
    FormatError, packed,
    text::{percent, shortened, weight, within, xml},
};
use crate::{Capture, Diff, Kind, Node, Tree, Unit};

/// Pixels: of the whole width, of a frame's height, of what stands above and below, of a character.
const WIDTH: f64 = 1200.0;
const FRAME: usize = 17;
const ABOVE: usize = 62;
const BELOW: usize = 26;
const CHARACTER: f64 = 7.25;
/// Narrower frames are not drawn, in pixels.
const NARROWEST: f64 = 0.25;
/// The most levels that are drawn.
const DEEPEST: usize = 1000;

const SCRIPT: &str = include_str!("flame.js");
const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#111}\
.t{font-size:16px}.m{fill:#555}.b{cursor:pointer;fill:#06c}.f{cursor:pointer}.f text{pointer-events:none}\
.f:hover rect{stroke:#000}.faded{opacity:.45}.hit rect{fill:#c2f}";

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let picture = Picture {
        tree: &Tree::of(capture, false),
        title: "Flame graph".to_owned(),
        words: vec![capture.summary(), capture.meta.notes.join(" · ")],
        unit: capture.meta.unit,
        wholes: None,
        held: Some(packed::to_text(capture)),
    };
    picture.draw().into_bytes()
}

pub(super) fn write_diff(diff: &Diff) -> Vec<u8> {
    let root = diff.tree.nodes.first().cloned().unwrap_or_default();
    let picture = Picture {
        tree: &diff.tree,
        title: "Difference: red has grown, blue has shrunk; widths are those after".to_owned(),
        words: vec![format!("before: {}", diff.before), format!("after: {}", diff.after)],
        unit: Unit::Samples,
        wholes: Some((root.before, root.total)),
        held: None,
    };
    picture.draw().into_bytes()
}

/// The capture that a picture holds.
pub(super) fn read(text: &str) -> Result<Capture, FormatError> {
    within(text, HELD, "</metadata>").map_or(Err(FormatError::Drawn), packed::from_text)
}

/// What stands before the capture in the picture that was drawn from it.
const HELD: &str = "<metadata id=\"pepo-capture\">";

struct Picture<'a> {
    tree: &'a Tree,
    title: String,
    words: Vec<String>,
    unit: Unit,
    /// The weights of both captures, where there are two.
    wholes: Option<(u64, u64)>,
    /// The capture, to be read again.
    held: Option<String>,
}

/// A node at its place: left edge and width in pixels, level from the root.
struct Placed {
    node: usize,
    left: f64,
    width: f64,
    level: usize,
}

impl Picture<'_> {
    fn draw(&self) -> String {
        let (placed, cut) = self.place();
        let levels = placed.iter().map(|one| one.level + 1).max().unwrap_or(1);
        let height = ABOVE + levels * FRAME + BELOW;
        let mut svg = String::with_capacity(placed.len() * 200);
        let _ = write!(
            svg,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text class=\"t\" x=\"10\" y=\"22\">{}</text>\n\
             <text class=\"b\" id=\"reset\" x=\"{}\" y=\"22\" visibility=\"hidden\">Reset zoom</text>\n\
             <text class=\"b\" id=\"search\" x=\"{}\" y=\"22\">Search</text>\n",
            xml(&self.title),
            WIDTH - 190.0,
            WIDTH - 70.0,
        );
        for (line, words) in self.words.iter().filter(|words| !words.is_empty()).take(2).enumerate() {
            let (y, shown) = (40 + line * 15, xml(&shortened(words, 160)));
            let _ = writeln!(
                svg,
                "<text class=\"m\" x=\"10\" y=\"{y}\"><title>{}</title>{shown}</text>",
                xml(words)
            );
        }
        let remark = if cut { format!("levels above {DEEPEST} are not drawn") } else { String::new() };
        let _ = writeln!(
            svg,
            "<text id=\"told\" x=\"10\" y=\"{}\">{remark}</text>\n<g id=\"frames\">",
            height - 9
        );
        for one in &placed {
            self.frame(&mut svg, one, height);
        }
        svg.push_str("</g>\n");
        if let Some(held) = &self.held {
            let _ = writeln!(svg, "{HELD}{held}</metadata>");
        }
        let _ = write!(svg, "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>\n");
        svg
    }

    /// The nodes wide enough to be seen; and whether some were too deep.
    fn place(&self) -> (Vec<Placed>, bool) {
        let (nodes, mut cut) = (&self.tree.nodes, false);
        let mut placed = Vec::new();
        let whole = nodes.first().map_or(0, |root| root.total).max(1) as f64;
        let mut waiting: Vec<(usize, f64, usize)> = nodes.iter().take(1).map(|_| (0, 0.0, 0)).collect();
        while let Some((node, left, level)) = waiting.pop() {
            let width = nodes[node].total as f64 / whole * (WIDTH - 20.0);
            if node > 0 && width < NARROWEST {
                continue;
            }
            if level >= DEEPEST {
                cut = true;
                continue;
            }
            placed.push(Placed { node, left: left + if node == 0 { 10.0 } else { 0.0 }, width, level });
            let mut at = placed.last().map_or(0.0, |one| one.left);
            for child in &nodes[node].children {
                waiting.push((*child, at, level + 1));
                at += nodes[*child].total as f64 / whole * (WIDTH - 20.0);
            }
        }
        placed.sort_by(|a, b| {
            (a.level, a.left).partial_cmp(&(b.level, b.left)).unwrap_or(std::cmp::Ordering::Equal)
        });
        (placed, cut)
    }

    fn frame(&self, svg: &mut String, placed: &Placed, height: usize) {
        let node = &self.tree.nodes[placed.node];
        let name = self.tree.name_of(node);
        let (Placed { left, width, .. }, y) = (placed, height - BELOW - (placed.level + 1) * FRAME);
        let label = xml(&name.label);
        let characters = ((width - 6.0) / CHARACTER).max(0.0) as usize;
        let shown = if characters < 3 { String::new() } else { xml(&shortened(&name.label, characters)) };
        let _ = writeln!(
            svg,
            "<g class=\"f\" data-n=\"{label}\"><title>{label}{}</title>\
             <rect x=\"{left:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" rx=\"1\" fill=\"{}\"/>\
             <text x=\"{:.2}\" y=\"{}\">{shown}</text></g>",
            xml(&self.told(node)),
            FRAME - 1,
            self.color(node),
            left + 3.0,
            y + 12,
        );
    }

    /// What a frame says of itself when it is pointed at.
    fn told(&self, node: &Node) -> String {
        let name = self.tree.name_of(node);
        let module = if name.module.is_empty() { String::new() } else { format!(" in {}", name.module) };
        match self.wholes {
            Some((before, after)) => {
                let (before, after) = (percent(node.before, before), percent(node.total, after));
                format!("{module}: {before:.2} % before, {after:.2} % after ({:+.2})", after - before)
            }
            None => {
                let whole = self.tree.nodes[0].total;
                let (total, own) = (percent(node.total, whole), percent(node.own, whole));
                format!("{module}: {}, {total:.2} %, of its own {own:.2} %", weight(node.total, self.unit))
            }
        }
    }

    fn color(&self, node: &Node) -> String {
        if let Some((before, after)) = self.wholes {
            let grown = percent(node.total, after) - percent(node.before, before);
            // Ten points of a hundred are as red, or as blue, as it gets.
            let pale = (255.0 - (grown.abs() / 10.0).min(1.0) * 160.0) as u8;
            return match grown {
                grown if grown.abs() < 0.05 => "#eeeeee".to_owned(),
                grown if grown > 0.0 => format!("#ff{pale:02x}{pale:02x}"),
                _ => format!("#{pale:02x}{pale:02x}ff"),
            };
        }
        let name = self.tree.name_of(node);
        let hash = name
            .module
            .bytes()
            .chain(name.label.bytes())
            .fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        let (part, tone) = (hash % 40, hash / 64 % 16);
        match name.kind {
            Kind::Native => format!("hsl({},85%,{}%)", 18 + part, 62 + tone / 2),
            Kind::Kernel => format!("hsl({},60%,{}%)", 200 + part / 2, 68 + tone / 2),
            Kind::Managed => format!("hsl({},55%,{}%)", 95 + part, 62 + tone / 2),
            Kind::Remark => "hsl(0,0%,86%)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{By, formats::tests::example};

    /// What an XML parser of others' finds: the names in the titles.
    fn titles(svg: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.svg");
        std::fs::write(&file, svg).unwrap();
        let code = "import sys, xml.dom.minidom as m\n\
                    for g in m.parse(sys.argv[1]).getElementsByTagName('title'): print(g.firstChild.data)";
        let output = pepo_testkit::command("python3").args(["-c", code]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_function_is_a_frame_that_says_its_share() {
        let titles = titles(&write(&example()));
        for said in [
            "hot in shop: 0.0 ms, 60.00 %",
            "warm<int, \"a\"> in shop",
            "[libc.so.6] in libc.so.6: 0.0 ms, 10.00 %",
        ] {
            assert!(titles.iter().any(|title| title.starts_with(said)), "{said} is not in {titles:?}");
        }
    }

    #[test]
    fn hostile_names_stay_text() {
        let mut capture = example();
        capture.frames[1].function = "]]></script><script>alert(1)</script>\u{1}\"onload='x".into();
        let svg = write(&capture);
        let titles = titles(&svg);
        assert!(titles.iter().any(|title| title.contains("<script>alert(1)</script>")), "{titles:?}");
        assert_eq!(String::from_utf8(svg).unwrap().matches("<script").count(), 1);
    }

    #[test]
    fn a_difference_says_both_shares() {
        let titles = titles(&write_diff(&Diff::of(&example(), &example(), By::Function)));
        assert!(
            titles.iter().any(|title| title == "hot in shop: 60.00 % before, 60.00 % after (+0.00)"),
            "{titles:?}"
        );
    }

    #[test]
    fn a_recursion_of_ten_thousand_levels_is_drawn_as_far_as_one_can_see() {
        let mut capture = example();
        let deep = capture.stacks[0].0[0];
        capture.stacks[0].0 = vec![deep; 10_000];
        let svg = String::from_utf8(write(&capture)).unwrap();
        assert!(svg.contains("levels above 1000 are not drawn") && svg.len() < 1_000_000, "{}", svg.len());
    }
}
