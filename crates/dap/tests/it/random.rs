//! Random input for what reads hostile bytes on the user's side: nothing panics, and what is kept is bounded.

use pepo_dap::{
    SourceMap,
    source_map::{paths::Parts, rewrite::each_source},
};
use pepo_wire::dap::{FrameDecoder, MAX_MESSAGE, Message, encode_frame};
use serde_json::{Value, json};

/// Numbers that are the same in each run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn text(&mut self, pieces: &[&str]) -> String {
        (0..self.below(12)).map(|_| self.pick(pieces)).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        const NAMES: &[&str] =
            &["source", "sources", "location", "path", "sourceReference", "x", "breakpoints"];
        match self.below(if depth > 6 { 4 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.below(9)),
            2 => json!(self.text(&["/", "a", "..", "\\", "c:", "é"])),
            3 => json!(true),
            4 => (0..self.below(4)).map(|_| self.value(depth + 1)).collect(),
            _ => {
                let fields = (0..self.below(5)).map(|_| (self.pick(NAMES).to_owned(), self.value(depth + 1)));
                Value::Object(fields.collect())
            }
        }
    }
}

#[test]
fn any_bytes_can_be_cut_into_messages() {
    let mut random = Random(1);
    for round in 0..3000 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(8) {
            match random.below(4) {
                0 => bytes.extend(encode_frame(random.text(&["{", "}", "\"", "seq", ":", "1"]).as_bytes())),
                1 => bytes.extend(
                    random.text(&["Content-Length: ", "9", "\r\n", "\r\n\r\n", "-", ":", "99999"]).bytes(),
                ),
                2 => bytes.extend((0..random.below(30)).map(|_| random.below(256) as u8)),
                _ => bytes.extend(encode_frame(random.value(0).to_string().as_bytes())),
            }
        }
        let mut decoder = FrameDecoder::default();
        let mut taken = 0;
        for portion in bytes.chunks(random.below(40) + 1) {
            decoder.feed(portion);
            while let Ok(Some(frame)) = decoder.next_frame() {
                assert!(frame.len() <= MAX_MESSAGE);
                taken += frame.len();
                let _ = Message::parse(&frame)
                    .map(|message| (message.kind(), message.seq(), message.error_text()));
            }
        }
        assert!(taken <= bytes.len(), "round {round}");
    }
}

#[test]
fn any_message_can_be_rewritten_and_nothing_but_sources_changes() {
    let mut random = Random(2);
    for _ in 0..5000 {
        let before = random.value(0);
        let mut after = before.clone();
        let mut met = 0;
        each_source(&mut after, &mut |_| met += 1);
        assert_eq!(after, before, "nothing was changed");
        each_source(&mut after, &mut |source| drop(source.insert("path".into(), "/x".into())));
        assert_eq!(met == 0, after == before || !after.to_string().contains("/x"), "{before}");
    }
}

#[test]
fn any_path_can_be_mapped() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "").unwrap();
    let mut random = Random(3);
    let rules = vec!["/a=/b".parse().unwrap(), "c:=.".parse().unwrap(), "a/..=\\x".parse().unwrap()];
    let mut map = SourceMap::new(rules, Some(folder.path()));
    for _ in 0..20_000 {
        let path = random.text(&["/", "a", "b", ".", "..", "\\", "c:", "C:", "é", "\0", "site-packages"]);
        let parts = Parts::of(&path);
        assert!(parts.names.iter().all(|name| !name.is_empty() && name != "."));
        let _ = (
            map.to_local(&path),
            map.to_remote(&path),
            map.known_by_tail(&path).len(),
            map.tail_in_folder(&path),
        );
        map.confirm(&path);
    }
    assert!(map.pairs().len() <= 20_003);
}

#[test]
fn a_very_deep_message_is_refused_or_survived() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(Message::parse(format!("{{\"body\":{deep}}}").as_bytes()).is_err());
    let mut value = json!({"source": {"path": "/a"}});
    for _ in 0..100 {
        value = json!([value]);
    }
    each_source(&mut value, &mut |_| {});
}
