//! Source maps: from a script that was made (bundled, minified, compiled from TypeScript) back to what people wrote.
//!
//! The format is ECMA-426 (revision 3 of source maps). A map comes from the target and is hostile: sizes are checked, and what leads
//! nowhere is left out.

use serde_json::Value;

/// How many places a map may have: it is then some hundred MB large.
const MOST: usize = 4 << 20;
/// How deep maps may lie in maps.
const DEEPEST: u32 = 4;
/// The comment at a script's end that names its map.
const COMMENT: &str = "//# sourceMappingURL=";

/// A source map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    sources: Vec<String>,
    names: Vec<String>,
    /// By line and column of the script.
    places: Vec<Place>,
}

/// A place in the script, and where it comes from. Lines and columns from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: u32,
    column: u32,
    from: Option<From>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct From {
    source: u32,
    line: u32,
    column: u32,
    name: Option<u32>,
}

/// Where something was written. Lines and columns from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// As the map names it, below its root.
    pub source: String,
    /// The line.
    pub line: u32,
    /// The column, in UTF-16 code units.
    pub column: u32,
    /// The name that was written there, where the map knows it.
    pub name: Option<String>,
}

/// What the last comment of a script says of its map: an address, or the map itself (`data:`).
#[must_use]
pub fn source_map_url(script: &[u8]) -> Option<&str> {
    let mut lines =
        script.rsplit(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let line = lines.next().and_then(|line| std::str::from_utf8(line).ok())?;
    let url = line[line.rfind(COMMENT)? + COMMENT.len()..].trim();
    (!url.is_empty()).then_some(url)
}

impl SourceMap {
    /// Reads a map.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(bytes: &[u8]) -> Result<SourceMap, String> {
        // What some servers put before JSON, so that it is no script.
        let bytes = if bytes.starts_with(b")]}'") {
            bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or(b"")
        } else {
            bytes
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut map = SourceMap::default();
        map.add(&value, (0, 0), DEEPEST)?;
        map.places.sort_unstable();
        Ok(map)
    }

    /// Adds what a map says of the script from this line and column on.
    fn add(&mut self, value: &Value, (line, column): (u32, u32), depth: u32) -> Result<(), String> {
        if let Some(sections) = value["sections"].as_array() {
            let depth = depth.checked_sub(1).ok_or("maps lie in maps too deep")?;
            return sections.iter().try_for_each(|section| {
                let offset =
                    |name: &str| section["offset"][name].as_u64().and_then(|at| u32::try_from(at).ok());
                let (Some(down), Some(right)) = (offset("line"), offset("column")) else {
                    return Err("a section has no offset".to_owned());
                };
                self.add(&section["map"], (line.saturating_add(down), right), depth)
            });
        }
        if value["version"] != 3 {
            return Err("it is no source map of revision 3".to_owned());
        }
        let mappings = value["mappings"].as_str().ok_or("it has no mappings")?;
        let root = value["sourceRoot"].as_str().unwrap_or_default().trim_end_matches('/');
        let texts = |name: &str| {
            let list = value[name].as_array().into_iter().flatten();
            list.map(|one| one.as_str().unwrap_or_default().to_owned())
        };
        let base = (self.sources.len(), self.names.len());
        self.sources
            .extend(texts("sources").map(|one| if root.is_empty() { one } else { format!("{root}/{one}") }));
        self.names.extend(texts("names"));
        self.mappings(mappings, (line, column), base)
    }

    /// Reads `;` between lines and `,` between places, each of one, four or five numbers that count from the one before.
    fn mappings(
        &mut self,
        text: &str,
        (first, column): (u32, u32),
        base: (usize, usize),
    ) -> Result<(), String> {
        let (mut source, mut line, mut at, mut name) = (0, 0, 0, 0);
        for (below, text) in text.split(';').enumerate() {
            let script_line = first.saturating_add(u32::try_from(below).unwrap_or(u32::MAX));
            let mut script_column: i64 = if below == 0 { column.into() } else { 0 };
            for segment in text.split(',').filter(|segment| !segment.is_empty()) {
                let numbers = numbers(segment).ok_or("its mappings are not understood")?;
                let [moved, rest @ ..] = numbers.as_slice() else { continue };
                script_column = script_column.saturating_add(*moved);
                let mut from = None;
                if let [in_source, down, right, named @ ..] = rest {
                    for (value, change) in [(&mut source, in_source), (&mut line, down), (&mut at, right)] {
                        *value = i64::saturating_add(*value, *change);
                    }
                    let named = named.first().map(|change| {
                        name = i64::saturating_add(name, *change);
                        name
                    });
                    from = self.from((source, line, at), named, base);
                }
                if self.places.len() == MOST {
                    return Err(format!("it has more than {MOST} places"));
                }
                let Ok(column) = u32::try_from(script_column) else { continue };
                self.places.push(Place { line: script_line, column, from });
            }
        }
        Ok(())
    }

    /// Only what is there.
    fn from(
        &self,
        (source, line, column): (i64, i64, i64),
        name: Option<i64>,
        base: (usize, usize),
    ) -> Option<From> {
        let index = |number: i64, base: usize, count: usize| {
            let index = usize::try_from(number).ok()?.checked_add(base)?;
            (index < count).then(|| u32::try_from(index).ok())?
        };
        Some(From {
            source: index(source, base.0, self.sources.len())?,
            line: u32::try_from(line).ok()?,
            column: u32::try_from(column).ok()?,
            name: name.and_then(|name| index(name, base.1, self.names.len())),
        })
    }

    /// Where a function was written whose parameters begin at this line and column (from 1) of the script, and which is called so there.
    #[must_use]
    pub fn function(&self, line: u32, column: u32, name: &str) -> Option<Original> {
        let (line, column) = (line.checked_sub(1)?, column.checked_sub(1)?);
        // Its name stands before its parameters.
        let before =
            u32::try_from(name.encode_utf16().count()).ok().and_then(|length| column.checked_sub(length));
        let named =
            before.and_then(|column| self.at(line, column)).filter(|place| Some(place.column) == before);
        let name = named.and_then(|place| place.from?.name).and_then(|name| self.names.get(name as usize));
        let place = self.at(line, column)?;
        let from = place.from.or_else(|| named?.from)?;
        Some(Original {
            source: self.sources.get(from.source as usize)?.clone(),
            line: from.line.saturating_add(1),
            column: from.column.saturating_add(1),
            name: name.cloned(),
        })
    }

    /// The last place of this line that is not behind this column.
    fn at(&self, line: u32, column: u32) -> Option<&Place> {
        let end = self.places.partition_point(|place| (place.line, place.column) <= (line, column));
        self.places.get(end.checked_sub(1)?).filter(|place| place.line == line)
    }
}

/// Numbers in base 64, five bits a digit, the least first; the lowest bit of a number is its sign.
fn numbers(segment: &str) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(5);
    let (mut number, mut shift) = (0_i64, 0);
    for letter in segment.bytes() {
        let digit = digit(letter)?;
        // Larger numbers than 32 bits are none of the format's.
        if shift > 30 {
            return None;
        }
        number |= i64::from(digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if number & 1 == 1 { -(number >> 1) } else { number >> 1 });
            (number, shift) = (0, 0);
        }
    }
    (shift == 0 && numbers.len() <= 5).then_some(numbers)
}

/// RFC 4648, table 1.
fn digit(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(mappings: &str) -> Value {
        json!({"version": 3, "sources": ["a.ts", "b.ts"], "names": ["total"], "mappings": mappings})
    }

    fn read(value: &Value) -> Result<SourceMap, String> {
        SourceMap::read(value.to_string().as_bytes())
    }

    #[test]
    fn a_function_is_found_with_the_name_that_was_written() {
        // `function t(`: the name at column 9 is a.ts 3:9, "total"; its parameters are at 3:14.
        let map = read(&map("SAEAA,CAAK;;AACA")).unwrap();
        let original = map.function(1, 11, "t").unwrap();
        assert_eq!(
            original,
            Original { source: "a.ts".into(), line: 3, column: 6, name: Some("total".into()) }
        );
        assert_eq!(map.function(1, 11, "other").unwrap().name, None);
        assert_eq!(map.function(3, 1, "x").unwrap().line, 4);
        assert_eq!(
            (map.function(1, 5, "x"), map.function(2, 1, "x"), map.function(0, 0, "x")),
            (None, None, None)
        );
    }

    #[test]
    fn sections_lie_where_their_offset_says() {
        let sections = json!({"version": 3, "sections": [
            {"offset": {"line": 0, "column": 0}, "map": map("AAAA")},
            {"offset": {"line": 2, "column": 5}, "map": map("ACAA;AAAA")},
        ]});
        let read = read(&sections).unwrap();
        assert_eq!(read.function(3, 6, "").unwrap().source, "b.ts");
        assert_eq!(read.function(3, 5, ""), None);
        assert_eq!(read.function(4, 1, "").unwrap().source, "b.ts");
    }

    #[test]
    fn what_leads_nowhere_is_left_out_and_nonsense_is_refused() {
        assert_eq!(read(&map("AEAA,AADA")).unwrap().function(1, 1, ""), None);
        for wrong in ["!", "A", "g", "AAAAAA", "ggggggggggA"].map(map) {
            assert!(read(&wrong).is_err() || read(&wrong).unwrap().function(1, 1, "").is_none(), "{wrong}");
        }
        assert!(SourceMap::read(b"{}").is_err() && SourceMap::read(b"").is_err());
        let mut deep = map("AAAA");
        for _ in 0..9 {
            deep = json!({"sections": [{"offset": {"line": 0, "column": 0}, "map": deep}]});
        }
        assert!(read(&deep).unwrap_err().contains("too deep"));
    }

    #[test]
    fn the_last_comment_names_the_map() {
        assert_eq!(source_map_url(b"x()\n//# sourceMappingURL=a.js.map\n\n"), Some("a.js.map"));
        assert_eq!(source_map_url(b"x();//# sourceMappingURL=a.js.map"), Some("a.js.map"));
        assert_eq!(source_map_url(b"//# sourceMappingURL=a.js.map\nx()"), None);
        assert_eq!(source_map_url(b"//# sourceMappingURL="), None);
    }
}
