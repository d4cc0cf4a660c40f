//! A server's resources, by its REST: attachments and debug requests, as they are and as they change.

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pepo_wire::{
    Code, Failure,
    agent::Hint,
    resource::{DebugRequest, Kind, Object, RequestSpec},
};
use serde_json::{Value, json};

use super::ServerAddress;

/// The largest answer that is read, in bytes; one event of a watch has as much.
const MOST: usize = 16 << 20;
/// Objects of one page.
const PAGE: usize = 500;

/// A server's resources.
#[derive(Clone, Debug)]
pub struct Resources {
    address: ServerAddress,
}

/// A change, with the object as it became, or as it last was.
#[derive(Debug)]
pub struct ResourceChange<S: Kind> {
    /// It is no more.
    pub is_gone: bool,
    /// The object.
    pub object: Object<S>,
}

impl Resources {
    /// Dials nothing yet.
    #[must_use]
    pub fn new(address: ServerAddress) -> Resources {
        Resources { address }
    }

    /// All that the caller may see.
    ///
    /// # Errors
    /// The server's problem, or why it cannot be asked.
    pub async fn list<S: Kind>(&self) -> Result<Vec<Object<S>>, Failure> {
        let (mut all, mut more) = (Vec::new(), String::new());
        loop {
            let path = format!("{}?limit={PAGE}&continue={more}", S::SHORT);
            let mut page = self.call(Method::GET, &path, None, None).await?;
            for item in page["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
                all.push(self.read(item)?);
            }
            match page["metadata"]["continue"].as_str() {
                // Names of objects need no percent signs.
                Some(next) => more = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    /// The object of this name.
    ///
    /// # Errors
    /// As [`Resources::list`].
    pub async fn get<S: Kind>(&self, name: &str) -> Result<Object<S>, Failure> {
        self.read(self.call(Method::GET, &path::<S>(name)?, None, None).await?)
    }

    /// Ends or removes it; gives it as it ended, or as it was.
    ///
    /// # Errors
    /// As [`Resources::list`].
    pub async fn delete<S: Kind>(&self, name: &str) -> Result<Object<S>, Failure> {
        self.read(self.call(Method::DELETE, &path::<S>(name)?, None, None).await?)
    }

    /// Makes a debug request; said twice with one key, it is made once.
    ///
    /// # Errors
    /// As [`Resources::list`].
    pub async fn request(&self, spec: &RequestSpec, key: Option<&str>) -> Result<DebugRequest, Failure> {
        let mut spec = serde_json::to_value(spec)
            .map_err(|error| Failure::new(Code::Internal, "the wish cannot be written").because_of(&error))?;
        // The server says who it is.
        spec.as_object_mut().map(|fields| fields.remove("who"));
        let body = json!({ "kind": RequestSpec::KIND, "spec": spec });
        self.read(self.call(Method::POST, RequestSpec::SHORT, Some(&body), key).await?)
    }

    /// Every change after this version, until the stream breaks.
    ///
    /// # Errors
    /// As [`Resources::list`]; the stream ends with its first error.
    pub async fn watch<S: Kind>(
        &self,
        version: &str,
    ) -> Result<impl Stream<Item = Result<ResourceChange<S>, Failure>> + use<S>, Failure> {
        let path = format!("{}?watch=true&resourceVersion={version}", S::SHORT);
        let answer = self.send(Method::GET, &path, None, None).await?;
        let this = self.clone();
        let state = Some((answer.into_body(), Vec::new()));
        Ok(stream::unfold(state, move |state| {
            let this = this.clone();
            async move {
                let (mut body, mut buffer) = state?;
                match this.event(&mut body, &mut buffer).await {
                    Ok(Some(changed)) => Some((Ok(changed), Some((body, buffer)))),
                    Ok(None) => None,
                    Err(failure) => Some((Err(failure), None)),
                }
            }
        })
        .boxed())
    }

    /// The next change of a stream; nothing at its end.
    async fn event<S: Kind>(
        &self,
        body: &mut Incoming,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<ResourceChange<S>>, Failure> {
        loop {
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = buffer.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block);
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|value| value.trim().to_owned())
                };
                let (event, data) = (field("event:"), field("data:"));
                let (Some(event), Some(data)) = (event, data) else { continue };
                let data: Value = serde_json::from_str(&data).map_err(|error| self.confused(&error))?;
                if event == "ERROR" {
                    return Err(of_problem(&data));
                }
                return Ok(Some(ResourceChange { is_gone: event == "DELETED", object: self.read(data)? }));
            }
            let Some(frame) = body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Some(data) = frame.data_ref() {
                buffer.extend_from_slice(data);
            }
            if buffer.len() > MOST {
                return Err(Failure::new(Code::TooLarge, format!("an event is larger than {MOST} bytes")));
            }
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let answer = self.send(method, path, body, key).await?;
        serde_json::from_slice(&self.whole(answer).await?).map_err(|error| self.confused(&error))
    }

    /// Asks, and gives the answer when all is well.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.address.connect().await.map_err(|error| self.address.unreachable(&error))?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.address));
        if let Some(bearer) = self.address.bearer() {
            request = request.header("authorization", bearer);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| {
            Failure::new(Code::Usage, "this cannot be asked of a server").because_of(&error)
        })?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        match serde_json::from_slice(&self.whole(answer).await?) {
            Ok(problem) => Err(of_problem(&problem)),
            Err(_) => {
                Err(Failure::new(Code::NotOffered, format!("the server {} has no such page", self.address))
                    .because(status)
                    .hint("it is older than this command"))
            }
        }
    }

    /// The body of an answer.
    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, Failure> {
        let read = Limited::new(answer.into_body(), MOST).collect().await;
        Ok(read.map_err(|error| self.broken(&*error))?.to_bytes())
    }

    fn read<S: Kind>(&self, object: Value) -> Result<Object<S>, Failure> {
        serde_json::from_value(object).map_err(|error| self.confused(&error))
    }

    fn confused(&self, error: &serde_json::Error) -> Failure {
        Failure::new(Code::StreamBroken, format!("the answer of {} is not understood", self.address))
            .because_of(error)
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::new(Code::StreamBroken, format!("the server {} went away", self.address)).because_of(error)
    }
}

/// The path of one object.
fn path<S: Kind>(name: &str) -> Result<String, Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(format!("{}/{name}", S::SHORT)),
        false => Err(Failure::new(Code::Usage, format!("`{name}` is the name of no object"))
            .try_command("look at what there is", ["pepo", S::SHORT, "list"])),
    }
}

/// What the server says went wrong (RFC 9457).
fn of_problem(problem: &Value) -> Failure {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = text(&problem["code"]).strip_prefix('P').and_then(|number| number.parse().ok());
    let code = number.and_then(Code::from_number).unwrap_or(Code::Internal);
    let mut failure = Failure::new(code, text(&problem["detail"]));
    for hint in problem["hints"].as_array().into_iter().flatten() {
        let command = hint["command"].as_array().into_iter().flatten().map(text).collect();
        failure.hints.push(Hint { text: text(&hint["text"]), command });
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_failure_again() {
        let problem = json!({
            "code": "P0119", "detail": "no attachment `x` on this server", "status": 404,
            "hints": [{ "text": "look", "command": ["pepo", "attachments"] }],
        });
        let failure = of_problem(&problem);
        assert_eq!(failure.code(), Code::ObjectNotFound);
        assert_eq!(failure.to_string(), "no attachment `x` on this server");
        assert_eq!(failure.hints[0].command, ["pepo", "attachments"]);
        assert_eq!(of_problem(&json!({ "code": "P9999" })).code(), Code::Internal);
    }

    #[test]
    fn a_name_is_part_of_no_other_path() {
        assert_eq!(path::<RequestSpec>("0af-1").unwrap(), "requests/0af-1");
        for name in ["", "../attachments/x", "a?b", "a/b", "a b", "a%2f"] {
            assert_eq!(path::<RequestSpec>(name).unwrap_err().code(), Code::Usage, "{name}");
        }
    }
}
