//! The OCI distribution endpoint (DESIGN section 8): what docker, podman, skopeo, containerd, oras
//! and cosign read from and write to.
//!
//! A connection comes in, its owner is asked for once, and it gets a place (`guard`); each request is admitted ([`access`]),
//! parsed (`route`), told as a story of [`ops`], and rendered (`read`, `write`,
//! `errors`). Nothing is judged or stored here. docs/endpoint.md is the manual.

pub mod access;
mod errors;
mod guard;
mod outlet;
mod peer;
mod range;
mod read;
mod route;
mod stream;
mod write;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::ops::receive::uploads::Uploads;
use crate::ops::{self, Ctx};
use crate::store::record::Actor;
use access::{Access, Peer};
use errors::Failure;
use guard::{Drained, Paced, Place, Rooms, SLOWEST, Standing, Turn};
use outlet::{Outlet, Spans};
use route::{Call, Query, Route, What};

/// How long a client may take to send a request's head, and leave a connection idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that is not known by its uid may take to show the password.
const PASSWORD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long a request that brings bytes waits for its turn where many do.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// What is said to a connection that gets no place; it says so before it was asked anything.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: application/json\r\n\r\n{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"too many connections of this user are open\"}]}";
/// How long requests that are under way may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(5);
/// How often uploads are looked through for idle ones.
const SWEEP: Duration = Duration::from_secs(60);
/// How long to wait where no connection can be accepted (no file descriptors), which would else spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every request works with.
struct Endpoint {
    ctx: Ctx,
    access: Access,
    uploads: Uploads,
    rooms: Rooms,
}

/// What is known of the other end of a connection.
struct Client {
    peer: Peer,
    /// Whether a request of it was admitted.
    admitted: AtomicBool,
    spans: Spans,
}

/// Serves the endpoint until `cancel`, and then gives requests that are under way a few seconds.
pub async fn serve(listener: TcpListener, ctx: Ctx, access: Access, cancel: CancellationToken) {
    let endpoint = Arc::new(Endpoint { ctx, access, uploads: Uploads::default(), rooms: Rooms::default() });
    let connections = TaskTracker::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            _ = sweep.tick() => {
                endpoint.uploads.sweep_idle();
                continue;
            }
            accepted = accept(&listener, &endpoint) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let (endpoint, cancel, abort) = (Arc::clone(&endpoint), cancel.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection(&endpoint, stream, peer, &cancel) => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

/// Accepts a connection and gives it a place; `None` where there is none for it.
async fn accept(listener: &TcpListener, endpoint: &Endpoint) -> Option<(TcpStream, Peer, Place)> {
    // Taken before accepting, so that clients queue in the kernel.
    let own = endpoint.rooms.own_place().await?;
    let (stream, address) = match listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!(%error, "the endpoint cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    let peer = stream.local_addr().map_or(Peer::Unknown, |local| endpoint.access.peer(address, local));
    let Some(place) = endpoint.rooms.place(own, endpoint.standing(peer)) else {
        tracing::debug!(?peer, "a connection to the endpoint has no place");
        // Whether or not there is room for the words: nobody waits for a stranger.
        let _ = stream.try_write(NO_PLACE);
        return None;
    };
    Some((stream, peer, place))
}

async fn connection(endpoint: &Endpoint, stream: TcpStream, peer: Peer, cancel: &CancellationToken) {
    // Answers are small pieces and large streams; neither gains from waiting for more.
    let _ = stream.set_nodelay(true);
    let client = Client { peer, admitted: AtomicBool::new(endpoint.access.knows(peer)), spans: Spans::default() };
    let stream = Outlet::new(stream, client.spans.clone());
    let service =
        service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(endpoint.answer(&client, request).await));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            // The outlet has to see the pieces of a body where they lie.
            .writev(true)
            .serve_connection(TokioIo::new(Drained::new(stream, SLOWEST)), service)
    );
    let mut to_show_the_password = pin!(sleep_until(Instant::now() + PASSWORD_TIMEOUT));
    let (mut stopping, mut waiting) = (false, !endpoint.access.knows(peer));
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection to the endpoint ended early");
                }
                return;
            }
            () = to_show_the_password.as_mut(), if waiting => {
                if !client.admitted.load(Ordering::Relaxed) {
                    tracing::debug!(?peer, "a connection to the endpoint showed no password in time");
                    return;
                }
                waiting = false;
            }
            () = cancel.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

impl Endpoint {
    fn standing(&self, peer: Peer) -> Standing {
        if self.access.knows(peer) { Standing::Own } else { Standing::Other(peer) }
    }

    async fn answer(&self, client: &Client, request: Request<Incoming>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let head = method == Method::HEAD;
        let span = tracing::info_span!("request", %method, path);
        let mut answer = match self.try_answer(client, request).instrument(span.clone()).await {
            Ok(answer) => answer,
            Err(failure) => failure.render(head),
        };
        let status = answer.status().as_u16();
        self.ctx.counters.answered(method.as_str(), status);
        span.in_scope(|| tracing::debug!(status, "answered"));
        answer.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        // Nobody takes a blob for the script or the page that somebody hid in it.
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }

    async fn try_answer(&self, client: &Client, request: Request<Incoming>) -> Result<Response, Failure> {
        let uid = self.access.admit(client.peer, request.uri(), request.headers())?;
        client.admitted.store(true, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        if parts.uri.path() == METRICS && parts.method == Method::GET {
            return Ok(metrics(&self.ctx).await);
        }
        let Route { call, query } = Route::parse(&parts.method, parts.uri.path(), parts.uri.query())?;
        // Held until the answer is made, which is when the body was read.
        let _turn = if body.is_end_stream() { None } else { Some(self.turn(client.peer, &call, &body).await?) };
        let body = Body::new(Paced::new(body, SLOWEST));
        match call {
            Call::Version => Ok(version(parts.method == Method::HEAD)),
            Call::Catalog => read::catalog(&self.ctx, &query).await,
            Call::In { repository, name, what } => {
                let asked = Asked { repository, name, query, parts, body, uid };
                self.answer_in(what, asked, &client.spans).await
            }
        }
    }

    /// Waits until a request may bring its bytes.
    async fn turn(&self, peer: Peer, call: &Call, body: &Incoming) -> Result<Turn<'_>, Failure> {
        let is_manifest = matches!(call, Call::In { what: What::WriteManifest(_), .. });
        let turn = self.rooms.turn(self.standing(peer), is_manifest.then(|| body.size_hint()));
        timeout(TURN_TIMEOUT, turn).await.ok().flatten().ok_or_else(|| {
            let message = "too many requests that bring content are under way; try again when some have ended";
            Failure::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
        })
    }

    async fn answer_in(&self, what: What, asked: Asked, spans: &Spans) -> Result<Response, Failure> {
        let Asked { repository, name, query, parts, body, uid } = asked;
        let (ctx, uploads, headers) = (&self.ctx, &self.uploads, &parts.headers);
        let head = parts.method == Method::HEAD;
        match what {
            What::ReadManifest(named) => read::manifest(ctx, &repository, &named, headers, head).await,
            What::ReadBlob(digest) => {
                read::blob(ctx, uploads, &repository, digest, headers, (!head).then_some(spans)).await
            }
            What::Tags => read::tags(ctx, &repository, &name, &query).await,
            What::Referrers(subject) => read::referrers(ctx, &repository, &name, subject, &query).await,
            What::RemoveTag(tag) => {
                let actor = Actor { uid, via: "endpoint".to_owned() };
                write::remove_tag(ctx, actor, &repository, &tag).await
            }
            What::WriteManifest(named) => {
                let actor = Actor { uid, via: "endpoint".to_owned() };
                write::manifest(ctx, actor, &repository, &name, &named, headers, body).await
            }
            What::BeginUpload => write::begin(ctx, uploads, &repository, &name, &query, headers, body).await,
            What::UploadStatus(id) => write::status(uploads, &repository, &name, &id),
            What::Append(id) => write::append(uploads, &repository, &name, &id, headers, body).await,
            What::Finish(id) => write::finish(ctx, uploads, &repository, &name, &id, &query, headers, body).await,
            What::CancelUpload(id) => write::cancel(uploads, &repository, &id),
        }
    }
}

/// A request for something in a repository.
struct Asked {
    repository: larder_core::Repository,
    name: String,
    query: Query,
    parts: http::request::Parts,
    body: Body,
    uid: Option<u32>,
}

/// `Docker-Distribution-API-Version`, by which Docker's clients know a registry.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Where the daemon's numbers are read.
const METRICS: &str = "/metrics";

async fn metrics(ctx: &Ctx) -> Response {
    let mut answer = Response::new(Body::from(ops::metrics::metrics(ctx).await));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(ops::metrics::MEDIA_TYPE));
    answer
}

fn version(head: bool) -> Response {
    let mut answer = Response::new(if head { Body::empty() } else { Body::from("{}") });
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    answer
}
