//! The door for proxies: cleartext HTTP/1.1 and HTTP/2, by which a proxy lets a call wait until the debugger is on the process that
//! will serve it.
//!
//! Nobody proves here who they are, so nobody gets a right here: a call can only be bound to a debug request that an authorised
//! person has made and that waits, and all that the caller learns is that the call may go on. It is shut unless it is asked for.
//!
//! Tasks: one for each connection; it ends with the connection, or when the server ends.

/// The same as Envoy asks it by gRPC.
mod grpc;
/// Holds a call and answers when it may go on (Envoy's `ext_authz` by HTTP, nginx's `auth_request`).
mod hold;
/// Squash's REST, as Envoy's squash filter and old clients speak it.
mod squash;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use pepo_wire::{
    Failure,
    resource::{AttachmentSpec, DebugAttachment, PodContainer},
    server::NodeTarget,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::{audit::Line, service::Desk};

/// Connections at once.
const MOST_CONNECTIONS: usize = 1_000;
/// Calls at once on one connection.
const MOST_CALLS: u32 = 256;
/// How long the head of a call may take; a proxy keeps connections open between its calls.
const HEAD: Duration = Duration::from_secs(5 * 60);
/// Calls that are held for one container at once.
const MOST_HELD: usize = 16;

/// What all its calls share.
#[derive(Debug)]
struct Door {
    desk: Arc<Desk>,
    /// How many calls each container has that wait.
    held: Mutex<HashMap<PodContainer, usize>>,
}

/// A call that waits, until this is dropped.
struct Place<'d> {
    door: &'d Door,
    of: PodContainer,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.door.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.of);
            }
        }
    }
}

impl Door {
    /// A place for one more call that waits; none where too many do.
    fn enter(&self, of: &PodContainer) -> Option<Place<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(of.clone()).or_default();
        if *count == MOST_HELD {
            return None;
        }
        *count += 1;
        Some(Place { door: self, of: of.clone() })
    }

    /// Binds a call to who waits for it; gives the attachment.
    async fn bind(&self, call: Call<'_>) -> Result<Option<DebugAttachment>, Failure> {
        let desk = &self.desk;
        let targets = desk.nodes.targets(|_, target| call.may_go_to(target));
        let policy = desk.folder.policy()?;
        if !desk.requests.called(&targets, call.holds, call.named, call.attachment, &policy).await? {
            return Ok(None);
        }
        let attachment = desk.attachments.resources.get::<AttachmentSpec>(call.attachment).await;
        let attachment = attachment.map_err(|error| error.failure("attachments"))?;
        let (who, target) = (&attachment.spec.who, &attachment.spec.target);
        desk.write(Line { act: "hold", who, target, why: call.attachment, ..Line::default() })?;
        Ok(Some(attachment))
    }
}

/// A call that a proxy has.
#[derive(Clone, Copy)]
struct Call<'c> {
    /// Where its proxy says that it will be served.
    holds: &'c PodContainer,
    /// The image there; empty where none was said.
    image: &'c str,
    /// The one debug request that it names.
    named: Option<&'c str>,
    /// The name that the attachment for it gets.
    attachment: &'c str,
}

impl Call<'_> {
    /// Is this the container, or one of those of the pod?
    fn may_go_to(&self, target: &NodeTarget) -> bool {
        let label = |name: &str| target.labels.get(name).map(String::as_str);
        let container = label("io.kubernetes.container.name");
        target.state == "running"
            && label("io.kubernetes.pod.namespace") == Some(&self.holds.namespace)
            && label("io.kubernetes.pod.name") == Some(&self.holds.pod)
            && (self.holds.container.is_empty() || container == Some(&self.holds.container))
            && (self.image.is_empty() || self.image == target.image)
    }
}

/// Need nobody wait for it any longer? A debugger that is attached and not ready would miss the call.
fn is_settled(attachment: &DebugAttachment) -> bool {
    attachment.is_ready() || attachment.status.state.is_over()
}

/// Answers proxies until the server ends.
pub(crate) async fn serve(listener: TcpListener, desk: Arc<Desk>, connections: TaskTracker) {
    let door = Arc::new(Door { desk, held: Mutex::default() });
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let door = Arc::clone(&door);
                connections.spawn(async move {
                    let _place = place;
                    let _open = door.desk.metrics.connections.enter();
                    connection(stream, peer, &door).await;
                });
            }
            Err(error) => {
                // No descriptors left, say: there will be room again.
                tracing::warn!(%error, "a proxy's connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, door: &Arc<Door>) {
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MOST_CALLS);
    let answering = service_fn(|request| {
        let door = Arc::clone(door);
        async move { Ok::<_, Infallible>(answer(&door, request).await) }
    });
    let served = builder.serve_connection(TokioIo::new(stream), answering);
    let mut served = std::pin::pin!(served);
    let finished = tokio::select! {
        finished = served.as_mut() => finished,
        () = door.desk.ending.is_over() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%peer, error, "a proxy's connection ended");
    }
}

async fn answer(door: &Arc<Door>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path.starts_with(grpc::ROOT) {
        return grpc::answer(door, request).await;
    }
    if let Some(rest) = path.strip_prefix(hold::ROOT) {
        return hold::answer(door, rest, request.headers()).await;
    }
    match path.strip_prefix(squash::ROOT) {
        Some(rest) => squash::answer(door, rest, request).await,
        None => empty(StatusCode::NOT_FOUND),
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
