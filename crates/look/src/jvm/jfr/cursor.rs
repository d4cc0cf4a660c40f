//! Bytes, taken from the front; whoever takes more than there are is told.

use super::Malformed;

/// What is left.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// So many bytes were taken.
    pub(super) fn taken(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next so many.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    /// The next so many, to be read for themselves.
    pub(super) fn part(&mut self, count: usize) -> Result<Cursor<'a>, Malformed> {
        self.bytes(count).map(Cursor::new)
    }

    /// Seven bits of each byte, the lowest first, for as long as the eighth is set; a ninth byte is whole.
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for index in 0..9 {
            let byte = u64::from(self.byte()?);
            if index == 8 {
                return Ok(number | byte << 56);
            }
            number |= (byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Ok(number)
    }

    /// How many of something follow, or how many bytes: no more than are left.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if count > self.bytes.len() { Err(Malformed) } else { Ok(count) }
    }

    /// A text: none, empty, UTF-8, UTF-16 number by number, Latin-1, or one that a number stands for.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        Ok(match self.byte()? {
            0 | 1 => String::new(),
            2 => {
                self.number()?;
                String::new()
            }
            3 => {
                let count = self.count()?;
                String::from_utf8_lossy(self.bytes(count)?).into_owned()
            }
            4 => {
                let count = self.count()?;
                let units = (0..count).map(|_| self.number().map(|unit| unit as u16));
                String::from_utf16_lossy(&units.collect::<Result<Vec<u16>, _>>()?)
            }
            5 => {
                let count = self.count()?;
                self.bytes(count)?.iter().map(|byte| char::from(*byte)).collect()
            }
            _ => return Err(Malformed),
        })
    }
}
