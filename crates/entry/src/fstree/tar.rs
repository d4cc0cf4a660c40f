//! tar, as GNU tar, BSD tar, Go, Python and others write it: ustar, pax, GNU's long names, sparse files of both.
//!
//! Bytes from anywhere: every length is bounded before memory is taken for it.

use std::io::{self, Read};

/// A block.
const BLOCK: usize = 512;
/// As long as this may what stands before an entry be (pax records, long names).
const LONGEST_BEFORE: u64 = 1 << 20;
/// As many pieces may a sparse file have.
const MOST_PIECES: usize = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file with data.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    SymLink,
    /// A folder.
    Folder,
    /// A named pipe.
    Pipe,
    /// A device.
    Device {
        /// Block or character.
        block: bool,
        /// Its numbers.
        numbers: (u32, u32),
    },
}

/// One entry, as the archive has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    /// Its path, not yet judged.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where a link leads.
    pub(crate) link: Vec<u8>,
    /// Permissions, with setuid, setgid and sticky.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) user: u32,
    /// Group.
    pub(crate) group: u32,
    /// When it was modified: seconds and nanoseconds.
    pub(crate) time: (i64, u32),
    /// Extended attributes.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// How long the file is, with its holes.
    pub(crate) size: u64,
    /// Where its data goes: offset and length, in order.
    pub(crate) pieces: Vec<(u64, u64)>,
}

/// Entries, one after the other.
pub(crate) struct Tar<R> {
    input: R,
    /// Bytes of the last entry's data that were not read yet, and of the padding after it.
    left: u64,
    padding: u64,
    /// Whether the end was seen.
    over: bool,
}

/// What stood before an entry and belongs to it.
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u32>,
    group: Option<u32>,
    time: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

/// How pax tells of a sparse file.
#[derive(Default)]
struct Sparse {
    /// 1.0: the map stands before the data.
    map_in_data: bool,
    real: Option<u64>,
    name: Option<Vec<u8>>,
    pieces: Option<Vec<(u64, u64)>>,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> Tar<R> {
    /// Entries of what `input` gives.
    pub(crate) fn new(input: R) -> Tar<R> {
        Tar { input, left: 0, padding: 0, over: false }
    }

    /// The next entry; its data is then read from us.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut before = Before::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => pax(&self.whole(size)?, &mut before)?,
                b'L' => before.path = Some(ended(self.whole(size)?)),
                b'K' => before.link = Some(ended(self.whole(size)?)),
                // Records for all that follows (git's say of which commit it is), and the volume's label.
                b'g' | b'V' => drop(self.whole(size)?),
                kind => return self.member(&header, kind, size, before).map(Some),
            }
        }
    }

    /// The rest of the stream after the last entry, so that whatever sums it up has seen all.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop)
    }

    /// Passes over what is left of the last entry.
    fn skip(&mut self) -> io::Result<()> {
        let left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(left), &mut io::sink())?;
        if skipped == left { Ok(()) } else { Err(cut()) }
    }

    /// The next header; none at the end mark.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.over {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut(),
            _ => error,
        })?;
        if block.iter().all(|byte| *byte == 0) {
            self.over = true;
            return Ok(None);
        }
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        let said = number(&block[148..156])?.cast_signed();
        match said == unsigned || said == signed {
            true => Ok(Some(block)),
            false => Err(wrong("a header's checksum is wrong")),
        }
    }

    /// All of a small entry's data.
    fn whole(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST_BEFORE {
            return Err(wrong(format!("what stands before an entry has {size} bytes")));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes of data come next, padded to a whole block.
    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn member(&mut self, header: &[u8; BLOCK], kind: u8, size: u64, before: Before) -> io::Result<Member> {
        let mut path = before.sparse.name.clone().or(before.path.clone()).unwrap_or_else(|| name(header));
        let kind = match kind {
            b'0' | 0 if path.ends_with(b"/") => Kind::Folder,
            b'0' | b'7' | b'S' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymLink,
            b'3' | b'4' => Kind::Device {
                block: kind == b'4',
                numbers: (small(&header[329..337])?, small(&header[337..345])?),
            },
            b'5' | b'D' => Kind::Folder,
            b'6' => Kind::Pipe,
            other => return Err(wrong(format!("an entry of the unknown kind {:?}", char::from(other)))),
        };
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let mut member = Member {
            path,
            kind,
            link: before.link.clone().unwrap_or_else(|| ended(header[157..257].to_owned())),
            mode: small(&header[100..108])? & 0o7777,
            user: before.user.map_or_else(|| small(&header[108..116]), Ok)?,
            group: before.group.map_or_else(|| small(&header[116..124]), Ok)?,
            time: before
                .time
                .map_or_else(|| number(&header[136..148]).map(|time| (time.cast_signed(), 0)), Ok)?,
            attributes: before.attributes.clone(),
            size: 0,
            pieces: Vec::new(),
        };
        let stored = before.size.unwrap_or(size);
        if kind == Kind::File {
            self.layout(header, stored, &before, &mut member)?;
        } else if header[156] == b'D' || kind == Kind::Folder {
            // GNU's lists of names, and sizes that some write for folders.
            self.expect(if header[156] == b'D' { stored } else { 0 });
        }
        Ok(member)
    }

    /// Where the data of a file goes.
    fn layout(
        &mut self,
        header: &[u8; BLOCK],
        stored: u64,
        before: &Before,
        member: &mut Member,
    ) -> io::Result<()> {
        let sparse = &before.sparse;
        if header[156] == b'S' {
            member.size = number(&header[483..495])?;
            member.pieces = self.gnu_map(header)?;
            self.expect(stored);
        } else if sparse.map_in_data {
            self.expect(stored);
            member.size = sparse.real.ok_or_else(|| wrong("a sparse file without its size"))?;
            member.pieces = self.pax_map()?;
        } else if let Some(pieces) = &sparse.pieces {
            self.expect(stored);
            member.size = sparse.real.ok_or_else(|| wrong("a sparse file without its size"))?;
            member.pieces.clone_from(pieces);
        } else {
            self.expect(stored);
            member.size = stored;
            member.pieces = if stored > 0 { vec![(0, stored)] } else { Vec::new() };
            return Ok(());
        }
        fits(member, self.left)
    }

    /// GNU's map: four pieces in the header, and more in the blocks after it.
    fn gnu_map(&mut self, header: &[u8; BLOCK]) -> io::Result<Vec<(u64, u64)>> {
        let mut pieces = Vec::new();
        let mut more = add_pieces(&header[386..482], &mut pieces)? && header[482] != 0;
        more |= header[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            self.input.read_exact(&mut block).map_err(|_| cut())?;
            add_pieces(&block[..504], &mut pieces)?;
            more = block[504] != 0;
        }
        Ok(pieces)
    }

    /// pax's map of version 1.0: decimal lines before the data, padded to a block.
    fn pax_map(&mut self) -> io::Result<Vec<(u64, u64)>> {
        let mut used = 0;
        let mut line = || -> io::Result<u64> {
            let mut value = 0_u64;
            for _ in 0..21 {
                let mut byte = [0];
                self.read_exact(&mut byte).map_err(|_| cut())?;
                used += 1;
                match byte[0] {
                    b'\n' => return Ok(value),
                    digit @ b'0'..=b'9' => {
                        let next = value
                            .checked_mul(10)
                            .and_then(|value| value.checked_add(u64::from(digit - b'0')));
                        value = next.ok_or_else(|| wrong("a number in a sparse file's map is too large"))?;
                    }
                    _ => break,
                }
            }
            Err(wrong("a sparse file's map is not well formed"))
        };
        let count = line()?;
        if count > MOST_PIECES as u64 {
            return Err(wrong(format!("a sparse file of {count} pieces")));
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            let piece = (line()?, line()?);
            if piece.1 > 0 {
                pieces.push(piece);
            }
        }
        let rest = (BLOCK - used % BLOCK) % BLOCK;
        self.read_exact(&mut [0; BLOCK][..rest]).map_err(|_| cut())?;
        Ok(pieces)
    }
}

/// The data of the current entry.
impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(cut());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle")
}

/// Pieces must be in order, within the file, and as long as the data that is there.
fn fits(member: &Member, stored: u64) -> io::Result<()> {
    let mut end = 0;
    let mut sum = 0_u64;
    for (offset, length) in &member.pieces {
        if *offset < end {
            return Err(wrong("a sparse file's pieces overlap"));
        }
        end = offset.checked_add(*length).ok_or_else(|| wrong("a sparse file's piece is too long"))?;
        sum += length;
    }
    match end <= member.size && sum == stored {
        true => Ok(()),
        false => Err(wrong("a sparse file's map does not fit its data")),
    }
}

/// Adds pieces of 12 + 12 bytes until an empty one.
fn add_pieces(bytes: &[u8], pieces: &mut Vec<(u64, u64)>) -> io::Result<bool> {
    for piece in bytes.chunks_exact(24) {
        if piece[0] == 0 {
            return Ok(false);
        }
        let piece = (number(&piece[..12])?, number(&piece[12..])?);
        if pieces.len() >= MOST_PIECES {
            return Err(wrong("a sparse file of too many pieces"));
        }
        if piece.1 > 0 {
            pieces.push(piece);
        }
    }
    Ok(true)
}

/// The name in a header, after the prefix that ustar has.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = ended(header[..100].to_owned());
    let prefix = ended(header[345..500].to_owned());
    match &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix.as_slice(), b"/", name.as_slice()].concat(),
        false => name,
    }
}

/// Up to the first zero.
fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// An octal number, or one of base 256 whose first bit is set.
fn number(field: &[u8]) -> io::Result<u64> {
    if let Some((first @ 0x80.., rest)) = field.split_first() {
        let negative = first & 0x40 != 0;
        let start = if negative { u64::MAX << 7 | u64::from(*first) } else { u64::from(first & 0x7f) };
        let skip = rest.len().saturating_sub(8);
        let surplus = if negative { 0xff } else { 0 };
        if rest[..skip].iter().any(|byte| *byte != surplus)
            || (skip > 0 && start & 0x7f != u64::from(surplus) & 0x7f)
        {
            return Err(wrong("a number is too large"));
        }
        return Ok(rest[skip..]
            .iter()
            .fold(if skip > 0 { 0 } else { start }, |value, byte| value << 8 | u64::from(*byte)));
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| *byte == 0 || *byte == b' ').unwrap_or(text.len());
    text[..end].iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' if value >> 61 == 0 => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err(wrong("a number is not octal")),
    })
}

fn small(field: &[u8]) -> io::Result<u32> {
    u32::try_from(number(field)?).map_err(|_| wrong("an owner, a mode or a device is too large"))
}

/// Records `LENGTH NAME=VALUE\n`.
fn pax(mut bytes: &[u8], before: &mut Before) -> io::Result<()> {
    let broken = || wrong("pax records are not well formed");
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length: usize = text(&bytes[..blank])?.parse().map_err(|_| broken())?;
        let record =
            bytes.get(blank + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        record_of(text(&record[..equals])?, &record[equals + 1..], before)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| wrong("a pax record's name is not UTF-8"))
}

fn record_of(name: &str, value: &[u8], before: &mut Before) -> io::Result<()> {
    let number = || -> io::Result<u64> {
        text(value)?.parse().map_err(|_| wrong(format!("the pax record {name} is no number")))
    };
    let small = || -> io::Result<u32> {
        number()?.try_into().map_err(|_| wrong(format!("the pax record {name} is too large")))
    };
    match name {
        "path" => before.path = Some(value.to_owned()),
        "linkpath" => before.link = Some(value.to_owned()),
        "size" => before.size = Some(number()?),
        "uid" => before.user = Some(small()?),
        "gid" => before.group = Some(small()?),
        "mtime" => before.time = Some(time(text(value)?)?),
        "GNU.sparse.major" => before.sparse.map_in_data = number()? == 1,
        "GNU.sparse.realsize" | "GNU.sparse.size" => before.sparse.real = Some(number()?),
        "GNU.sparse.name" => before.sparse.name = Some(value.to_owned()),
        "GNU.sparse.map" => before.sparse.pieces = Some(comma_map(text(value)?)?),
        "GNU.sparse.offset" | "GNU.sparse.numbytes" => {
            return Err(wrong("sparse files of pax version 0.0 are not supported"));
        }
        _ => {
            if let Some(name) = name.strip_prefix("SCHILY.xattr.") {
                before.attributes.push((name.as_bytes().to_owned(), value.to_owned()));
            }
        }
    }
    Ok(())
}

/// pax's map of version 0.1: `offset,length,offset,length`.
fn comma_map(text: &str) -> io::Result<Vec<(u64, u64)>> {
    let numbers: Result<Vec<u64>, _> =
        text.split(',').filter(|part| !part.is_empty()).map(str::parse).collect();
    let numbers = numbers.map_err(|_| wrong("a sparse file's map is not well formed"))?;
    let pieces = numbers.chunks(2).map(|pair| match pair {
        [offset, length] => Ok((*offset, *length)),
        _ => Err(wrong("a sparse file's map is not well formed")),
    });
    let pieces: io::Result<Vec<_>> = pieces.collect();
    Ok(pieces?.into_iter().filter(|(_, length)| *length > 0).collect())
}

/// `1700000000.123456789`, also negative.
fn time(text: &str) -> io::Result<(i64, u32)> {
    let broken = |_| wrong(format!("the time {text:?} is no number"));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(broken)?;
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(broken)?;
    match whole.starts_with('-') && nanoseconds > 0 {
        true => Ok((seconds - 1, 1_000_000_000 - nanoseconds)),
        false => Ok((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_of_base_256() {
        for (field, expected) in [
            (b"0000644\0".as_slice(), 0o644),
            (b"   17 \0\0", 0o17),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", 258),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", u64::MAX - 1),
            (b"\x80\0\0\0\0\0\x03\xe8", 1000),
        ] {
            assert_eq!(number(field).unwrap(), expected, "{field:?}");
        }
        for field in [b"9999".as_slice(), b"\x80\x01\0\0\0\0\0\0\0\0\x01\x02", b"777777777777777777777777"] {
            assert!(number(field).is_err(), "{field:?}");
        }
    }

    #[test]
    fn records_belong_to_the_next_entry() {
        let mut before = Before::default();
        pax(b"16 path=a/b/c/d\n26 mtime=-1.5000000000000\n30 SCHILY.xattr.user.x=a=b\nc\xff\n", &mut before)
            .unwrap();
        assert_eq!(before.path.as_deref(), Some(b"a/b/c/d".as_slice()));
        assert_eq!(before.time, Some((-2, 500_000_000)));
        assert_eq!(before.attributes, [(b"user.x".to_vec(), b"a=b\nc\xff".to_vec())]);
        for broken in [b"99 path=a\n".as_slice(), b"9 path=a", b"x path=a\n", b"0 a=\n", b"9 patha\n"] {
            assert!(pax(broken, &mut Before::default()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_is_cut_is_refused() {
        assert_eq!(Tar::new([].as_slice()).next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Tar::new([0; BLOCK].as_slice()).next().unwrap(), None);
        assert!(Tar::new([b'x'; 3 * BLOCK].as_slice()).next().is_err());
    }
}
