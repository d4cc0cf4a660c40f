//! Text of `str` objects.

use super::{
    memory::Memory,
    offsets::{Offsets, fixed},
};

/// The text, at most so many characters of it; nothing for what is no compact `str` (PEP 393).
pub(crate) fn read(memory: &impl Memory, offsets: &Offsets, address: u64, most: usize) -> Option<String> {
    let head = memory.bytes(address.checked_add(fixed::SIZE)?, 24)?;
    let number = |at: usize| Some(u64::from_ne_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let length = usize::try_from(number(0)?).ok().filter(|length| *length <= isize::MAX as usize)?;
    let state = *head.get((fixed::STR_STATE - fixed::SIZE) as usize)?;
    let (kind, compact, ascii) = (usize::from(state >> 2 & 7), state >> 5 & 1, state >> 6 & 1);
    if compact == 0 || !matches!(kind, 1 | 2 | 4) {
        return None;
    }
    let start = if ascii == 1 { offsets.object.ascii } else { offsets.object.compact };
    let bytes = match length.min(most) {
        0 => Vec::new(),
        length => memory.bytes(address.checked_add(start)?, length * kind)?,
    };
    Some(decode(&bytes, kind))
}

fn decode(bytes: &[u8], kind: usize) -> String {
    let letter = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    match kind {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => bytes.as_chunks::<2>().0.iter().map(|two| letter(u16::from_ne_bytes(*two).into())).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|four| letter(u32::from_ne_bytes(*four))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::memory::{Part, Still},
        *,
    };

    fn object(length: u64, state: u8, text: &[u8]) -> Still {
        let mut bytes = vec![0; 40];
        bytes[16..24].copy_from_slice(&length.to_ne_bytes());
        bytes[32] = state;
        bytes.extend(text);
        Still(vec![Part { address: 0x1000, bytes }])
    }

    #[test]
    fn text_of_each_width_is_read_and_what_is_hostile_is_nothing() {
        let offsets = Offsets::known(12).unwrap();
        let ascii = 1 << 2 | 1 << 5 | 1 << 6;
        assert_eq!(read(&object(3, ascii, b"abc"), &offsets, 0x1000, 9).as_deref(), Some("abc"));
        assert_eq!(read(&object(3, ascii, b"abc"), &offsets, 0x1000, 2).as_deref(), Some("ab"));
        let wide = [&[0; 16][..], &[0x42, 0x04, 0x38, 0x04]].concat();
        assert_eq!(read(&object(2, 2 << 2 | 1 << 5, &wide), &offsets, 0x1000, 9).as_deref(), Some("ти"));
        for (length, state) in [(u64::MAX, ascii), (4, ascii), (3, 0), (3, 3 << 2 | 1 << 5)] {
            assert_eq!(read(&object(length, state, b"abc"), &offsets, 0x1000, 9), None);
        }
        assert_eq!(read(&object(3, ascii, b"abc"), &offsets, u64::MAX - 4, 9), None);
    }
}
