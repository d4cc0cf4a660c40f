//! The archive that carries the binary into a helper, sent as it is read.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::{binary::Chosen, spec::BINARY};
use crate::PlatformError;

/// Archives are made of blocks of so many bytes, and end with two empty ones (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: u64 = 512;
/// Read so much at once, in bytes.
const PIECE: usize = 256 << 10;

/// A tar archive with the binary alone in it, executable, owned by root.
pub(super) async fn archive(
    binary: &Chosen,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, PlatformError> {
    let failed = |source| PlatformError::File { path: binary.path.clone(), source };
    let file = tokio::fs::File::open(&binary.path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let header = header(size).map_err(failed)?;
    let padding = size.next_multiple_of(BLOCK) - size + 2 * BLOCK;
    let padding = vec![0; usize::try_from(padding).unwrap_or_default()];
    let one = |bytes: Vec<u8>| stream::once(async move { Ok(Bytes::from(bytes)) });
    Ok(one(header).chain(ReaderStream::with_capacity(file.take(size), PIECE)).chain(one(padding)))
}

fn header(size: u64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(BINARY)?;
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn the_archive_holds_the_binary_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, 511, 512, 513, 300_000] {
            let path = folder.path().join("binary");
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let pieces: Vec<_> =
                archive(&Chosen { path, arch: "x86_64".into() }).await.unwrap().collect().await;
            let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
            assert_eq!(bytes.len() % 512, 0);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entries = archive.entries().unwrap();
            let mut entry = entries.next().unwrap().unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some("pepo-agent"));
            assert_eq!((entry.header().mode().unwrap(), entry.header().uid().unwrap()), (0o755, 0));
            let mut seen = Vec::new();
            entry.read_to_end(&mut seen).unwrap();
            assert_eq!(seen, content);
            drop(entry);
            assert!(entries.next().is_none());
        }
    }
}
