//! Breakpoints and watches of the terminal's: what the user set, what the adapter made of it, and how both are kept equal.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Console, Show,
    output::{Output, Point},
    parse::{Location, Wish},
};
use crate::{
    error::DapError,
    source_map::paths::{Parts, absolute, is_library},
    views::{Breakpoint, DataBreakpointInfo, items, view},
};

/// How long an adapter that tells the truth about a breakpoint later may take before it is shown as pending.
const LATE: Duration = Duration::from_millis(1500);

/// What is said of a function that an adapter takes without looking for it.
const UNPROVEN: &str =
    "by name alone: it stops if a function called so is called, and whether there is one is not known";

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Points {
    list: Vec<Known>,
    last: u32,
}

#[derive(Clone, Debug)]
struct Known {
    point: Point,
    place: Target,
    /// The adapter's name for it.
    id: Option<i64>,
    /// Where it really is, if the adapter said so.
    line: Option<i64>,
    /// About to be removed: no longer sent.
    gone: bool,
}

/// What is sent for it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Line { path: String, line: i64 },
    Function(String),
    Address(String),
    Data { id: String },
    Watch(String),
}

impl Target {
    /// Is it set by the same request?
    fn together(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Line { path, .. }, Target::Line { path: other, .. }) => path == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// The request that sets all like this one, and the field of its arguments that holds the list.
    fn request(&self) -> Option<&'static str> {
        match self {
            Target::Line { .. } => Some("setBreakpoints"),
            Target::Function(_) => Some("setFunctionBreakpoints"),
            Target::Address(_) => Some("setInstructionBreakpoints"),
            Target::Data { .. } => Some("setDataBreakpoints"),
            Target::Watch(_) => None,
        }
    }
}

impl Points {
    /// As they are shown.
    pub(crate) fn all(&self) -> Vec<Point> {
        self.list.iter().map(|known| known.point.clone()).collect()
    }

    /// The number of the last that was set.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// The next one has the number after this one.
    pub(crate) fn count_from(&mut self, last: u32) {
        self.last = last;
    }

    /// What is watched: (number, expression).
    pub(crate) fn watches(&self) -> Vec<String> {
        let expression = |known: &Known| match &known.place {
            Target::Watch(expression) => Some(expression.clone()),
            _ => None,
        };
        self.list.iter().filter_map(expression).collect()
    }

    fn add(&mut self, what: &'static str, shown: String, place: Target) -> &mut Known {
        self.last += 1;
        let point =
            Point { number: self.last, what, place: shown, verified: what == "watch", ..Point::default() };
        self.list.push(Known { point, place, id: None, line: None, gone: false });
        // It was pushed just now.
        let end = self.list.len() - 1;
        &mut self.list[end]
    }

    fn numbered(&self, number: u32) -> Option<&Known> {
        self.list.iter().find(|known| known.point.number == number)
    }

    fn like<'a>(&'a mut self, place: &'a Target) -> impl Iterator<Item = &'a mut Known> {
        self.list.iter_mut().filter(|known| !known.gone && known.place.together(place))
    }

    /// Notes what an event says of a breakpoint; the point if that changed what is shown.
    pub(crate) fn changed(&mut self, breakpoint: &Breakpoint) -> Option<Point> {
        let known = self.list.iter_mut().find(|known| known.id.is_some() && known.id == breakpoint.id)?;
        let before = known.point.clone();
        known.take(breakpoint);
        (before != known.point).then(|| known.point.clone())
    }

    /// All breakpoints were cleared in the target.
    pub(crate) fn cleared(&mut self) {
        for known in self.list.iter_mut().filter(|known| known.place.request().is_some()) {
            known.point.cleared = true;
            known.point.verified = false;
        }
    }

    /// Counts a stop at those with these ids, else at those in this place; the numbers of all, and of those that were to stop
    /// once.
    pub(crate) fn hit(&mut self, ids: &[i64], path: Option<&str>, line: i64) -> (Vec<u32>, Vec<u32>) {
        let by_id = |known: &Known| known.id.is_some_and(|id| ids.contains(&id));
        let here = |known: &Known| match &known.place {
            Target::Line { path: own, line: wished } => {
                let same = path.is_some_and(|path| Parts::of(path).ends_with(&Parts::of(own).names));
                same && known.line.unwrap_or(*wished) == line
            }
            _ => false,
        };
        let ids_fit = self.list.iter().any(&by_id);
        let (mut numbers, mut temporary) = (Vec::new(), Vec::new());
        for known in &mut self.list {
            if if ids_fit { by_id(known) } else { here(known) } {
                known.point.stops += 1;
                numbers.push(known.point.number);
                temporary.extend(known.point.temporary.then_some(known.point.number));
            }
        }
        if numbers.is_empty() {
            // A stop at nothing else is that of the only watched variable: adapters do not name those.
            let mut data = self.list.iter_mut().filter(|known| matches!(known.place, Target::Data { .. }));
            if let (Some(known), None) = (data.next(), data.next()) {
                known.point.stops += 1;
                numbers.push(known.point.number);
            }
        }
        (numbers, temporary)
    }
}

impl Known {
    fn take(&mut self, breakpoint: &Breakpoint) {
        self.id = breakpoint.id.or(self.id);
        self.line = breakpoint.line.or(self.line);
        self.point.verified = breakpoint.verified;
        self.point.cleared = false;
        self.point.message =
            breakpoint.message.clone().filter(|text| !text.is_empty() && !breakpoint.verified);
        if let (Target::Line { line, .. }, Some(real)) = (&self.place, self.line)
            && *line != real
            && let Some((file, _)) = self.point.place.rsplit_once(':')
        {
            self.point.place = format!("{file}:{real}");
            if breakpoint.verified {
                self.point.message = Some(format!("moved here from line {line}"));
            }
        }
    }

    /// As an element of the list that is sent.
    fn to_json(&self) -> Value {
        let mut wish = match &self.place {
            Target::Line { line, .. } => json!({"line": line}),
            Target::Function(name) => json!({"name": name}),
            Target::Address(address) => json!({"instructionReference": address}),
            Target::Data { id } => json!({"dataId": id, "accessType": "write"}),
            Target::Watch(_) => json!({}),
        };
        for (name, value) in [
            ("condition", &self.point.condition),
            ("hitCondition", &self.point.hits),
            ("logMessage", &self.point.log),
        ] {
            if let Some(value) = value {
                wish[name] = value.as_str().into();
            }
        }
        wish
    }
}

impl Console {
    pub(super) async fn add_point(&mut self, wish: Wish, show: Show<'_>) -> Result<(), DapError> {
        let (place, shown) = self.resolve(&wish.location)?;
        self.check_wish(&wish, &place)?;
        let known = self.points.add("breakpoint", shown, place.clone());
        known.point.condition = wish.condition;
        known.point.hits = wish.hits;
        known.point.log = wish.log;
        known.point.temporary = wish.temporary;
        let number = known.point.number;
        self.set_new(number, &place, show).await
    }

    /// Sends a point that was just added; takes it back when the adapter refuses.
    async fn set_new(&mut self, number: u32, place: &Target, show: Show<'_>) -> Result<(), DapError> {
        if let Err(error) = self.send_points(place).await {
            self.points.list.retain(|known| known.point.number != number);
            // The others of the same request stand as before.
            let _ = self.send_points(place).await;
            return Err(error);
        }
        let unverified =
            |console: &Console| console.points.numbered(number).is_some_and(|known| !known.point.verified);
        let end = tokio::time::Instant::now() + LATE;
        while self.quirks.breakpoints_verify_late && unverified(self) {
            match tokio::time::timeout_at(end, self.debuggee.next()).await {
                Ok(Some(happening)) => self.take_quietly(happening, show),
                Ok(None) | Err(_) => break,
            }
        }
        if let Some(known) = self.points.numbered(number) {
            show(Output::Breakpoint(known.point.clone()));
        }
        // Who types expects a call to meet the first that stands; a script says when it waits.
        if self.scripted || unverified(self) { Ok(()) } else { self.let_calls_come().await }
    }

    /// Can the adapter do what is wished for? A field it does not know would silently be ignored.
    fn check_wish(&self, wish: &Wish, place: &Target) -> Result<(), DapError> {
        let capabilities = self.debuggee.capabilities();
        for (wished, ability, what) in [
            (wish.condition.is_some(), "supportsConditionalBreakpoints", "conditions on breakpoints"),
            (wish.hits.is_some(), "supportsHitConditionalBreakpoints", "hit counts on breakpoints"),
            (wish.log.is_some(), "supportsLogPoints", "breakpoints that only log"),
        ] {
            if wished && !capabilities.has(ability) {
                return Err(DapError::not_offered(what));
            }
        }
        match place.request() {
            Some(request) if !self.debuggee.offers(request) => {
                Err(DapError::not_offered(format!("`{request}`")))
            }
            _ => Ok(()),
        }
    }

    /// Sends all points of the request that sets `place`, and notes what the adapter made of them.
    async fn send_points(&mut self, place: &Target) -> Result<(), DapError> {
        let Some(request) = place.request() else { return Ok(()) };
        let wishes: Vec<Value> = self.points.like(place).map(|known| known.to_json()).collect();
        let arguments = match place {
            Target::Line { path, .. } => {
                let lines: Vec<Value> = wishes.iter().map(|wish| wish["line"].clone()).collect();
                let name = Parts::of(path).names.pop().unwrap_or_default();
                let source = json!({"name": name, "path": path});
                json!({"source": source, "breakpoints": wishes, "lines": lines, "sourceModified": false})
            }
            _ => json!({"breakpoints": wishes}),
        };
        let body = self.debuggee.request_standing(request, arguments).await?;
        let made: Vec<Breakpoint> = items(&body, "breakpoints");
        let unproven = self.quirks.any_function && matches!(place, Target::Function(_));
        for (known, breakpoint) in self.points.like(place).zip(&made) {
            known.take(breakpoint);
            if unproven && breakpoint.verified {
                known.point.message = Some(UNPROVEN.into());
            }
        }
        Ok(())
    }

    pub(super) async fn add_watch(
        &mut self,
        expression: String,
        data: bool,
        show: Show<'_>,
    ) -> Result<(), DapError> {
        if data {
            return self.add_data_point(&expression, show).await;
        }
        let known = self.points.add("watch", expression.clone(), Target::Watch(expression.clone()));
        let point = known.point.clone();
        show(Output::Breakpoint(point));
        if self.debuggee.stopped().is_some() {
            let value = self.value_or_error(&expression).await;
            show(Output::Value(value));
        }
        Ok(())
    }

    async fn add_data_point(&mut self, name: &str, show: Show<'_>) -> Result<(), DapError> {
        if !self.debuggee.offers("dataBreakpointInfo") {
            return Err(DapError::not_offered("stopping when a variable changes"));
        }
        let frame = self.frame_id().await?;
        let mut arguments = json!({"name": name, "frameId": frame});
        if let Some((scope, _)) = self.find_variable(name).await? {
            arguments = json!({"name": name, "variablesReference": scope});
        }
        let info: DataBreakpointInfo = view(&self.debuggee.request("dataBreakpointInfo", arguments).await?);
        let Some(id) = info.data_id else {
            let words = if info.description.is_empty() {
                "it cannot be watched".to_owned()
            } else {
                info.description
            };
            return Err(DapError::Refused { command: format!("watch -d {name}"), words });
        };
        let place = Target::Data { id };
        let number = self.points.add("data", name.to_owned(), place.clone()).point.number;
        self.set_new(number, &place, show).await
    }

    pub(super) async fn delete_points(&mut self, numbers: &[u32], show: Show<'_>) -> Result<(), DapError> {
        let all: Vec<u32> = self.points.list.iter().map(|known| known.point.number).collect();
        if let Some(none) = numbers.iter().find(|number| !all.contains(number)) {
            return Err(DapError::word(
                format!("there is no breakpoint {none}"),
                "`info breakpoints` lists them",
            ));
        }
        let gone = if numbers.is_empty() { all } else { numbers.to_vec() };
        self.remove(&gone).await?;
        show(Output::Deleted { numbers: gone });
        Ok(())
    }

    /// Removes points by number, here and in the target.
    pub(super) async fn remove(&mut self, numbers: &[u32]) -> Result<(), DapError> {
        let mut touched: Vec<Target> = Vec::new();
        for known in self.points.list.iter_mut().filter(|known| numbers.contains(&known.point.number)) {
            known.gone = true;
            if !touched.iter().any(|place| place.together(&known.place)) {
                touched.push(known.place.clone());
            }
        }
        for place in &touched {
            self.send_points(place).await?;
        }
        self.points.list.retain(|known| !known.gone);
        Ok(())
    }

    pub(super) async fn rearm(&mut self, show: Show<'_>) -> Result<(), DapError> {
        let mut done: Vec<Target> = Vec::new();
        let cleared: Vec<Known> =
            self.points.list.iter().filter(|known| known.point.cleared).cloned().collect();
        if cleared.is_empty() {
            show(Output::Notice { text: "no breakpoint was cleared".into() });
        }
        for known in &cleared {
            if !done.iter().any(|place| place.together(&known.place)) {
                self.send_points(&known.place).await?;
                done.push(known.place.clone());
            }
        }
        for known in &cleared {
            if let Some(now) = self.points.numbered(known.point.number) {
                show(Output::Breakpoint(now.point.clone()));
            }
        }
        Ok(())
    }

    /// What is sent for a place, and how it is shown.
    fn resolve(&mut self, location: &Location) -> Result<(Target, String), DapError> {
        match location {
            Location::Function(name) => Ok((Target::Function(name.clone()), name.clone())),
            Location::Address(address) => Ok((Target::Address(address.clone()), format!("*{address}"))),
            Location::Line { file, line } => {
                let path = match file {
                    Some(file) => self.remote_path(file)?,
                    None => self.selection.path().ok_or_else(|| {
                        DapError::word(format!("line {line} of which file?"), "write it as FILE:LINE")
                    })?,
                };
                let shown = match file {
                    Some(file) => file.clone(),
                    None => self.source_map.to_local(&path).unwrap_or_else(|| path.clone()),
                };
                Ok((Target::Line { path, line: *line }, format!("{shown}:{line}")))
            }
        }
    }

    /// The path in the target that is meant by a file as typed.
    pub(super) fn remote_path(&mut self, file: &str) -> Result<String, DapError> {
        let here = self.source_map.in_folder(file).unwrap_or_else(|| absolute(file));
        let is_here = std::path::Path::new(&here).is_file();
        if is_here && let Some(remote) = self.source_map.to_remote(&here) {
            return Ok(remote);
        }
        let known: Vec<String> = self.source_map.known_by_tail(file).into_iter().map(str::to_owned).collect();
        let own: Vec<&String> = known.iter().filter(|path| !is_library(&Parts::of(path))).collect();
        match (own.as_slice(), known.as_slice()) {
            ([one], _) => return Ok((*one).clone()),
            ([], [one]) => return Ok(one.clone()),
            ([], []) => {}
            _ => {
                let candidates = known.iter().take(8).cloned().collect();
                return Err(DapError::Ambiguous {
                    what: format!("`{file}` fits several files of the target"),
                    candidates,
                });
            }
        }
        if let Some(remote) = self.source_map.to_remote(&here) {
            return Ok(remote);
        }
        let tail = self.quirks.paths_by_suffix.then(|| self.source_map.tail_in_folder(&here)).flatten();
        Ok(match tail {
            Some(tail) if is_here => tail,
            _ if self.quirks.paths_by_suffix => file.to_owned(),
            _ => here,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_counted_by_id_or_else_by_its_place() {
        let mut points = Points::default();
        let place = |line| Target::Line { path: "/app/a.c".into(), line };
        points.add("breakpoint", "a.c:3".into(), place(3)).id = Some(7);
        points.add("breakpoint", "a.c:9".into(), place(9)).point.temporary = true;
        assert_eq!(points.hit(&[7], None, 0), (vec![1], vec![]));
        assert_eq!(points.hit(&[], Some("/app/a.c"), 9), (vec![2], vec![2]));
        assert_eq!(points.hit(&[99], Some("/app/b.c"), 9), (vec![], vec![]));
        assert_eq!(points.all()[0].stops, 1);
    }

    #[test]
    fn the_adapter_moves_a_point_to_where_code_is() {
        let mut points = Points::default();
        let known = points.add("breakpoint", "a.c:3".into(), Target::Line { path: "/a.c".into(), line: 3 });
        known.id = Some(1);
        let said = Breakpoint { id: Some(1), verified: true, line: Some(5), ..Breakpoint::default() };
        let moved = points.changed(&said).unwrap();
        let why = "moved here from line 3";
        assert_eq!((moved.place.as_str(), moved.message.as_deref()), ("a.c:5", Some(why)));
        assert_eq!(points.changed(&said), None, "nothing new");
        let there = Breakpoint { line: None, ..said };
        assert_eq!(points.changed(&there), None, "it is still there");
        points.cleared();
        assert!(points.all()[0].cleared && !points.all()[0].verified);
    }
}
