//! DAP messages on a byte stream: the base protocol's framing, and the envelope read leniently.
//!
//! Source: the base protocol of the Debug Adapter Protocol's specification. Bytes are hostile: every length is bounded
//! before memory is taken for it. The framing stands here because both sides need it: the agent beside an adapter, the
//! user's side beside an editor.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest message accepted, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The largest header block accepted, in bytes.
const MAX_HEADER: usize = 4 << 10;

/// What is wrong with a byte stream that should carry DAP.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The header block never ends.
    #[error("header longer than {MAX_HEADER} bytes")]
    HeaderTooLong,
    /// No usable `Content-Length`.
    #[error("header without a usable Content-Length: {0:?}")]
    BadHeader(String),
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(usize),
}

/// Cuts a byte stream into messages. Feed bytes in any portions, take messages out.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    bytes: VecDeque<u8>,
    /// Length of the message whose header was read.
    pending: Option<usize>,
}

impl FrameDecoder {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole message without its header, if one is there.
    ///
    /// # Errors
    /// The stream cannot be trusted any more after an error.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if self.pending.is_none() {
            self.pending = self.take_header()?;
        }
        match self.pending {
            Some(length) if self.bytes.len() >= length => {
                self.pending = None;
                Ok(Some(self.bytes.drain(..length).collect()))
            }
            _ => Ok(None),
        }
    }

    /// Reads a header block up to its empty line and returns the content length.
    fn take_header(&mut self) -> Result<Option<usize>, FrameError> {
        let bytes = self.bytes.make_contiguous();
        let window = &bytes[..bytes.len().min(MAX_HEADER)];
        let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if bytes.len() >= MAX_HEADER { Err(FrameError::HeaderTooLong) } else { Ok(None) };
        };
        let header = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = content_length(&header).ok_or(FrameError::BadHeader(header))?;
        if length > MAX_MESSAGE {
            return Err(FrameError::TooLong(length));
        }
        self.bytes.drain(..end + 4);
        Ok(Some(length))
    }
}

/// The value of `Content-Length`, whatever its case; other fields are ignored.
fn content_length(header: &str) -> Option<usize> {
    header.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// A message with its header, ready to be written.
#[must_use]
pub fn encode_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = format!("Content-Length: {}\r\n\r\n", message.len()).into_bytes();
    frame.extend_from_slice(message);
    frame
}

/// The fields that every DAP message has, read leniently; the rest is kept untouched.
///
/// Real adapters leave fields out or add their own, so nothing but `type` is required and nothing is dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The whole message as it came, in its own order.
    pub fields: Map<String, Value>,
}

/// The three kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// From either side; wants a response.
    Request,
    /// To a request.
    Response,
    /// From the adapter.
    Event,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// Not a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Message, serde_json::Error> {
        Ok(Message { fields: serde_json::from_slice(bytes)? })
    }

    /// As bytes, without header.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps of JSON values always serialise.
        serde_json::to_vec(&self.fields).unwrap_or_default()
    }

    /// A request; `arguments` of `Null` are left out.
    #[must_use]
    pub fn request(seq: i64, command: &str, arguments: Value) -> Message {
        let mut fields = Map::new();
        fields.insert("seq".into(), seq.into());
        fields.insert("type".into(), "request".into());
        fields.insert("command".into(), command.into());
        if !arguments.is_null() {
            fields.insert("arguments".into(), arguments);
        }
        Message { fields }
    }

    /// A response that says yes.
    #[must_use]
    pub fn response(seq: i64, request: &Message, body: Value) -> Message {
        let mut message = Message::answer(seq, request, true);
        if !body.is_null() {
            message.fields.insert("body".into(), body);
        }
        message
    }

    /// A response that says no; `error` is shown to the user.
    #[must_use]
    pub fn refusal(seq: i64, request: &Message, error: &str) -> Message {
        let mut message = Message::answer(seq, request, false);
        message.fields.insert("message".into(), error.into());
        message.fields.insert(
            "body".into(),
            serde_json::json!({"error": {"id": 1, "format": error, "showUser": true}}),
        );
        message
    }

    fn answer(seq: i64, request: &Message, success: bool) -> Message {
        let mut fields = Map::new();
        fields.insert("seq".into(), seq.into());
        fields.insert("type".into(), "response".into());
        fields.insert("request_seq".into(), request.seq().into());
        fields.insert("success".into(), success.into());
        fields.insert("command".into(), request.command().unwrap_or_default().into());
        Message { fields }
    }

    /// An event; a `body` of `Null` is left out.
    #[must_use]
    pub fn event(seq: i64, event: &str, body: Value) -> Message {
        let mut fields = Map::new();
        fields.insert("seq".into(), seq.into());
        fields.insert("type".into(), "event".into());
        fields.insert("event".into(), event.into());
        if !body.is_null() {
            fields.insert("body".into(), body);
        }
        Message { fields }
    }

    /// Request, response or event; `None` for something else.
    #[must_use]
    pub fn kind(&self) -> Option<MessageKind> {
        MessageKind::deserialize(self.fields.get("type")?).ok()
    }

    /// The sender's number; 0 when it is missing.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.integer("seq")
    }

    /// The number of the request this answers; 0 when it is missing.
    #[must_use]
    pub fn request_seq(&self) -> i64 {
        self.integer("request_seq")
    }

    /// The command of a request or response.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.fields.get("command")?.as_str()
    }

    /// The name of an event.
    #[must_use]
    pub fn event_name(&self) -> Option<&str> {
        self.fields.get("event")?.as_str()
    }

    /// Did the response say yes?
    #[must_use]
    pub fn success(&self) -> bool {
        self.fields.get("success").and_then(Value::as_bool).unwrap_or(false)
    }

    /// A request's arguments; `Null` when missing.
    #[must_use]
    pub fn arguments(&self) -> &Value {
        self.fields.get("arguments").unwrap_or(&Value::Null)
    }

    /// A response's or event's body; `Null` when missing.
    #[must_use]
    pub fn body(&self) -> &Value {
        self.fields.get("body").unwrap_or(&Value::Null)
    }

    /// The words of a response that says no.
    #[must_use]
    pub fn error_text(&self) -> String {
        let error = self.body().get("error");
        let format = error.and_then(|error| error.get("format")).and_then(Value::as_str);
        let short = self.fields.get("message").and_then(Value::as_str);
        let text = format.or(short).unwrap_or("no reason given");
        match error.and_then(|error| error.get("variables")).and_then(Value::as_object) {
            None => text.to_owned(),
            Some(variables) => variables.iter().fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default())
            }),
        }
    }

    /// Puts another number on the message.
    pub fn set_seq(&mut self, seq: i64) {
        self.fields.insert("seq".into(), seq.into());
    }

    fn integer(&self, name: &str) -> i64 {
        self.fields.get(name).and_then(Value::as_i64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(portions: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let mut decoder = FrameDecoder::default();
        let mut out = Vec::new();
        for portion in portions {
            decoder.feed(portion);
            while let Some(frame) = decoder.next_frame()? {
                out.push(String::from_utf8(frame).unwrap());
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let stream = [encode_frame(b"{}"), encode_frame(b""), encode_frame("\u{1f383}".as_bytes())].concat();
        for size in 1..stream.len() {
            let portions: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(decode(&portions).unwrap(), ["{}", "", "\u{1f383}"], "portions of {size}");
        }
    }

    #[test]
    fn other_fields_and_cases_are_accepted() {
        assert_eq!(decode(&[b"Content-Type: x\r\ncontent-length:  2\r\n\r\n{}"]).unwrap(), ["{}"]);
    }

    #[test]
    fn hostile_headers_are_refused_before_memory_is_taken() {
        assert_eq!(
            decode(&[b"Content-Length: 99999999999\r\n\r\n"]),
            Err(FrameError::TooLong(99_999_999_999))
        );
        assert_eq!(decode(&[&[b'a'; MAX_HEADER]]), Err(FrameError::HeaderTooLong));
        for header in
            ["Content-Length: -1\r\n\r\n", "Content-Length: x\r\n\r\n", "Other: 1\r\n\r\n", "\r\n\r\n"]
        {
            assert!(matches!(decode(&[header.as_bytes()]), Err(FrameError::BadHeader(_))), "{header:?}");
        }
    }

    #[test]
    fn unknown_fields_survive_in_their_order() {
        let text = br#"{"zeta":1,"type":"event","event":"x","body":{"$__ext":[1]},"seq":7}"#;
        assert_eq!(Message::parse(text).unwrap().to_bytes(), text);
    }

    #[test]
    fn variables_are_put_into_an_error() {
        let message = Message::parse(
            br#"{"type":"response","success":false,"body":{"error":{"format":"no {what}","variables":{"what":"luck"}}}}"#,
        );
        assert_eq!(message.unwrap().error_text(), "no luck");
    }
}
