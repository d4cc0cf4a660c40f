//! What every call says and hears: parameters, bodies, answers, and problems (RFC 9457) with our codes and hints.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use pepo_wire::{Code, Failure, failure::http_status, resource::Kind as Resource};
use serde_json::{Value, json};
use tonic::body::Body;

/// The largest body that is read, in bytes, and how long it may take.
const MOST: usize = 64 << 10;
const READING: std::time::Duration = std::time::Duration::from_secs(10);

/// What stands after the `?`.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn read(query: &str) -> Parameters {
        Parameters(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => Err(bad(name, other, "it is `true` or `false`")),
        }
    }

    pub(crate) fn number(&self, name: &str, usual: usize) -> Result<usize, Failure> {
        let Some(text) = self.get(name) else { return Ok(usual) };
        text.parse().map_err(|_| bad(name, text, "it is a number"))
    }
}

fn bad(name: &str, value: &str, why: &str) -> Failure {
    Failure::new(Code::Usage, format!("`{name}={value}` is not understood")).because(why)
}

/// The name of an object in a path.
pub(crate) fn name_of(part: &str) -> Result<String, Failure> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !part.is_empty() && part.len() <= 63 && part.chars().all(is_plain) {
        true => Ok(part.to_owned()),
        false => Err(Failure::new(Code::Usage, "this is the name of no object")
            .because("a name has 1 to 63 of a-z, 0-9 and `-`")),
    }
}

/// The body, as JSON.
pub(crate) async fn body(request: Request<Incoming>) -> Result<Value, Failure> {
    let reading = Limited::new(request.into_body(), MOST).collect();
    let late = |_| Failure::new(Code::TimedOut, format!("the body was not there within {READING:?}"));
    let read = tokio::time::timeout(READING, reading).await.map_err(late)?;
    let body = read.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return Failure::new(Code::TooLarge, format!("the body is larger than {MOST} bytes"));
        }
        Failure::new(Code::StreamBroken, "the body was not read").because(error)
    })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Failure::new(Code::Usage, "the body is not JSON").because(error))
}

/// The spec of an object in a body. A field that is not known is an error here: it would be a wish that is not heard.
pub(crate) fn spec<S: Resource>(body: &Value) -> Result<S, Failure> {
    let refused = |why: String| {
        Failure::new(Code::Usage, format!("the body is no {}", S::KIND))
            .because(why)
            .hint("its schema stands in /api/v1/openapi.json")
    };
    let whole = body.as_object().ok_or_else(|| refused("it is not an object".to_owned()))?;
    let known = ["apiVersion", "kind", "metadata", "spec"];
    if let Some(other) = whole.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(refused(format!("`{other}` is not the caller's to set")));
    }
    if body.get("kind").is_some_and(|kind| kind != S::KIND) {
        return Err(refused(format!("its kind is {}", body["kind"])));
    }
    let fields = body["spec"].as_object().ok_or_else(|| refused("it has no `spec`".to_owned()))?;
    let schema = S::schema();
    if let Some(other) = fields.keys().find(|key| schema["properties"].get(key.as_str()).is_none()) {
        return Err(refused(format!("`spec.{other}` is not known")));
    }
    serde_json::from_value(body["spec"].clone()).map_err(|error| refused(format!("spec: {error}")))
}

/// An answer.
pub(crate) fn json_page(status: StatusCode, data: &Value) -> Response<Body> {
    page(status, "application/json", data)
}

/// What went wrong, for programs and people.
pub(crate) fn problem(failure: &Failure) -> Response<Body> {
    let code = failure.code();
    let status = StatusCode::from_u16(http_status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let hints: Vec<Value> =
        failure.hints.iter().map(|hint| json!({ "text": hint.text, "command": hint.command })).collect();
    let data = json!({
        "type": format!("https://pepo.dev/errors/{code}"),
        "title": code.page().lines().next().unwrap_or_default().trim(),
        "status": status.as_u16(),
        "detail": failure.to_string(),
        "code": code.to_string(),
        "hints": hints,
    });
    page(status, "application/problem+json", &data)
}

/// To a caller whom nobody knows.
pub(crate) fn unknown(failure: &Failure) -> Response<Body> {
    let mut page = problem(failure);
    if failure.code() == Code::NotGranted {
        *page.status_mut() = StatusCode::UNAUTHORIZED;
    }
    with(page, WWW_AUTHENTICATE, "Bearer")
}

fn page(status: StatusCode, kind: &'static str, data: &Value) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(Bytes::from(data.to_string()))));
    *response.status_mut() = status;
    // What is true now may not be in a moment, and is not everybody's.
    with(with(response, CONTENT_TYPE, kind), CACHE_CONTROL, "no-store")
}

pub(crate) fn with(mut response: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests {
    use pepo_wire::resource::RequestSpec;

    use super::*;

    #[test]
    fn parameters_are_read_as_they_were_meant() {
        let parameters = Parameters::read("limit=7&continue=a%2Fb+c&watch&odd=%zz%4");
        assert_eq!(parameters.number("limit", 100).unwrap(), 7);
        assert_eq!(parameters.number("other", 100).unwrap(), 100);
        assert_eq!(parameters.get("continue"), Some("a/b c"));
        assert_eq!(parameters.get("odd"), Some("%zz%4"));
        assert!(parameters.is("watch").unwrap() && !parameters.is("else").unwrap());
        for text in ["limit=-1", "limit=", "limit=many", "limit=99999999999999999999"] {
            assert_eq!(Parameters::read(text).number("limit", 1).unwrap_err().code(), Code::Usage, "{text}");
        }
        assert!(Parameters::read("watch=maybe").is("watch").is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_no_silent_wish() {
        let read = |body: Value| spec::<RequestSpec>(&body);
        assert_eq!(read(json!({ "spec": { "image": "shop*" } })).unwrap().image.as_deref(), Some("shop*"));
        for (body, why) in [
            (json!([]), "not an object"),
            (json!({}), "no `spec`"),
            (json!({ "spec": { "imege": "shop" } }), "`spec.imege` is not known"),
            (json!({ "spec": { "image": 7 } }), "spec: invalid type"),
            (json!({ "spec": {}, "status": { "state": "bound" } }), "`status` is not the caller's"),
            (json!({ "spec": {}, "kind": "DebugAttachment" }), "its kind is"),
        ] {
            let failure = read(body).unwrap_err();
            assert!(failure.code() == Code::Usage && failure.to_string().contains(why), "{failure} {why}");
        }
    }

    #[test]
    fn names_of_objects_are_plain() {
        assert_eq!(name_of("0a-f").unwrap(), "0a-f");
        for name in ["", "A", "a/b", "a%2fb", "..", "a b", &"a".repeat(64)] {
            assert!(name_of(name).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_problem_has_its_code_its_hints_and_its_page() {
        let failure =
            Failure::new(Code::Conflict, "it is another by now").try_command("look", ["pepo", "ps"]);
        let response = problem(&failure);
        assert_eq!(
            (response.status(), &response.headers()[CONTENT_TYPE]),
            (StatusCode::CONFLICT, &HeaderValue::from_static("application/problem+json"))
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let data: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            data,
            json!({
                "type": "https://pepo.dev/errors/P0120",
                "title": "What was to be changed is another by now, or exists already.",
                "status": 409, "detail": "it is another by now", "code": "P0120",
                "hints": [{ "text": "look", "command": ["pepo", "ps"] }],
            })
        );
    }
}
