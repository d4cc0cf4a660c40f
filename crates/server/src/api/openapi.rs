//! The document of `/api/v1` (OpenAPI 3.0), made from the types; a test holds the committed one against it.

use pepo_wire::resource::{
    API_VERSION, AttachmentSpec, DebugAttachment, DebugRequest, Described as _, Kind, RequestSpec,
};
use serde_json::{Map, Value, json};

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    paths
        .extend(collection::<AttachmentSpec>("the attachments of targets that the caller may look at", None));
    paths.extend(collection::<RequestSpec>(
        "the caller's debug requests, and those bound to a target that the caller may look at",
        Some(wish()),
    ));
    paths.extend(single::<AttachmentSpec>(
        "Ends an attachment that is alive, so that its target runs, and removes one that is over.",
    ));
    paths.extend(single::<RequestSpec>("Removes a debug request; an attachment that was made for it stays."));
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Pepo's control plane",
            "description": "Debugger sessions through a server, and requests for the next container that fits.",
            "version": "v1",
            "license": { "name": "Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "The part of a person's token before its dot." } },
            "schemas": {
                "DebugAttachment": DebugAttachment::schema(),
                "DebugAttachmentList": list::<AttachmentSpec>(),
                "DebugRequest": DebugRequest::schema(),
                "DebugRequestList": list::<RequestSpec>(),
                "NewDebugRequest": new_request(),
                "Problem": problem(),
            },
        },
    })
}

/// `GET` of a list, or of its changes, and what may be made there.
fn collection<S: Kind>(what: &str, post: Option<Value>) -> Map<String, Value> {
    let parameter = |name: &str, schema: Value, description: &str| json!({ "name": name, "in": "query", "schema": schema, "description": description });
    let text = || json!({ "type": "string" });
    let mut path = json!({ "get": {
        "operationId": format!("list{}", S::KIND),
        "summary": format!("Lists {what}, or tells their changes."),
        "parameters": [
            parameter("limit", json!({ "type": "integer", "minimum": 1, "maximum": super::MOST, "default": super::USUAL }), "At most so many."),
            parameter("continue", text(), "The `continue` of the page before."),
            parameter("watch", json!({ "type": "boolean" }), "Changes as server-sent events, and no list: `event` is ADDED, MODIFIED, DELETED or ERROR, `data` the object, `id` the version to go on from."),
            parameter("resourceVersion", text(), "Watch: what came after this version; without it, from now on. `Last-Event-ID` goes before it."),
        ],
        "responses": responses(&[("200", "The list, or the changes.", json!({
            "application/json": { "schema": schema(&format!("{}List", S::KIND)) },
            "text/event-stream": { "schema": { "type": "string" } },
        }))], &["400", "401", "410"]),
    } });
    if let Some(post) = post {
        path["post"] = post;
    }
    Map::from_iter([(format!("/{}", S::SHORT), path)])
}

/// `POST` of a debug request.
fn wish() -> Value {
    let answer = || content("DebugRequest");
    json!({
        "operationId": "createDebugRequest",
        "summary": "Waits for the next container of an image or a service, and is bound to exactly one.",
        "parameters": [{
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "minLength": 1, "maxLength": 256 },
            "description": "Said twice with one key, it is made once.",
        }],
        "requestBody": { "required": true, "content": content("NewDebugRequest") },
        "responses": responses(&[
            ("201", "It was made.", answer()),
            ("200", "It was made before, with the same key.", answer()),
        ], &["400", "401", "409", "413"]),
    })
}

/// `GET` and `DELETE` of one object.
fn single<S: Kind>(delete: &str) -> Map<String, Value> {
    let mut deleted = vec![("200", "As it ended, or as it was.", content(S::KIND))];
    if S::SHORT == AttachmentSpec::SHORT {
        deleted.push(("202", "It is ending.", content(S::KIND)));
    }
    let path = json!({
        "parameters": [{ "name": "name", "in": "path", "required": true, "schema": { "type": "string", "pattern": "^[a-z0-9-]{1,63}$" } }],
        "get": {
            "operationId": format!("get{}", S::KIND),
            "summary": "One object.",
            "responses": responses(&[("200", "It.", content(S::KIND))], &["400", "401", "404"]),
        },
        "delete": {
            "operationId": format!("delete{}", S::KIND),
            "summary": delete,
            "responses": responses(&deleted, &["400", "401", "403", "404", "409"]),
        },
    });
    Map::from_iter([(format!("/{}/{{name}}", S::SHORT), path)])
}

/// What is answered when all is well, and the problems there are.
fn responses(well: &[(&str, &str, Value)], problems: &[&str]) -> Value {
    let well = well.iter().map(|(status, description, content)| {
        ((*status).to_owned(), json!({ "description": description, "content": content }))
    });
    let problems = problems.iter().chain(&["500"]).map(|status| {
        let content = json!({ "application/problem+json": { "schema": schema("Problem") } });
        ((*status).to_owned(), json!({ "description": "Why not.", "content": content }))
    });
    Value::Object(well.chain(problems).collect())
}

fn content(name: &str) -> Value {
    json!({ "application/json": { "schema": schema(name) } })
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list<S: Kind>() -> Value {
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "items"],
        "properties": {
            "apiVersion": { "type": "string", "enum": [API_VERSION] },
            "kind": { "type": "string", "enum": [format!("{}List", S::KIND)] },
            "metadata": {
                "type": "object",
                "required": ["resourceVersion"],
                "properties": {
                    "resourceVersion": { "type": "string", "description": "Watching from here tells every later change." },
                    "continue": { "type": "string", "description": "There is more; the next page begins here." },
                },
            },
            "items": { "type": "array", "items": schema(S::KIND) },
        },
    })
}

/// The body of a new debug request: what its owner may say.
fn new_request() -> Value {
    let mut spec = RequestSpec::schema();
    if let Some(required) = spec.as_object_mut() {
        required.remove("required");
    }
    json!({
        "type": "object", "required": ["spec"], "additionalProperties": false,
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string", "enum": [RequestSpec::KIND] },
            "metadata": { "type": "object" },
            "spec": spec,
        },
    })
}

/// RFC 9457, with our code and hints.
fn problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "hints"],
        "properties": {
            "type": text("The page of the code."),
            "title": text("What the code means."),
            "status": { "type": "integer" },
            "detail": text("What failed, and why."),
            "code": { "type": "string", "pattern": "^P[0-9]{4}$" },
            "hints": { "type": "array", "items": {
                "type": "object",
                "required": ["text", "command"],
                "properties": {
                    "text": text("What to do next."),
                    "command": { "type": "array", "items": { "type": "string" }, "description": "The command that does it; empty where there is none." },
                },
            } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_committed_document_is_what_the_types_say() {
        let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(COMMITTED, &made).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == made,
            "docs/openapi.json is not what the types say: UPDATE_OPENAPI=1 cargo test -p pepo-server openapi"
        );
    }

    #[test]
    fn what_it_refers_to_is_there() {
        let document = document();
        let text = document.to_string();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
