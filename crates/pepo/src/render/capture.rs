//! Captures as tables and data: rows of functions, lines, threads, processes, and how they have changed.

use pepo_capture::{Capture, Change, Diff, Row};
use serde_json::{Value, json};

use super::{
    style::{Paint, Style},
    table::{Cell, Lean, Table, printable},
};

/// Widest function that is shown whole.
const WIDEST: usize = 90;

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn share(weight: u64, whole: u64) -> f64 {
    weight as f64 / whole.max(1) as f64
}

/// Columns of a terminal below which a row has its name alone.
const NARROW: usize = 60;

/// The lines of a capture: what it is, then its rows, at most so many.
pub(crate) fn lines(capture: &Capture, rows: &[Row], most: usize, paint: Paint) -> Vec<String> {
    let mut lines = vec![paint.over(Style::Faint, &printable(&capture.summary()))];
    let whole = capture.total_weight();
    lines.extend(table(rows.iter().take(most), whole, None, paint));
    if rows.len() > most {
        lines.push(paint.over(Style::Faint, &format!("and {} more", rows.len() - most)));
    }
    lines.extend(
        capture.meta.notes.iter().map(|note| paint.over(Style::Faint, &format!("note: {}", printable(note)))),
    );
    lines
}

/// Rows below their headings, on a terminal of so many columns.
pub(crate) fn table<'a>(
    rows: impl Iterator<Item = &'a Row>,
    whole: u64,
    room: Option<usize>,
    paint: Paint,
) -> Vec<String> {
    let rows: Vec<&Row> = rows.collect();
    let is_narrow = room.is_some_and(|room| room < NARROW);
    let places = rows.iter().any(|row| !row.place.is_empty());
    let modules = !is_narrow && rows.iter().any(|row| !row.module.is_empty());
    let mut columns = vec![("SELF", Lean::Right), ("TOTAL", Lean::Right), ("NAME", Lean::Cut)];
    columns.extend(modules.then_some(("MODULE", Lean::Cut)));
    columns.extend(places.then_some(("PLACE", Lean::Cut)));
    let mut table = Table::new(&columns).within(room);
    for row in rows {
        // Where a file is matters less than which it is.
        let place = if is_narrow { row.place.rsplit('/').next().unwrap_or_default() } else { &row.place };
        let mut cells: Vec<Cell> = vec![
            percent(share(row.own, whole)).into(),
            percent(share(row.total, whole)).into(),
            Cell::painted(shortened(&row.label), Style::Strong),
        ];
        cells.extend(modules.then(|| Cell::painted(row.module.as_str(), Style::Faint)));
        cells.extend(places.then(|| Cell::painted(place, Style::Faint)));
        table.row(cells);
    }
    table.lines(paint)
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label.to_owned(),
    }
}

/// Rows as data.
pub(crate) fn json(capture: &Capture, rows: &[Row]) -> Value {
    let whole = capture.total_weight();
    let row = |row: &Row| {
        json!({
            "name": row.label,
            "module": row.module,
            "place": row.place,
            "self": share(row.own, whole),
            "total": share(row.total, whole),
        })
    };
    json!({
        "target": capture.meta.target,
        "samples": capture.sample_count(),
        "lost": capture.meta.lost,
        "duration_nanos": capture.meta.duration_nanos,
        "rate": capture.meta.rate,
        "achieved_rate": capture.meta.achieved_rate,
        "sampler": capture.meta.sampler,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "notes": capture.meta.notes,
    })
}

/// One of several targets, as data.
pub(crate) fn of_target(capture: &Capture) -> Value {
    json!({
        "target": capture.meta.target,
        "samples": capture.sample_count(),
        "lost": capture.meta.lost,
        "achieved_rate": capture.meta.achieved_rate,
        "sampler": capture.meta.sampler,
    })
}

/// The lines of a difference: those that have changed the most.
pub(crate) fn diff_lines(diff: &Diff, most: usize, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        paint.over(Style::Faint, &printable(&format!("before: {}", diff.before))),
        paint.over(Style::Faint, &printable(&format!("after:  {}", diff.after))),
    ];
    let columns = [
        ("SELF", Lean::Right),
        ("CHANGE", Lean::Right),
        ("TOTAL", Lean::Right),
        ("CHANGE", Lean::Right),
        ("NAME", Lean::Left),
        ("MODULE", Lean::Left),
        ("PLACE", Lean::Left),
    ];
    let places = diff.changes.iter().any(|change| !change.place.is_empty());
    let mut table = Table::new(if places { &columns } else { &columns[..6] });
    for change in diff.changes.iter().take(most) {
        let mut cells: Vec<Cell> = vec![
            percent(change.own.1).into(),
            delta(change.own_delta()),
            percent(change.total.1).into(),
            delta(change.total_delta()),
            Cell::painted(shortened(&change.label), Style::Strong),
            Cell::painted(change.module.as_str(), Style::Faint),
        ];
        cells.extend(places.then(|| Cell::from(change.place.as_str())));
        table.row(cells);
    }
    lines.extend(table.lines(paint));
    lines
}

/// Points of a hundred, with their sign.
fn delta(part: f64) -> Cell {
    let style = match part {
        part if part > 0.001 => Style::Bad,
        part if part < -0.001 => Style::Good,
        _ => Style::Faint,
    };
    Cell::painted(format!("{:+.1}", part * 100.0), style)
}

/// A difference as data; parts are of 1.
pub(crate) fn diff_json(diff: &Diff) -> Value {
    let change = |change: &Change| {
        json!({
            "name": change.label,
            "module": change.module,
            "place": change.place,
            "self": { "before": change.own.0, "after": change.own.1, "change": change.own_delta() },
            "total": { "before": change.total.0, "after": change.total.1, "change": change.total_delta() },
        })
    };
    json!({
        "before": diff.before,
        "after": diff.after,
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
    })
}
