//! Which `pepo` binary is put into a helper: one for the target's machine that needs nothing of the target's image.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{PlatformError, engine::api::Image};

/// Where the binary for helpers comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentBinary {
    /// The running program itself, if it is a static Linux binary for that machine; else as [`AgentBinary::Folder`], the program's own folder.
    Own,
    /// This file.
    File(PathBuf),
    /// A folder with `pepo-ARCH-unknown-linux-musl` for each architecture, as in a release.
    Folder(PathBuf),
}

/// A binary that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) path: PathBuf,
    /// As Rust names it.
    pub(super) arch: String,
}

/// What an ELF file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Elf {
    arch: &'static str,
    /// Needs no loader.
    is_static: bool,
}

impl AgentBinary {
    /// The binary for a container of this image on this engine.
    pub(super) fn choose(&self, image: &Image, engine_arch: &str) -> Result<Chosen, PlatformError> {
        let arch = rust_name(engine_arch);
        let missing = |why: String| PlatformError::NoBinary { arch: arch.to_owned(), why };
        if !image.os.is_empty() && image.os != "linux" {
            return Err(missing(format!("the target's image is for {}", image.os)));
        }
        let image_arch = rust_name(&image.architecture);
        if !image_arch.is_empty() && image_arch != arch {
            return Err(missing(format!(
                "the target's image is for {image_arch}, which the engine emulates on {arch}; emulated processes cannot be debugged"
            )));
        }
        Ok(Chosen { path: self.for_machine(arch)?, arch: arch.to_owned() })
    }

    /// The binary for a machine that calls itself so (`x86_64`), as uname(2) and Rust have it.
    pub(crate) fn for_machine(&self, arch: &str) -> Result<PathBuf, PlatformError> {
        let missing = |why: String| PlatformError::NoBinary { arch: arch.to_owned(), why };
        for path in self.candidates(arch) {
            match elf(&path) {
                Ok(elf) if elf.arch != arch => {
                    return Err(missing(format!("{} is for {}", path.display(), elf.arch)));
                }
                Ok(elf) if !elf.is_static => {
                    return Err(missing(format!(
                        "{} is not static, so it may not run in the target's image",
                        path.display()
                    )));
                }
                Ok(_) => return Ok(path),
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && !matches!(self, AgentBinary::File(_)) => {}
                Err(error) => return Err(missing(format!("{}: {error}", path.display()))),
            }
        }
        Err(PlatformError::BinaryMissing { arch: arch.to_owned(), searched: self.looked_for(arch) })
    }

    fn candidates(&self, arch: &str) -> Vec<PathBuf> {
        match self {
            AgentBinary::File(path) => vec![path.clone()],
            AgentBinary::Folder(folder) => vec![in_folder(folder, arch)],
            AgentBinary::Own => {
                let own = Path::new("/proc/self/exe");
                let fits =
                    cfg!(target_os = "linux") && elf(own).is_ok_and(|elf| elf.arch == arch && elf.is_static);
                if fits { vec![own.to_owned()] } else { beside(arch).into_iter().collect() }
            }
        }
    }

    fn looked_for(&self, arch: &str) -> String {
        self.candidates(arch).iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

fn in_folder(folder: &Path, arch: &str) -> PathBuf {
    folder.join(format!("pepo-{arch}-unknown-linux-musl"))
}

fn beside(arch: &str) -> Option<PathBuf> {
    Some(in_folder(std::env::current_exe().ok()?.parent()?, arch))
}

/// From Go's name of an architecture to Rust's.
fn rust_name(go: &str) -> &str {
    match go {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        other => other,
    }
}

/// Reads the header and the kinds of segments (elf(5)).
fn elf(path: &Path) -> io::Result<Elf> {
    const PT_INTERP: u32 = 3;
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut file = File::open(path)?;
    let mut header = [0; 64];
    file.read_exact(&mut header).map_err(|_| bad("it is not an ELF file"))?;
    if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        return Err(bad("it is not a 64-bit little-endian ELF file"));
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let arch = match half(18) {
        62 => "x86_64",
        183 => "aarch64",
        _ => "another architecture",
    };
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[32..40]);
    let (offset, size, count) = (u64::from_le_bytes(offset), u64::from(half(54)), u64::from(half(56)));
    let mut is_static = true;
    for at in 0..count {
        let mut kind = [0; 4];
        file.seek(SeekFrom::Start(offset.saturating_add(at * size)))?;
        file.read_exact(&mut kind).map_err(|_| bad("its segments are cut off"))?;
        is_static &= u32::from_le_bytes(kind) != PT_INTERP;
    }
    Ok(Elf { arch, is_static })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(machine: u8, segments: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[18] = machine;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(segments.len()).unwrap();
        for &kind in segments {
            bytes.push(kind);
            bytes.extend([0; 55]);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn choose(file: &tempfile::NamedTempFile, image: &str, engine: &str) -> Result<String, String> {
        let image = Image { architecture: image.into(), os: "linux".into() };
        let chosen = AgentBinary::File(file.path().to_owned()).choose(&image, engine);
        chosen.map(|chosen| chosen.arch).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_static_binary_of_the_same_architecture_is_put_into_a_helper() {
        let (amd, arm, dynamic) = (file(62, &[1, 1]), file(183, &[1]), file(62, &[6, 3, 1]));
        assert_eq!(choose(&amd, "amd64", "amd64"), Ok("x86_64".into()));
        assert_eq!(choose(&amd, "", "amd64"), Ok("x86_64".into()));
        assert_eq!(choose(&arm, "arm64", "arm64"), Ok("aarch64".into()));
        assert!(choose(&arm, "amd64", "amd64").unwrap_err().contains("is for aarch64"));
        assert!(choose(&dynamic, "amd64", "amd64").unwrap_err().contains("not static"));
        assert!(choose(&amd, "arm64", "amd64").unwrap_err().contains("emulate"));
    }

    #[test]
    fn what_is_no_binary_is_refused_with_its_reason() {
        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "#!/bin/sh\n").unwrap();
        assert!(choose(&text, "amd64", "amd64").unwrap_err().contains("not an ELF file"));
        let mut cut = std::fs::read(file(62, &[1, 1]).path()).unwrap();
        cut.truncate(70);
        std::fs::write(text.path(), cut).unwrap();
        assert!(choose(&text, "amd64", "amd64").unwrap_err().contains("cut off"));
        let nowhere = AgentBinary::Folder("/nowhere".into()).choose(&Image::default(), "arm64").unwrap_err();
        assert!(nowhere.to_string().contains("/nowhere/pepo-aarch64-unknown-linux-musl"), "{nowhere}");
    }
}
