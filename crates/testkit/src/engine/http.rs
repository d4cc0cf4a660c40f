//! As much HTTP/1.1 over a unix socket as the Engine API needs: one request a connection.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What is sent.
pub(super) enum Body<'a> {
    /// Nothing.
    None,
    /// JSON.
    Json(&'a Value),
    /// A tar file.
    Tar(File),
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// If nobody answers within a minute, or the status is not a success: then with the engine's own words.
pub(super) fn request(socket: &Path, method: &str, path: &str, body: Body<'_>) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("no {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let head = |kind: &str, length: u64| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    match body {
        Body::None => stream.write_all(head("text/plain", 0).as_bytes())?,
        Body::Json(value) => {
            let text = value.to_string();
            stream.write_all(format!("{}{text}", head("application/json", text.len() as u64)).as_bytes())?;
        }
        Body::Tar(mut file) => {
            stream.write_all(head("application/x-tar", file.metadata()?.len()).as_bytes())?;
            io::copy(&mut file, &mut stream)?;
        }
    }
    let (status, answer) = read_answer(BufReader::new(stream))?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&answer).trim());
    }
    Ok(answer)
}

fn read_answer(mut stream: impl BufRead) -> Result<(u16, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("not an HTTP answer: {line:?}"))?;
    let mut chunked = false;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut stream, &mut body)?;
    } else {
        stream.read_to_end(&mut body)?;
    }
    Ok((status, body))
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).with_context(|| format!("not a chunk: {line:?}"))?;
        if size == 0 {
            return Ok(());
        }
        io::Read::by_ref(stream).take(size).read_to_end(body)?;
        stream.read_line(&mut line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_in_chunks() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(read_answer(whole.as_slice()).unwrap(), (404, b"no".to_vec()));
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read_answer(chunks.as_slice()).unwrap(), (200, b"abcd".to_vec()));
    }
}
