//! The text, and what is put where in it. What is not named stays as it is.

use std::{cmp::Reverse, ops::Range};

use granit_parser::ScalarStyle;
use pepo_wire::{Code, Failure};
use serde_json::Value;

use super::{
    tree::{Kind, Node, Tree},
    written_out,
};

/// Changes of one text, to be made together.
pub(super) struct Edits<'t> {
    text: &'t str,
    /// How its lines end.
    line_end: &'static str,
    all: Vec<Edit>,
}

/// One change.
struct Edit {
    /// What is replaced; nothing if it is empty.
    range: Range<usize>,
    /// Where the node begins that is changed: where several end, the inner one goes on first.
    of: usize,
    new: String,
}

/// Where in a list something goes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// Before all others.
    First,
    /// After all others, where order means nothing.
    Last,
}

impl<'t> Edits<'t> {
    /// None yet.
    pub(super) fn new(text: &'t str) -> Edits<'t> {
        Edits { text, line_end: if text.contains("\r\n") { "\r\n" } else { "\n" }, all: Vec::new() }
    }

    /// The text with all of them.
    pub(super) fn apply(mut self) -> String {
        self.all.sort_by_key(|edit| (edit.range.start, Reverse(edit.of)));
        let mut out = String::with_capacity(self.text.len() + 4096);
        let mut at = 0;
        for Edit { range, new, .. } in &self.all {
            out.push_str(&self.text[at..range.start]);
            // What is put on lines of its own after a last line without an end.
            if new.ends_with('\n') && !out.is_empty() && !out.ends_with('\n') {
                out.push_str(self.line_end);
            }
            out.push_str(new);
            at = range.end;
        }
        out.push_str(&self.text[at..]);
        out
    }

    /// Puts items into the list at `key`, which is made if it is not there. `indent` is how far lists stand in from their keys.
    pub(super) fn add_to_list(
        &mut self,
        tree: &Tree,
        map: &Node,
        key: &str,
        items: &[Value],
        (end, indent): (End, usize),
    ) -> Result<(), Failure> {
        let Some((name, value)) = tree.get(map, key)? else {
            self.key(map, key, &Value::Array(items.to_vec()), indent);
            return Ok(());
        };
        match &value.kind {
            Kind::List { flow: true, items: there } => {
                let new = items.iter().map(flow).collect::<Vec<_>>().join(", ");
                let comma = if there.is_empty() { "" } else { ", " };
                self.at(value.span.start + 1, value, format!("{new}{comma}"));
            }
            Kind::List { flow: false, .. } => {
                let column = self.dash(name, value);
                let at = match end {
                    End::First => self.line_after(name.span.end),
                    End::Last => self.line_after(value.span.end),
                };
                self.at(at, value, self.block(items, column));
            }
            _ if value.is_null() && value.span.is_empty() && !is_flow(map) => {
                let at = self.line_after(name.span.end);
                self.at(at, value, self.block(items, name.column + indent));
            }
            _ if value.is_null() && !value.span.is_empty() => {
                self.replace(value, flow(&Value::Array(items.to_vec())));
            }
            _ => return Err(written_out(format!("`{key}` is no list"))),
        }
        Ok(())
    }

    /// Puts a new key into a mapping.
    pub(super) fn key(&mut self, map: &Node, key: &str, value: &Value, indent: usize) {
        if is_flow(map) {
            let comma =
                if matches!(&map.kind, Kind::Map { entries, .. } if entries.is_empty()) { "" } else { ", " };
            self.at(map.span.start + 1, map, format!("\"{key}\": {}{comma}", flow(value)));
            return;
        }
        let blanks = " ".repeat(map.column);
        let lines = match value.as_array() {
            Some(items) if items.iter().all(Value::is_object) => {
                format!("{blanks}{key}:{}{}", self.line_end, self.block(items, map.column + indent))
            }
            _ => format!("{blanks}{key}: {}{}", flow(value), self.line_end),
        };
        self.at(self.line_after(map.span.end), map, lines);
    }

    /// Another text in a scalar's place.
    pub(super) fn scalar(&mut self, node: &Node, text: &str) -> Result<(), Failure> {
        match &node.kind {
            Kind::Scalar { text: before, .. } if before == text => Ok(()),
            Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. } => Err(Failure::new(
                Code::Usage,
                format!("{text:?} cannot take the place of a text of several lines"),
            )),
            _ => {
                let blank = if node.span.is_empty() { " " } else { "" };
                self.replace(node, format!("{blank}{}", flow(&text.into())));
                Ok(())
            }
        }
    }

    /// How far a list stands in from its key.
    pub(super) fn indent(&self, key: &Node, list: &Node) -> usize {
        match list.kind {
            Kind::List { flow: false, .. } => self.dash(key, list) - key.column,
            _ => 0,
        }
    }

    /// The column of a block list's dashes. Where they stand below their key itself, the parser tells the first item's.
    fn dash(&self, key: &Node, list: &Node) -> usize {
        let mut text = self.text[list.span.start..].chars();
        match text.next() == Some('-') && text.next().is_some_and(char::is_whitespace) {
            true => list.column,
            false => key.column,
        }
    }

    fn at(&mut self, at: usize, node: &Node, new: String) {
        self.all.push(Edit { range: at..at, of: node.span.start, new });
    }

    fn replace(&mut self, node: &Node, new: String) {
        self.all.push(Edit { range: node.span.clone(), of: node.span.start, new });
    }

    /// Where the line after the one begins on which something ends; that line itself if only blanks stand before its end.
    fn line_after(&self, end: usize) -> usize {
        let start = self.text[..end].rfind('\n').map_or(0, |at| at + 1);
        if start > 0 && self.text[start..end].trim().is_empty() {
            return start;
        }
        self.text[end..].find('\n').map_or(self.text.len(), |at| end + at + 1)
    }

    /// Items on lines of their own.
    fn block(&self, items: &[Value], column: usize) -> String {
        let blanks = " ".repeat(column);
        let end = self.line_end;
        let item = |item: &Value| match item.as_object() {
            Some(map) => {
                let lines = map.iter().enumerate().map(|(at, (key, value))| {
                    format!("{blanks}{} {key}: {}{end}", if at == 0 { "-" } else { " " }, flow(value))
                });
                lines.collect::<String>()
            }
            None => format!("{blanks}- {}{end}", flow(item)),
        };
        items.iter().map(item).collect()
    }
}

fn is_flow(map: &Node) -> bool {
    matches!(map.kind, Kind::Map { flow: true, .. })
}

/// A value on one line, as JSON, which is YAML.
fn flow(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", joined(items.iter().map(flow).collect())),
        Value::Object(map) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{}: {}", Value::from(key.as_str()), flow(value));
            format!("{{{}}}", joined(map.iter().map(pair).collect()))
        }
        other => other.to_string(),
    }
}
