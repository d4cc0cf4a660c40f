//! Archives made by hand, so that they can be what no program would write.

/// One entry of a tar, with its data.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) link: &'a str,
    pub(crate) mode: u32,
    pub(crate) data: &'a [u8],
}

impl<'a> Member<'a> {
    pub(crate) fn file(name: &'a str, data: &'a str) -> Member<'a> {
        Member { name: name.as_bytes(), kind: b'0', link: "", mode: 0o644, data: data.as_bytes() }
    }

    pub(crate) fn link(name: &'a str, link: &'a str) -> Member<'a> {
        Member { name: name.as_bytes(), kind: b'2', link, mode: 0o777, data: b"" }
    }

    pub(crate) fn of_kind(name: &'a str, kind: u8) -> Member<'a> {
        Member { name: name.as_bytes(), kind, link: "", mode: 0o755, data: b"" }
    }

    fn bytes(&self, size: usize) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..self.name.len()].copy_from_slice(self.name);
        let mut put = |at: usize, text: String| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(100, format!("{:07o}", self.mode));
        put(108, format!("{:07o}", 0));
        put(116, format!("{:07o}", 0));
        put(124, format!("{size:011o}"));
        put(136, format!("{:011o}", 1_000_000_000));
        put(148, " ".repeat(8));
        put(157, self.link.to_owned());
        put(257, "ustar\x0000".to_owned());
        put(329, format!("{:07o}", 1));
        put(337, format!("{:07o}", 3));
        block[156] = self.kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend_from_slice(self.data);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }
}

/// A whole tar.
pub(crate) fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|member| member.bytes(member.data.len())).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A tar whose only entry says that it has so many bytes.
pub(crate) fn tar_that_says(size: usize, data: &str) -> Vec<u8> {
    let mut bytes = Member::file("x", data).bytes(size);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
