//! Hostile bytes never panic the frame decoder, never make it take memory for what has not come, and never get it stuck.

use pepo_wire::dap::{FrameDecoder, MAX_MESSAGE, Message, encode_frame};

/// A small generator (xorshift64*), so that a failing round can be repeated by its number.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn damaged_streams_end_in_messages_or_an_error() {
    let good = [
        encode_frame(br#"{"seq":1,"type":"request","command":"initialize"}"#),
        encode_frame(br#"{"seq":2,"type":"event","event":"stopped","body":{}}"#),
    ]
    .concat();
    for round in 1..20_000 {
        let mut noise = Noise(round);
        let mut bytes = good.clone();
        for _ in 0..noise.below(6) {
            let at = noise.below(bytes.len());
            match noise.below(3) {
                0 => bytes[at] = noise.next() as u8,
                1 => drop(bytes.drain(at..(at + noise.below(9)).min(bytes.len()))),
                _ => bytes.insert(at, b"0123456789\r\n: "[noise.below(14)]),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut decoder = FrameDecoder::default();
        let mut fed = 0;
        while fed < bytes.len() {
            let end = (fed + 1 + noise.below(64)).min(bytes.len());
            decoder.feed(&bytes[fed..end]);
            fed = end;
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= MAX_MESSAGE);
                    if let Ok(message) = Message::parse(&frame) {
                        let _ = (message.kind(), message.seq(), message.error_text(), message.to_bytes());
                    }
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
}
