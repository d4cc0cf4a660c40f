//! A page that needs nothing else: flame graph, icicle, callers, a table, and a timeline of threads, all from one embedded capture.

use serde_json::json;

use super::text::{json_in_html, xml};
use crate::{Capture, FrameId, Unit};

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

/// What the page's script is given: names, stacks as names from outside in, samples as [stack, thread, time, weight].
fn data(capture: &Capture) -> serde_json::Value {
    let frames: Vec<_> = (0..capture.frames.len())
        .map(|index| {
            let (id, frame) = (FrameId::at(index), &capture.frames[index]);
            json!([
                capture.label(id),
                capture.module_name(frame.module),
                place(&frame.file, frame.line),
                frame.kind
            ])
        })
        .collect();
    let stacks: Vec<Vec<u32>> = (0..capture.stacks.len())
        .map(|index| capture.frames_of(crate::StackId::at(index)).map(|frame| frame.0).collect())
        .collect();
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
        .map(|one| json!([one.stack, one.thread, one.at_nanos / 1000, one.weight]))
        .collect();
    json!({
        "frames": frames,
        "stacks": stacks,
        "threads": threads,
        "samples": samples,
        "micros": capture.meta.duration_nanos / 1000,
        "timed": capture.has_times(),
        "nanos": matches!(capture.meta.unit, Unit::CpuNanos | Unit::WallNanos),
        "bytes": capture.meta.unit == Unit::Bytes,
    })
}

fn place(file: &str, line: u32) -> String {
    if line > 0 { format!("{file}:{line}") } else { file.to_owned() }
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
        assert!(data["frames"].to_string().contains("{{data@@"));
    }
}
