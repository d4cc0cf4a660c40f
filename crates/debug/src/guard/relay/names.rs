//! What a stub says of a target in other namespaces, as a debugger on this side must hear it.

use serde_json::Value;

use super::super::{
    files::EXE,
    packet::hex,
    request::{from_hex, unescape},
};

/// SIGSTOP in Linux' numbering, which `lldb-server` uses.
const SIGSTOP: u64 = 19;

/// The executable in an answer of `key:value;` pairs, whose `name` is hexadecimal. The path that a stub tells is the target's own:
/// here there would be no file of that name, or another.
pub(super) fn with_executable(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for pair in answer.split_inclusive(|&byte| byte == b';') {
        if pair.starts_with(b"name:") {
            out.extend_from_slice(format!("name:{};", to_hex(EXE.as_bytes())).as_bytes());
        } else {
            out.extend_from_slice(pair);
        }
    }
    out
}

/// `lldb-server` knows the SIGSTOP with which it stops the other threads by its sender's number, which a thread in another PID
/// namespace does not see: each of them then looks as if it had been stopped by a signal of its own. Where any thread has a better
/// reason, takes these stops out of an answer in JSON.
pub(super) fn without_stray_stops(answer: &[u8]) -> Vec<u8> {
    calm(&unescape(answer), None).map_or_else(|| answer.to_vec(), |calmed| escape(&calmed.json))
}

/// The same in the report of a stop, which holds that JSON as hexadecimal digits, and may name the wrong thread as its own.
pub(super) fn without_stray_stops_in_report(report: &[u8]) -> Vec<u8> {
    let pairs =
        || report.get(3..).unwrap_or_default().split(|&byte| byte == b';').filter(|pair| !pair.is_empty());
    let named = pairs().find_map(|pair| pair.strip_prefix(b"thread:")).unwrap_or_default();
    let process = named.iter().position(|&byte| byte == b'.').map_or(0, |dot| dot + 1);
    let tid = hex(&named[process..]);
    let Some(calmed) = pairs().find_map(|pair| calm(&from_hex(pair.strip_prefix(b"jstopinfo:")?), tid))
    else {
        return report.to_vec();
    };
    let same = tid == Some(calmed.tid);
    let thread = [&named[..process], format!("{:x}", calmed.tid).as_bytes()].concat();
    let mut out = format!("T{:02x}thread:{};", calmed.signal, String::from_utf8_lossy(&thread)).into_bytes();
    for pair in pairs() {
        let key = pair.split(|&byte| byte == b':').next().unwrap_or_default();
        match key {
            b"thread" => continue,
            b"jstopinfo" => out.extend_from_slice(format!("jstopinfo:{}", to_hex(&calmed.json)).as_bytes()),
            // These are the named thread's own.
            b"reason" | b"description" | b"name" if !same => continue,
            _ if !same && key.len() == 2 && hex(key).is_some() => continue,
            _ => out.extend_from_slice(pair),
        }
        out.push(b';');
    }
    if !same {
        out.extend_from_slice(format!("reason:{};", calmed.reason).as_bytes());
        if let Some(description) = calmed.description {
            out.extend_from_slice(format!("description:{};", to_hex(description.as_bytes())).as_bytes());
        }
    }
    out
}

/// Threads without the stops that are none, and the one that has a reason.
struct Calmed {
    json: Vec<u8>,
    tid: u64,
    signal: u64,
    reason: String,
    description: Option<String>,
}

/// The thread that has a reason is `named` if it has one: others may have kept theirs from an earlier stop, as those that a debugger
/// does not let run while it steps one. `None` when there is nothing to change, or when it cannot be read.
fn calm(json: &[u8], named: Option<u64>) -> Option<Calmed> {
    let mut threads: Vec<Value> = serde_json::from_slice(json).ok()?;
    let text = |thread: &Value, key: &str| thread.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |thread: &Value, key: &str| thread.get(key).and_then(Value::as_u64);
    let stray = |thread: &Value| {
        text(thread, "reason").as_deref() == Some("signal") && number(thread, "signal") == Some(SIGSTOP)
    };
    if !threads.iter().any(stray) {
        return None;
    }
    let real = |thread: &&Value| thread.get("reason").is_some() && !stray(thread);
    let is_named = |thread: &&Value| number(thread, "tid") == named;
    let real = threads.iter().filter(real).find(is_named).or_else(|| threads.iter().find(real))?.clone();
    for thread in threads.iter_mut().filter(|thread| stray(thread)).filter_map(Value::as_object_mut) {
        for key in ["reason", "signal", "description"] {
            thread.remove(key);
        }
    }
    Some(Calmed {
        json: serde_json::to_vec(&threads).ok()?,
        tid: number(&real, "tid")?,
        signal: number(&real, "signal").unwrap_or(0),
        reason: text(&real, "reason")?,
        description: text(&real, "description"),
    })
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn escape(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for &byte in data {
        if matches!(byte, b'#' | b'$' | b'}' | b'*') {
            out.extend([b'}', byte ^ 0x20]);
        } else {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_by_the_stub_itself_are_taken_out_and_others_stay() {
        let json = br#"[{"reason":"breakpoint","signal":5,"tid":1},{"reason":"signal","signal":19,"tid":2},{"reason":"signal","signal":11,"tid":3}]"#;
        let calmed = br#"[{"reason":"breakpoint","signal":5,"tid":1},{"tid":2},{"reason":"signal","signal":11,"tid":3}]"#;
        assert_eq!(without_stray_stops(&escape(json)), escape(calmed));
        let report = |json: &[u8]| {
            format!("T05thread:p9.1;jstopinfo:{};00:00;reason:breakpoint;", to_hex(json)).into_bytes()
        };
        assert_eq!(without_stray_stops_in_report(&report(json)), report(calmed));
        let interrupted =
            br#"[{"reason":"signal","signal":19,"tid":1},{"reason":"signal","signal":19,"tid":2}]"#;
        assert_eq!(without_stray_stops(&escape(interrupted)), escape(interrupted));
        assert_eq!(without_stray_stops(b"E01"), b"E01");
    }

    #[test]
    fn a_report_names_the_thread_that_has_a_reason() {
        let json = br#"[{"reason":"signal","signal":19,"tid":16},{"reason":"watchpoint","signal":5,"tid":17,"description":"1 2"}]"#;
        let calmed = br#"[{"tid":16},{"reason":"watchpoint","signal":5,"tid":17,"description":"1 2"}]"#;
        let report =
            format!("T13thread:p9.10;name:x;threads:10,11;jstopinfo:{};00:ff;reason:signal;", to_hex(json));
        let told = format!(
            "T05thread:p9.11;threads:10,11;jstopinfo:{};reason:watchpoint;description:312032;",
            to_hex(calmed)
        );
        assert_eq!(String::from_utf8(without_stray_stops_in_report(report.as_bytes())).unwrap(), told);
    }

    #[test]
    fn a_report_keeps_the_thread_that_it_names_where_that_one_has_a_reason() {
        let json = br#"[{"reason":"signal","signal":19,"tid":16},{"reason":"signal","signal":23,"tid":17},{"reason":"trace","signal":5,"tid":18}]"#;
        let calmed =
            br#"[{"tid":16},{"reason":"signal","signal":23,"tid":17},{"reason":"trace","signal":5,"tid":18}]"#;
        let report =
            |json: &[u8]| format!("T05thread:12;name:x;jstopinfo:{};00:ff;reason:trace;", to_hex(json));
        let told = without_stray_stops_in_report(report(json).as_bytes());
        assert_eq!(String::from_utf8(told).unwrap(), report(calmed));
    }

    #[test]
    fn the_executable_has_a_name_of_this_side() {
        let answer = with_executable(b"pid:1;name:2f6170702f6c6f6f70;arch:x;");
        let name = to_hex(EXE.as_bytes());
        assert_eq!(answer, format!("pid:1;name:{name};arch:x;").into_bytes());
    }
}
