//! WebSocket (RFC 6455) as a client, as far as Node's inspector needs it: text in one frame from us, any frames from there.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The most bytes of one message.
const LARGEST: usize = 16 << 20;
/// The most bytes of the answer to the handshake.
const HANDSHAKE: usize = 8 << 10;

/// What a frame is (section 5.2).
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A connection.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    stream: S,
}

impl<S: Read + Write> WebSocket<S> {
    /// Shakes hands.
    pub(super) fn connect(mut stream: S, host: &str, path: &str) -> io::Result<WebSocket<S>> {
        // The key guards against proxies that repeat old answers; there is none on this machine.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: cGVwbyBsb29rcyBoZXJlLg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
            if answer.len() > HANDSHAKE {
                return Err(invalid("it answers no handshake"));
            }
        }
        match answer.starts_with(b"HTTP/1.1 101 ") {
            true => Ok(WebSocket { stream }),
            false => Err(invalid("it refuses a WebSocket")),
        }
    }

    /// Sends a text.
    pub(super) fn send(&mut self, text: &str) -> io::Result<()> {
        self.frame(TEXT, text.as_bytes())
    }

    /// The next message.
    pub(super) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let [first, second] = self.take::<2>()?;
            let length = match second & 0x7f {
                126 => u64::from(u16::from_be_bytes(self.take()?)),
                127 => u64::from_be_bytes(self.take()?),
                short => u64::from(short),
            };
            let fits = usize::try_from(length).ok().filter(|length| *length <= LARGEST - message.len());
            let length = fits.ok_or_else(|| invalid("its message is too large"))?;
            if second & 0x80 != 0 {
                return Err(invalid("it masks what it says"));
            }
            let start = message.len();
            // Memory grows with what comes, not with what is announced.
            let read = (&mut self.stream).take(length as u64).read_to_end(&mut message)?;
            if read < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match first & 0x0f {
                TEXT | CONTINUATION if first & 0x80 != 0 => return Ok(message),
                TEXT | CONTINUATION => {}
                PING => {
                    let payload = message.split_off(start);
                    self.frame(PONG, &payload)?;
                }
                CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => message.truncate(start),
            }
        }
    }

    /// One whole frame, masked as a client's are (section 5.3): by zeros, for nothing stands between.
    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | short as u8),
            middle @ ..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl WebSocket<TcpStream> {
    /// Waits for a message, whose beginning is not taken; from then on it may take `whole`.
    pub(super) fn has_something(&self, limit: Duration, whole: Duration) -> io::Result<bool> {
        // No time at all would be for ever.
        self.stream.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(whole))?;
        match peeked {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            },
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other side says, and what is said to it.
    struct Ends(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Ends {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn hears(bytes: &[u8]) -> WebSocket<Ends> {
        let said = [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", bytes].concat();
        WebSocket::connect(Ends(io::Cursor::new(said), Vec::new()), "127.0.0.1:9229", "/1").unwrap()
    }

    #[test]
    fn messages_are_put_together_and_pings_are_answered() {
        let mut socket = hears(b"\x01\x02ab\x89\x01!\x80\x01c\x8a\x01?\x81\x7e\x00\x03def");
        assert_eq!(socket.receive().unwrap(), b"abc");
        assert!(socket.stream.1.ends_with(b"\x8a\x81\0\0\0\0!"), "{:?}", socket.stream.1);
        assert_eq!(socket.receive().unwrap(), b"def");
        assert!(socket.receive().is_err());
        for length in [1, 200, 70_000] {
            let text = "x".repeat(length);
            let before = socket.stream.1.len();
            socket.send(&text).unwrap();
            assert!(socket.stream.1.len() > before + length && socket.stream.1.ends_with(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_too_large_masked_or_cut_off_is_an_error() {
        for bytes in [
            &b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x81\x7f\x00\x00\x00\x00\x01\x00\x00\x01",
            b"\x81\x81\0\0\0\0a",
            b"\x81\x05abc",
            b"\x88\x00",
            b"\x81",
        ] {
            assert!(hears(bytes).receive().is_err(), "{bytes:?}");
        }
        let long = vec![b'x'; HANDSHAKE + 1];
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", &long] {
            let ends = Ends(io::Cursor::new(answer.to_vec()), Vec::new());
            assert!(WebSocket::connect(ends, "127.0.0.1:9229", "/1").is_err());
        }
    }
}
