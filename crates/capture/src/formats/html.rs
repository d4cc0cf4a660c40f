//! A page that needs nothing else: flame graph, icicle, callers, a table, and a timeline of threads, all from one embedded capture.

use serde::Deserialize;
use serde_json::json;

use super::{
    FormatError,
    text::{json_in_html, within, xml},
};
use crate::{Capture, FrameId, Sample, StackId, ThreadId, Unit};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let data = json_in_html(&data(capture).to_string());
    let mut page = String::with_capacity(PAGE.len() + SCRIPT.len() + data.len() + 1000);
    // What is put in is never looked through again, so no name can stand for another part.
    for part in PAGE.split_inclusive("@@") {
        let (text, hole) = part.split_at(part.find("{{").unwrap_or(part.len()));
        page.push_str(text);
        match hole {
            "{{title@@" => page.push_str(&xml(&format!("{} · pepo", capture.meta.target))),
            "{{summary@@" => page.push_str(&xml(&capture.summary())),
            "{{notes@@" => page.push_str(&xml(&capture.meta.notes.join(" · "))),
            "{{data@@" => page.push_str(&data),
            "{{script@@" => page.push_str(SCRIPT),
            _ => page.push_str(hole),
        }
    }
    page.into_bytes()
}

/// What the page's script is given, and what is read again: the capture, its samples apart as [stack, thread, time, weight, count].
fn data(capture: &Capture) -> serde_json::Value {
    let threads: Vec<_> = capture
        .threads
        .iter()
        .map(|thread| {
            let process = capture.processes.get(thread.process.index());
            let process = process.filter(|_| capture.processes.len() > 1).map(crate::tree::process_label);
            format!("{} {} ({})", process.unwrap_or_default(), thread.name, thread.tid).trim().to_owned()
        })
        .collect();
    let samples: Vec<_> = capture
        .samples
        .iter()
        .map(|one| (one.stack, one.thread, one.at_nanos, one.weight, one.count))
        .collect();
    let labels: Vec<_> = (0..capture.frames.len()).map(|index| capture.label(FrameId::at(index))).collect();
    json!({
        "capture": Capture { samples: Vec::new(), ..capture.clone() },
        "samples": samples,
        "labels": labels,
        "threads": threads,
        "timed": capture.has_times(),
        "nanos": matches!(capture.meta.unit, Unit::CpuNanos | Unit::WallNanos),
        "bytes": capture.meta.unit == Unit::Bytes,
    })
}

/// The part of [`data`] that is the capture.
#[derive(Deserialize)]
struct Held {
    capture: Capture,
    samples: Vec<(StackId, ThreadId, u64, u64, u64)>,
}

pub(super) fn read(text: &str) -> Result<Capture, FormatError> {
    let data = within(text, "<script id=\"data\" type=\"application/json\">", "</script>");
    let held: Held = serde_json::from_str(data.ok_or(FormatError::Drawn)?)
        .map_err(|error| FormatError::damaged("page of Pepo", error))?;
    let samples = held.samples.into_iter().map(|(stack, thread, at_nanos, weight, count)| Sample {
        stack,
        thread,
        at_nanos,
        count,
        weight,
    });
    Ok(Capture { samples: samples.collect(), ..held.capture })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    #[test]
    fn the_page_asks_nothing_of_anybody_and_keeps_names_as_text() {
        let mut capture = example();
        capture.frames[1].function = "</script><script>alert(1)</script>{{data@@".into();
        capture.meta.target = "<img src=x onerror=alert(1)>".into();
        let page = String::from_utf8(write(&capture)).unwrap();
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<img"), "{page}");
        assert_eq!(page.matches("<script").count(), 2);
        let data =
            page.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["samples"].as_array().unwrap().len(), 10);
        assert!(data["labels"].to_string().contains("{{data@@"));
    }
}
