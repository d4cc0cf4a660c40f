//! `envoy.service.auth.v3.Authorization/Check`: Envoy's ext_authz by gRPC. Which container serves the call is said by its
//! configuration, as `context_extensions`: `namespace`, `pod`, and `container`, if one is meant.

use std::{sync::Arc, time::Duration};

use hyper::{
    HeaderMap, Request as Call, Response as Reply,
    body::Incoming,
    header::{HeaderName, HeaderValue as Value},
};
use pepo_wire::envoy::{
    AttributeContext, CheckRequest, CheckResponse, HeaderValue, HeaderValueOption, OkHttpResponse, Status,
    authorization_server::{Authorization, AuthorizationServer},
    check_response::HttpResponse,
    header_value_option::HeaderAppendAction,
};
use tonic::{Request, Response, body::Body, codegen::Service as _};

use super::{
    Door,
    hold::{Told, named, until_ready},
};

pub(super) const ROOT: &str = "/envoy.service.auth.v3.Authorization/";
/// More than all headers that Envoy takes of a call.
const LARGEST: usize = 256 << 10;
/// How long Envoy may wait for the program's answer to a call that was held: a debugger has it stand still.
const LASTS: Duration = Duration::from_secs(15 * 60);

struct Holds(Arc<Door>);

#[tonic::async_trait]
impl Authorization for Holds {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, tonic::Status> {
        let AttributeContext { request, context_extensions } =
            request.into_inner().attributes.unwrap_or_default();
        let headers = request.and_then(|request| request.http).unwrap_or_default().headers;
        let said = |name: &str| context_extensions.get(name).map(String::as_str).unwrap_or_default();
        let holds = named(said("namespace"), said("pod"), said("container"));
        let told = until_ready(&self.0, holds, &read(headers)).await;
        Ok(Response::new(goes_on(&told)))
    }
}

/// Answers a call of the service.
pub(super) async fn answer(door: &Arc<Door>, call: Call<Incoming>) -> Reply<Body> {
    let mut service = AuthorizationServer::new(Holds(Arc::clone(door))).max_decoding_message_size(LARGEST);
    match service.call(call).await {
        Ok(reply) => reply,
        Err(never) => match never {},
    }
}

/// Those that are headers.
fn read(headers: impl IntoIterator<Item = (String, String)>) -> HeaderMap {
    let one = |(name, value): (String, String)| {
        Some((HeaderName::try_from(name).ok()?, Value::try_from(value).ok()?))
    };
    headers.into_iter().filter_map(one).collect()
}

/// That it may; and one that was held, for how long.
fn goes_on(told: &Told) -> CheckResponse {
    let lasts = told.attachment.as_ref().map(|_| HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-envoy-upstream-rq-timeout-ms".to_owned(),
            value: LASTS.as_millis().to_string(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    });
    CheckResponse {
        status: Some(Status { code: 0 }),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: lasts.into_iter().collect(),
        })),
    }
}
