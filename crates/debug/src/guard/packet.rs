//! Packets of gdb's remote serial protocol: cutting a byte stream into them, and writing them. No input or output here.
//!
//! Source: the appendix "gdb Remote Serial Protocol" of gdb's manual, and LLDB's extensions to it. Both sides are hostile:
//! a packet is bounded before memory is taken, and whatever cannot be understood ends the stream.

/// The longest packet accepted, in bytes. Stubs announce 128 KiB and less.
pub const MAX_PACKET: usize = 1 << 20;

/// One thing that a side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `$…#xx`: what stands between, as it was sent (escapes and run lengths are still in it).
    Packet(Vec<u8>),
    /// `%…#xx`: a notification; it is never acknowledged.
    Notification(Vec<u8>),
    /// `+`.
    Ack,
    /// `-`: send the last packet again.
    Nak,
    /// The byte 0x03 outside a packet: stop the target.
    Interrupt,
}

/// Why a stream cannot be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Longer than [`MAX_PACKET`].
    #[error("a packet of more than {MAX_PACKET} bytes")]
    TooLong,
    /// The two digits after `#` do not fit.
    #[error("a packet with a wrong checksum")]
    Checksum,
}

/// Cuts a byte stream into [`Item`]s. Bytes between packets that mean nothing are skipped, as the manual asks.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How far `bytes` was searched for the packet's end.
    searched: usize,
}

impl Decoder {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole item, if one is there.
    ///
    /// # Errors
    /// The stream cannot be followed after an error.
    pub fn next_item(&mut self) -> Result<Option<Item>, PacketError> {
        loop {
            let Some(&first) = self.bytes.first() else { return Ok(None) };
            let item = match first {
                b'+' => Item::Ack,
                b'-' => Item::Nak,
                0x03 => Item::Interrupt,
                b'$' | b'%' => return self.take_packet(first),
                _ => {
                    let skip = self.bytes.iter().take_while(|byte| !b"+-$%\x03".contains(byte)).count();
                    self.bytes.drain(..skip);
                    continue;
                }
            };
            self.bytes.drain(..1);
            return Ok(Some(item));
        }
    }

    fn take_packet(&mut self, first: u8) -> Result<Option<Item>, PacketError> {
        let from = self.searched.max(1);
        let Some(end) = self.bytes.get(from..).and_then(|rest| rest.iter().position(|&byte| byte == b'#'))
        else {
            self.searched = self.bytes.len();
            return if self.bytes.len() > MAX_PACKET { Err(PacketError::TooLong) } else { Ok(None) };
        };
        let end = from + end;
        if end > MAX_PACKET {
            return Err(PacketError::TooLong);
        }
        let Some(digits) = self.bytes.get(end + 1..end + 3) else {
            self.searched = end;
            return Ok(None);
        };
        let payload = self.bytes.get(1..end).unwrap_or_default();
        if hex(digits) != Some(u64::from(checksum(payload))) {
            return Err(PacketError::Checksum);
        }
        let payload = payload.to_vec();
        self.bytes.drain(..end + 3);
        self.searched = 0;
        Ok(Some(if first == b'$' { Item::Packet(payload) } else { Item::Notification(payload) }))
    }
}

/// A packet ready to be sent. The payload is already escaped where it needs to be.
#[must_use]
pub fn encode(payload: &[u8]) -> Vec<u8> {
    frame(b'$', payload)
}

/// A notification ready to be sent.
#[must_use]
pub fn encode_notification(payload: &[u8]) -> Vec<u8> {
    frame(b'%', payload)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    out.push(first);
    out.extend_from_slice(payload);
    out.extend_from_slice(format!("#{:02x}", checksum(payload)).as_bytes());
    out
}

fn checksum(payload: &[u8]) -> u8 {
    payload.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// A hexadecimal number; `None` when it is none or does not fit.
#[must_use]
pub fn hex(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign, the protocol does not.
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(portions: &[&[u8]]) -> Result<Vec<Item>, PacketError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for portion in portions {
            decoder.feed(portion);
            while let Some(item) = decoder.next_item()? {
                out.push(item);
            }
        }
        Ok(out)
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let stream =
            [&b"+"[..], &encode(b"vCont;c"), b"\x03-", &encode_notification(b"Stop:T05"), &encode(b"")]
                .concat();
        let expected = [
            Item::Ack,
            Item::Packet(b"vCont;c".to_vec()),
            Item::Interrupt,
            Item::Nak,
            Item::Notification(b"Stop:T05".to_vec()),
            Item::Packet(Vec::new()),
        ];
        for size in 1..stream.len() {
            let portions: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(items(&portions).unwrap(), expected, "portions of {size}");
        }
    }

    #[test]
    fn an_interrupt_byte_inside_a_packet_is_data() {
        assert_eq!(items(&[&encode(b"X1000,1:\x03")]).unwrap(), [Item::Packet(b"X1000,1:\x03".to_vec())]);
    }

    #[test]
    fn noise_between_packets_is_skipped() {
        assert_eq!(items(&[b"noise\r\n$OK#9a"]).unwrap(), [Item::Packet(b"OK".to_vec())]);
    }

    #[test]
    fn hostile_streams_end_with_an_error() {
        assert_eq!(items(&[b"$OK#9b"]), Err(PacketError::Checksum));
        assert_eq!(items(&[b"$OK#+a"]), Err(PacketError::Checksum));
        let long = vec![b'a'; MAX_PACKET + 1];
        assert_eq!(items(&[b"$", &long]), Err(PacketError::TooLong));
        assert_eq!(items(&[b"$", &long, b"#00"]), Err(PacketError::TooLong));
    }

    #[test]
    fn an_unfinished_packet_is_no_item() {
        assert_eq!(items(&[b"$Z0,1000"]).unwrap(), []);
    }
}
