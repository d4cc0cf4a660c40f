//! Tables of lines: from a place in the bytecode to a line of the source. "Objects/lnotab_notes.txt" (up to 3.9), PEP 626 (3.10),
//! "Objects/locations.md" (3.11 on).

use super::offsets::Lines;

/// The line at a place, in bytes of bytecode. A table that says nothing of it, or nonsense, gives nothing.
pub(crate) fn line(kind: Lines, table: &[u8], first: u32, place: u64) -> Option<u32> {
    let line = match kind {
        Lines::Deltas => deltas(table, i64::from(first), place),
        Lines::Ranges => ranges(table, i64::from(first), place)?,
        Lines::Locations => locations(table, i64::from(first), place)?,
    };
    u32::try_from(line).ok().filter(|line| *line > 0)
}

/// Pairs: so many bytes further, so many lines further.
fn deltas(table: &[u8], mut line: i64, place: u64) -> i64 {
    let mut at = 0;
    for [bytes, lines] in table.as_chunks::<2>().0 {
        at += u64::from(*bytes);
        if at > place {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    line
}

/// Pairs: so many lines further, for so many bytes; -128 for no line.
fn ranges(table: &[u8], mut line: i64, place: u64) -> Option<i64> {
    let mut at = 0;
    for [bytes, lines] in table.as_chunks::<2>().0 {
        at += u64::from(*bytes);
        let lines = lines.cast_signed();
        if lines != -128 {
            line += i64::from(lines);
        }
        if at > place {
            return (lines != -128).then_some(line);
        }
    }
    None
}

/// Entries of a first byte, which has its high bit set, and what belongs to it.
fn locations(table: &[u8], mut line: i64, place: u64) -> Option<i64> {
    let (mut at, mut rest) = (0_u64, table);
    while let Some((head, after)) = rest.split_first() {
        let length = u64::from(head & 7) + 1;
        let code = head >> 3 & 15;
        rest = after;
        line = line.checked_add(match code {
            13 | 14 => signed(&mut rest)?,
            11 | 12 => i64::from(code) - 10,
            _ => 0,
        })?;
        at += length * 2;
        if at > place {
            return (code != 15).then_some(line);
        }
        // What is left of the entry: columns.
        let next = rest.iter().position(|byte| byte & 0x80 != 0).unwrap_or(rest.len());
        rest = rest.get(next..)?;
    }
    None
}

/// A number in portions of six bits, the lowest of all its sign.
fn signed(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..36).step_by(6) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x3f) << shift;
        if byte & 0x40 == 0 {
            let size = (value >> 1).cast_signed();
            return Some(if value & 1 == 1 { -size } else { size });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_each_kind_of_table() {
        // Two bytes at the first line, then four at the next but one, then back by one.
        let deltas = [2, 2, 4, 0xff];
        for (place, wanted) in [(0, 10), (1, 10), (2, 12), (5, 12), (6, 11), (99, 11)] {
            assert_eq!(line(Lines::Deltas, &deltas, 10, place), Some(wanted), "{place}");
        }
        let ranges = [2, 0, 4, 2, 2, 0x80, 2, 0xff];
        for (place, wanted) in [(0, Some(10)), (2, Some(12)), (6, None), (8, Some(11)), (10, None)] {
            assert_eq!(line(Lines::Ranges, &ranges, 10, place), wanted, "{place}");
        }
        // Short (column alone), one line (+1), no column (-3 lines), long (+2 lines), none.
        let locations = [0x80, 0x11, 0xd9, 4, 8, 0xe8, 7, 0xf0, 4, 0, 1, 1, 0xf8];
        let found = [(0, Some(10)), (2, Some(11)), (5, Some(11)), (6, Some(8)), (8, Some(10)), (10, None)];
        for (place, wanted) in found {
            assert_eq!(line(Lines::Locations, &locations, 10, place), wanted, "{place}");
        }
    }

    #[test]
    fn damaged_tables_give_nothing() {
        for table in [&[][..], &[0xe8], &[0xe8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x80; 3]] {
            assert_eq!(line(Lines::Locations, table, 1, 100), None, "{table:?}");
        }
        assert_eq!(line(Lines::Deltas, &[1, 0x80, 1, 0x80], 1, 9), None);
    }
}
