//! A manifest as nodes that know where they stand in the text.
//!
//! Bytes from anywhere: depth and number of nodes are bounded, and an alias stays one node, so that nothing grows.

use std::{collections::HashSet, ops::Range};

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use pepo_wire::{Code, Failure};

use super::written_out;

/// As deep may collections be.
const DEEPEST: usize = 100;
/// As many nodes may there be.
const MOST: usize = 500_000;

/// All documents of a text.
pub(super) struct Tree {
    /// The root of each.
    pub(super) documents: Vec<Node>,
    /// Anchors that are used.
    used: HashSet<usize>,
}

/// A node.
pub(super) struct Node {
    /// Where it stands. A block collection ends with its last child.
    pub(super) span: Range<usize>,
    /// The column of its first character.
    pub(super) column: usize,
    /// The anchor it has; 0 for none.
    anchor: usize,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a node is.
pub(super) enum Kind {
    /// Text.
    Scalar {
        /// What it says.
        text: String,
        /// How that is written.
        style: ScalarStyle,
    },
    /// A sequence.
    List {
        /// `[a, b]`.
        flow: bool,
        /// What is in it.
        items: Vec<Node>,
    },
    /// A mapping.
    Map {
        /// `{a: b}`.
        flow: bool,
        /// Keys and values, in order.
        entries: Vec<(Node, Node)>,
    },
    /// `*name`.
    Alias,
}

/// Reads all documents.
pub(super) fn read(text: &str) -> Result<Tree, Failure> {
    let options = granit_parser::options! { flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST };
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        used: HashSet::new(),
        nodes: 0,
        depth: 0,
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
            event => documents.push(reader.node(event, &span)?),
        }
    }
    Ok(Tree { documents, used: reader.used })
}

struct Reader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    used: HashSet<usize>,
    nodes: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Failure> {
        self.events.next().transpose().map_err(|error| not_yaml(&error.to_string()))
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node, Failure> {
        self.nodes += 1;
        if self.nodes > MOST {
            return Err(Failure::new(Code::TooLarge, format!("the manifest has more than {MOST} nodes")));
        }
        let mut range = span.byte_range().ok_or_else(|| not_yaml("no place in the text"))?;
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Kind::Scalar { text: text.into_owned(), style })
            }
            Event::Alias(anchor) => {
                self.used.insert(anchor);
                (0, Kind::Alias)
            }
            Event::SequenceStart(style, anchor, _) => {
                (anchor, self.list(&mut range, style == StructureStyle::Flow)?)
            }
            Event::MappingStart(style, anchor, _) => {
                (anchor, self.map(&mut range, style == StructureStyle::Flow)?)
            }
            other => return Err(not_yaml(&format!("{other:?} where a value should be"))),
        };
        Ok(Node { span: range, column: span.start.col(), anchor, kind })
    }

    /// The rest of a list; `range`, where it begins, is then where it stands.
    fn list(&mut self, range: &mut Range<usize>, flow: bool) -> Result<Kind, Failure> {
        let mut items: Vec<Node> = Vec::new();
        self.deeper()?;
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                range.end = ended(range, flow, &span, items.last().map(|item| item.span.end));
                break;
            }
            items.push(self.node(event, &span)?);
        }
        self.depth -= 1;
        Ok(Kind::List { flow, items })
    }

    /// The same of a mapping.
    fn map(&mut self, range: &mut Range<usize>, flow: bool) -> Result<Kind, Failure> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        self.deeper()?;
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                let last = entries.last().map(|(key, value)| value.span.end.max(key.span.end));
                range.end = ended(range, flow, &span, last);
                break;
            }
            let key = self.node(event, &span)?;
            let (event, span) = self.next()?.ok_or_else(|| not_yaml("a key without its value"))?;
            entries.push((key, self.node(event, &span)?));
        }
        self.depth -= 1;
        Ok(Kind::Map { flow, entries })
    }

    /// Block and flow collections are bounded by the parser, and here together.
    fn deeper(&mut self) -> Result<(), Failure> {
        self.depth += 1;
        match self.depth > DEEPEST {
            true => Err(Failure::new(Code::TooLarge, format!("the manifest is more than {DEEPEST} deep"))),
            false => Ok(()),
        }
    }
}

/// Where a collection ends: at its bracket, or with its last child.
fn ended(range: &Range<usize>, flow: bool, end: &Span, last: Option<usize>) -> usize {
    let bracket = end.byte_range().filter(|_| flow).map(|range| range.end);
    bracket.or(last).unwrap_or(range.end)
}

fn not_yaml(why: &str) -> Failure {
    Failure::new(Code::Usage, "the manifest is not understood: it is no YAML")
        .because(why)
        .hint("a template must be rendered first, as by: helm template NAME CHART | pepo inject -f - …")
}

impl Tree {
    /// The value of a key, if it is there.
    pub(super) fn get<'n>(&self, map: &'n Node, key: &str) -> Result<Option<(&'n Node, &'n Node)>, Failure> {
        let Kind::Map { entries, .. } = &map.kind else { return Ok(None) };
        self.alone(map, key)?;
        if entries.iter().any(|(name, _)| name.text() == Some("<<")) {
            return Err(written_out(format!("what `{key}` is, is merged from elsewhere (<<)")));
        }
        let mut found = entries.iter().filter(|(name, _)| name.text() == Some(key));
        let first = found.next().map(|(name, value)| (name, value));
        if found.next().is_some() {
            return Err(Failure::new(Code::Usage, format!("the manifest has `{key}` twice in one place")));
        }
        if let Some((_, value)) = first {
            self.alone(value, key)?;
        }
        Ok(first)
    }

    /// What is at the end of a path of keys, if it is there.
    pub(super) fn at<'n>(&self, map: &'n Node, path: &[&str]) -> Result<Option<&'n Node>, Failure> {
        let mut node = map;
        for key in path {
            match self.get(node, key)? {
                Some((_, value)) => node = value,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The text at a key.
    pub(super) fn text<'n>(&self, map: &'n Node, key: &str) -> Result<Option<&'n str>, Failure> {
        Ok(self.get(map, key)?.and_then(|(_, value)| value.text()))
    }

    /// What is changed here is changed nowhere else.
    pub(super) fn alone(&self, node: &Node, key: &str) -> Result<(), Failure> {
        let shared = matches!(node.kind, Kind::Alias) || self.used.contains(&node.anchor);
        match shared {
            true => Err(written_out(format!("`{key}` is shared with another place (& and *)"))),
            false => Ok(()),
        }
    }
}

impl Node {
    /// What a scalar says.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a list; none if it is no list.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List { items, .. } => items,
            _ => &[],
        }
    }

    /// Whether it is nothing: not written, or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: ScalarStyle::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}
