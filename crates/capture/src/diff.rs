//! Two captures compared. They may be of different length, so shares are compared, not weights.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{By, Capture, FrameId, Kind, Process, Tree, rows};

/// How one function (or line, thread, process) has changed. Shares are parts of 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// What has changed.
    pub label: String,
    /// The module's short name.
    pub module: String,
    /// For lines, the line.
    pub place: String,
    /// Its own share, before and after.
    pub own: (f64, f64),
    /// Its share with all that it calls, before and after.
    pub total: (f64, f64),
}

impl Change {
    /// By how much its own share has grown.
    #[must_use]
    pub fn own_delta(&self) -> f64 {
        self.own.1 - self.own.0
    }

    /// By how much its share with all that it calls has grown.
    #[must_use]
    pub fn total_delta(&self) -> f64 {
        self.total.1 - self.total.0
    }
}

/// Two captures compared.
#[derive(Clone, Debug)]
pub struct Diff {
    /// What was compared, as each capture says.
    pub before: String,
    /// The later one.
    pub after: String,
    /// The changes, the largest first.
    pub changes: Vec<Change>,
    /// The calls of both.
    pub tree: Tree,
}

impl Diff {
    /// Compares two captures.
    #[must_use]
    pub fn of(before: &Capture, after: &Capture, by: By) -> Diff {
        let (before, after) = (&alike(before, after), &alike(after, before));
        let mut changes: BTreeMap<_, Change> = BTreeMap::new();
        for (capture, later) in [(before, false), (after, true)] {
            let whole = capture.total_weight().max(1) as f64;
            for row in rows(capture, by) {
                let key = (row.label.clone(), row.module.clone(), row.place.clone());
                let change = changes.entry(key).or_insert_with(|| Change {
                    label: row.label,
                    module: row.module,
                    place: row.place,
                    ..Change::default()
                });
                let (own, total) = (row.own as f64 / whole, row.total as f64 / whole);
                if later {
                    (change.own.1, change.total.1) = (own, total);
                } else {
                    (change.own.0, change.total.0) = (own, total);
                }
            }
        }
        let mut changes: Vec<_> = changes.into_values().collect();
        changes.sort_by(|a, b| {
            let size = |one: &Change| (one.own_delta().abs(), one.total_delta().abs());
            size(b).partial_cmp(&size(a)).unwrap_or(std::cmp::Ordering::Equal)
        });
        Diff { before: before.summary(), after: after.summary(), changes, tree: Tree::of_both(before, after) }
    }

    /// The functions whose own share has grown by more than this part of 1.
    pub fn grown_by_more_than(&self, part: f64) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.own_delta() > part)
    }
}

/// A capture as the other can be compared with. Some formats know no modules, and then the same name is the same function; some know no
/// processes; few know kinds of code.
fn alike(capture: &Capture, other: &Capture) -> Capture {
    let mut alike = capture.clone();
    for frame in &mut alike.frames {
        frame.kind = Kind::default();
    }
    if other.modules.is_empty() {
        for (index, frame) in alike.frames.iter_mut().enumerate() {
            (frame.function, frame.module) = (capture.label(FrameId::at(index)), None);
        }
    }
    if !other.tells(By::Process) {
        for process in &mut alike.processes {
            *process = Process::default();
        }
    }
    alike
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    #[test]
    fn a_capture_compared_with_itself_has_not_changed() {
        let diff = Diff::of(&example(), &example(), By::Function);
        assert_eq!(diff.changes.len(), 5);
        assert!(diff.changes.iter().all(|change| change.own_delta() == 0.0 && change.total_delta() == 0.0));
        assert_eq!(diff.grown_by_more_than(0.0).count(), 0);
        assert!(diff.tree.nodes.iter().all(|node| node.before == node.total));
    }

    #[test]
    fn shares_are_compared_so_a_longer_look_is_no_change_and_a_new_hot_spot_is() {
        let before = example();
        let mut after = example();
        for sample in &mut after.samples {
            sample.weight *= 7;
        }
        assert!(
            Diff::of(&before, &after, By::Function).changes.iter().all(|one| one.own_delta().abs() < 1e-12)
        );
        // Everything that ended in `warm` is gone.
        after.samples.retain(|sample| sample.stack != before.samples[6].stack);
        let diff = Diff::of(&before, &after, By::Function);
        let first = &diff.changes[0];
        assert_eq!((first.label.as_str(), first.own), ("warm<int, \"a\">", (0.3, 0.0)));
        let grown: Vec<_> = diff.grown_by_more_than(0.2).map(|one| one.label.as_str()).collect();
        assert_eq!(grown, ["hot"]);
        let gone = diff.tree.nodes.iter().find(|node| node.total == 0).unwrap();
        assert_eq!(gone.before, 300);
    }

    /// A capture written in a format and read again.
    fn through(format: &crate::Format, capture: &Capture) -> Capture {
        crate::read(&format.write(capture)).unwrap_or_else(|error| panic!("{}: {error:?}", format.name))
    }

    #[test]
    fn any_two_formats_can_be_compared_and_show_no_change_where_there_is_none() {
        for (one, other) in
            crate::FORMATS.iter().flat_map(|one| crate::FORMATS.iter().map(move |other| (one, other)))
        {
            let (before, after) = (through(one, &example()), through(other, &example()));
            for by in [By::Function, By::Line, By::Thread] {
                if !(before.tells(by) && after.tells(by)) {
                    let less = ["folded", "firefox"];
                    assert!(by != By::Function && (less.contains(&one.name) || less.contains(&other.name)));
                    continue;
                }
                let diff = Diff::of(&before, &after, by);
                let rows = if by == By::Thread { 2 } else { 5 };
                let told = format!("{} and {}: {:?}", one.name, other.name, diff.changes);
                assert!(diff.changes.len() >= rows, "{told}");
                assert!(diff.changes.iter().all(|change| change.own_delta() == 0.0), "{told}");
                assert!(diff.tree.nodes.iter().all(|node| (node.before == 0) == (node.total == 0)), "{told}");
            }
        }
    }

    #[test]
    fn what_has_grown_is_told_by_any_two_formats() {
        let mut grown = example();
        for sample in grown.samples.iter_mut().filter(|sample| sample.stack.0 == 1) {
            (sample.count, sample.weight) = (11, 1100);
        }
        for (one, other) in
            crate::FORMATS.iter().flat_map(|one| crate::FORMATS.iter().map(move |other| (one, other)))
        {
            let diff = Diff::of(&through(one, &example()), &through(other, &grown), By::Function);
            let told: Vec<_> =
                diff.grown_by_more_than(0.2).map(|one| (one.label.as_str(), one.own)).collect();
            assert_eq!(told, [("warm<int, \"a\">", (0.3, 0.825))], "{} and {}", one.name, other.name);
        }
    }

    #[test]
    fn what_does_not_weigh_alike_keeps_its_shares_in_every_format() {
        let mut bytes = example();
        bytes.meta.unit = crate::Unit::Bytes;
        // One large piece of memory, among nine small ones.
        bytes.samples[0].weight = 9 * 100 + 1000;
        for format in crate::FORMATS {
            let diff = Diff::of(&bytes, &through(format, &bytes), By::Function);
            assert!(
                diff.changes.iter().all(|one| one.own_delta() == 0.0),
                "{}: {:?}",
                format.name,
                diff.changes
            );
        }
    }
}
