//! What is fuzzed: for each reader a corpus and what must hold for any bytes. Not to panic and not to
//! linger holds for all.

use pepo_capture::{
    Builder, By, Diff, FORMATS, Module, SourceMap, Symbols, debug_file_of, is_debug_file, read,
    source_map_url,
};
use pepo_process::cgroup::CgroupEntry;
use pepo_process::elf::{self, Elf};
use pepo_process::maps::Map;
use pepo_process::stat::Stat;
use pepo_process::status::Status;
use pepo_wire::dap::{FrameDecoder, FrameError, Message, encode_frame};
use pepo_wire::name::TargetName;

/// One reader under fire.
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Inputs that are well formed, to start from.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Feeds it; panics when a promise is broken.
    pub feed: fn(&[u8]),
}

/// All of them.
pub const ALL: &[Target] = &[
    Target { name: "dap-frames", corpus: dap_corpus, feed: dap_frames },
    Target { name: "elf", corpus: elf_corpus, feed: elf_file },
    Target { name: "proc", corpus: proc_corpus, feed: proc_texts },
    Target { name: "dumps", corpus: dump_corpus, feed: thread_dump },
    Target { name: "stacks", corpus: stack_corpus, feed: stacks },
    Target { name: "recordings", corpus: recording_corpus, feed: recordings },
    Target { name: "names", corpus: name_corpus, feed: names },
    Target { name: "archives", corpus: archive_corpus, feed: archives },
    Target { name: "symbols", corpus: symbol_corpus, feed: symbols },
    Target { name: "source-maps", corpus: source_map_corpus, feed: source_maps },
    Target { name: "captures", corpus: capture_corpus, feed: captures },
];

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

fn dap_corpus() -> Vec<Vec<u8>> {
    let messages = [
        r#"{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"x","linesStartAt1":true}}"#,
        r#"{"seq":2,"type":"response","request_seq":1,"success":true,"command":"initialize","body":{}}"#,
        r#"{"seq":3,"type":"event","event":"stopped","body":{"reason":"breakpoint","threadId":1}}"#,
        r#"{"seq":"4","type":7,"command":null}"#,
        "{}",
    ];
    let mut corpus: Vec<_> = messages.iter().map(|message| encode_frame(message.as_bytes())).collect();
    corpus.push(corpus.concat());
    corpus.push(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    corpus
}

/// However a stream is cut into portions, the same messages come out; and what we write, we can read.
fn dap_frames(bytes: &[u8]) {
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, 1), "portions of one byte");
    assert_eq!(whole, frames(bytes, 7), "portions of seven bytes");
    for frame in &whole.0 {
        assert_eq!(frames(&encode_frame(frame), 5).0, std::slice::from_ref(frame), "written and read again");
        if let Ok(message) = Message::parse(frame) {
            let again = Message::parse(&message.to_bytes()).expect("what was read and written can be read");
            assert_eq!((message.seq(), message.request_seq()), (again.seq(), again.request_seq()));
            assert_eq!(message.command(), again.command());
        }
    }
}

/// The messages of a stream that arrives in portions, and the error that ended it.
fn frames(bytes: &[u8], portion: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut decoder = FrameDecoder::default();
    let mut found = Vec::new();
    for part in bytes.chunks(portion) {
        decoder.feed(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// The head of this very program, and a small file with every kind of table.
fn elf_corpus() -> Vec<Vec<u8>> {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default();
    let head = own[..own.len().min(16 << 10)].to_vec();
    vec![head, small_elf()]
}

/// A 64-bit file: a note with a build id and a section table, by hand (ELF-64 Object File Format, 1998).
fn small_elf() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    let (phoff, shoff) = (64u64, 64 + 56 + 40);
    for value in [0x1000, phoff, shoff] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 3, 2].iter().flat_map(|field| field.to_le_bytes()));
    let note_at = phoff + 56;
    file.extend([4u32, 4].iter().flat_map(|field| field.to_le_bytes()));
    file.extend([note_at, note_at, note_at, 24, 24, 4].iter().flat_map(|field| field.to_le_bytes()));
    file.extend([4u32, 8, 3].iter().flat_map(|field| field.to_le_bytes()));
    file.extend(b"GNU\0\x01\x02\x03\x04\x05\x06\x07\x08\0.note\0.shstrtab\0");
    file.resize(usize::try_from(shoff).unwrap_or(160), 0);
    file.extend([0; 64]);
    file.extend(section(1, 7, note_at, 24));
    file.extend(section(7, 3, note_at + 24, 16));
    file
}

/// One entry of the section table.
fn section(name: u32, kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut entry: Vec<u8> = [name, kind].iter().flat_map(|field| field.to_le_bytes()).collect();
    entry.extend([0, offset, offset, size].iter().flat_map(|field| field.to_le_bytes()));
    entry.extend([0u8; 8]);
    entry.extend([1u64, 0].iter().flat_map(|field| field.to_le_bytes()));
    entry
}

fn elf_file(bytes: &[u8]) {
    let _ = elf::inspect(bytes);
    if let Ok(file) = Elf::parse(bytes) {
        let _ = file.symbols(&["main", "_start", "PyRun_SimpleString"]);
        let _ = file.exported(&["main"]);
        let _ = file.producer();
        let _ = (file.notes(), file.go_build(), file.file_offset(file.entry));
    }
}

/// The texts of this very process.
fn proc_corpus() -> Vec<Vec<u8>> {
    let files = ["stat", "status", "maps", "cgroup"].map(|name| format!("/proc/self/{name}"));
    let mut corpus: Vec<_> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    corpus.push(b"7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4".to_vec());
    corpus.push(b"0::/system.slice/docker-0123.scope\n12:cpu,cpuacct:/kubepods/pod1/abc\n".to_vec());
    corpus
}

fn proc_texts(bytes: &[u8]) {
    let _ = Stat::parse(bytes);
    let _ = Status::parse(bytes);
    let _ = CgroupEntry::parse_all(bytes);
    for map in Map::parse_all(bytes) {
        assert!(map.start <= map.end, "a mapping that ends before it starts: {map:?}");
    }
}

/// A deadlock as versions 8 and 25 tell it.
fn dump_corpus() -> Vec<Vec<u8>> {
    let threads = |nid: &str| {
        format!(
            "\"left\" #10 prio=5 os_prio=0 tid=0x00007f8c1c0f1000 nid={nid} waiting for monitor entry [0x00007f8bf5ffe000]
   java.lang.Thread.State: BLOCKED (on object monitor)
\tat Shop.lambda$main$0(Shop.java:7)
\t- waiting to lock <0x00000000ffd17020> (a java.lang.Object)
\t- locked <0x00000000ffd17010> (a java.lang.Object)
\tat Shop$$Lambda/0x0000000014040210.run(Unknown Source)
\tat java.lang.Thread.run(java.base@25.0.3/Thread.java:1474)

   Locked ownable synchronizers:
\t- <0x00000000ffd17020> (a java.util.concurrent.locks.ReentrantLock$NonfairSync)

Found one Java-level deadlock:
=============================
\"left\":
  waiting to lock monitor 0x00007f63d00730b0 (object 0x00000000ffd17020, a java.lang.Object),
  which is held by \"left\"

Java stack information for the threads listed above:
"
        )
        .into_bytes()
    };
    vec![threads("0x4b0a"), threads("19210")]
}

fn stack_corpus() -> Vec<Vec<u8>> {
    let lines = [
        "[main tid=27515];Hot.main_[0];Hot$$Lambda$4.0x00007f9c50002a20.run_[0];Hot.lambda$main$6_[0];Hot.hot_[i] 9\n",
        "[a b] tid=1];c tid=7];Hot$$Lambda.0x000000002b041000.run_[0];asm_call_[k];schedule_[k] 1\n",
        "[tid=5];start_thread;JavaThread::run() 2\nno thread;byte[] 1024\n",
    ];
    lines.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn stacks(bytes: &[u8]) {
    let (stacks, deepest) = pepo_look::read_stacks(bytes);
    assert!(stacks <= bytes.len() && deepest <= bytes.len());
}

/// One of a JVM's own, with little in it.
fn recording_corpus() -> Vec<Vec<u8>> {
    let recording = include_bytes!("../corpus/a.jfr");
    vec![recording.to_vec(), recording.repeat(2)]
}

/// No more is told than there are bytes, whatever stands in them.
fn recordings(bytes: &[u8]) {
    let (samples, deepest) = pepo_look::read_recording(bytes);
    assert!(samples <= bytes.len() && deepest <= bytes.len(), "{samples} samples, {deepest} frames");
}

/// No more is told than there are lines.
fn thread_dump(bytes: &[u8]) {
    let (threads, frames) = pepo_look::read_dump(bytes);
    assert!(
        threads + frames <= bytes.split(|&byte| byte == b'\n').count(),
        "{threads} threads, {frames} frames"
    );
}

fn name_corpus() -> Vec<Vec<u8>> {
    ["shop", "docker/shop", "podman/a-b_c.d", "cri/0123456789ab", "pid/4711", "host/x"]
        .map(Into::into)
        .to_vec()
}

/// What is accepted is shown in a way that is accepted again, as the same.
fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<TargetName>() {
        let shown = name.to_string();
        let again = shown.parse::<TargetName>().expect("a name that was shown can be typed");
        assert_eq!(again.to_string(), shown);
    }
}

/// Small ones in each format, with what tars have beside files: links, holes, long names, attributes.
fn archive_corpus() -> Vec<Vec<u8>> {
    [
        include_bytes!("../corpus/gnu.tar").as_slice(),
        include_bytes!("../corpus/pax.tar"),
        include_bytes!("../corpus/a.tar.gz"),
        include_bytes!("../corpus/a.tar.bz2"),
        include_bytes!("../corpus/a.tar.xz"),
        include_bytes!("../corpus/a.tar.zst"),
        include_bytes!("../corpus/a.zip"),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Judged as they are, and once more with the sums of a tar's blocks made right, so that what stands in them is read.
fn archives(bytes: &[u8]) {
    for bytes in [bytes, &with_sums(bytes)] {
        let _ = pepo_entry::judge_archive(bytes);
    }
}

fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// Small programs: DWARF, DWARF that is packed, and Go's table alone.
fn symbol_corpus() -> Vec<Vec<u8>> {
    [
        include_bytes!("../corpus/c.elf").as_slice(),
        include_bytes!("../corpus/packed.elf"),
        include_bytes!("../corpus/go.elf"),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Names addresses in and around the program's code.
fn symbols(bytes: &[u8]) {
    let wanted = debug_file_of(bytes);
    let _ = is_debug_file(bytes, &wanted);
    if let Ok(symbols) = Symbols::read(bytes, None, "") {
        named_functions(&symbols);
    }
    let _ = Symbols::read(include_bytes!("../corpus/go.elf"), Some(bytes), "")
        .map(|symbols| named_functions(&symbols));
}

/// What stands at some addresses.
fn named_functions(symbols: &Symbols) -> Vec<String> {
    let mut builder = Builder::new();
    let module = builder.module(Module { path: "/a".into(), ..Module::default() });
    let inside = (0..64).map(|step| 0x40_1000 + step * 8);
    for address in inside.chain([0, 1, u64::MAX]) {
        builder.location(Some(module), address, Vec::new());
    }
    builder.name(module, symbols);
    builder.so_far().frames.iter().map(|frame| frame.function.clone()).collect()
}

fn source_map_corpus() -> Vec<Vec<u8>> {
    let map = r#"{"version":3,"sources":["a.ts"],"names":["total"],"mappings":"SAEAA,CAAK;;AACA"}"#;
    let sections =
        format!(r#"{{"version":3,"sections":[{{"offset":{{"line":1,"column":2}},"map":{map}}}]}}"#);
    [map, sections.as_str(), "x()\n//# sourceMappingURL=a.js.map\n"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

/// What is found was written on a line that there can be.
fn source_maps(bytes: &[u8]) {
    let _ = source_map_url(bytes);
    let Ok(map) = SourceMap::read(bytes) else { return };
    for (line, column) in [(0, 0), (1, 11), (2, 1), (u32::MAX, u32::MAX)] {
        if let Some(original) = map.function(line, column, "t") {
            assert!(original.line > 0 && original.column > 0);
        }
    }
}

/// One in each format, and two of others.
fn capture_corpus() -> Vec<Vec<u8>> {
    let folded = b"main;work;hot 60\nmain;work;warm 30\n".to_vec();
    let packed = include_bytes!("../corpus/a.pb.gz").to_vec();
    let ours = FORMATS.iter().map(|format| format.write(&small()));
    ours.chain([folded, packed]).collect()
}

/// A capture with something of everything.
fn small() -> pepo_capture::Capture {
    let capture = read(b"main;work;hot 60\nmain;work;warm 30\n").unwrap_or_default();
    let mut builder = Builder::new();
    builder.add(&capture);
    let module = builder.module(Module { path: "/usr/bin/shop".into(), build_id: "ab12".into() });
    let location = builder.location(Some(module), 0x10, Vec::new());
    let stack = builder.stack(vec![location]);
    let sample = pepo_capture::Sample { stack, at_nanos: 5, count: 1, weight: 10, ..Default::default() };
    builder.sample(sample);
    builder.finish()
}

/// What is read can be written in every format and compared, and what we wrote we can read.
fn captures(bytes: &[u8]) {
    let Ok(capture) = read(bytes) else { return };
    for format in FORMATS {
        let written = format.write(&capture);
        if ["json", "html"].contains(&format.name) {
            assert!(read(&written).is_ok_and(|again| again == capture), "written and read again");
        }
    }
    let _ = Diff::of(&capture, &small(), By::Line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_to_start_from_have_names() {
        for (program, name) in symbol_corpus().iter().zip(["hot", "hot", "main.hot"]) {
            let names = named_functions(&Symbols::read(program, None, "").unwrap());
            assert!(names.iter().any(|one| one == name), "no {name} in {names:?}");
        }
        assert!(capture_corpus().iter().all(|capture| read(capture).is_ok()));
    }
}
