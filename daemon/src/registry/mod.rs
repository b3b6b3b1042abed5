//! The OCI distribution endpoint (DESIGN section 8): what docker, podman, skopeo, containerd, oras
//! and cosign read from and write to.
//!
//! A connection comes in and its owner is asked for once; each request is admitted ([`access`]),
//! parsed (`route`), told as a story of [`ops`](crate::ops), and rendered (`read`, `write`,
//! `errors`). Nothing is judged or stored here. docs/endpoint.md is the manual.

pub mod access;
mod errors;
mod peer;
mod range;
mod read;
mod route;
mod write;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ops::Ctx;
use crate::ops::receive::uploads::Uploads;
use crate::store::record::Actor;
use access::{Access, Peer};
use errors::Failure;
use route::{Call, Query, Route, What};

/// How many connections may be open at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
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
}

/// Serves the endpoint until `cancel`, and then gives requests that are under way a few seconds.
pub async fn serve(listener: TcpListener, ctx: Ctx, access: Access, cancel: CancellationToken) {
    let endpoint = Arc::new(Endpoint { ctx, access, uploads: Uploads::default() });
    let connections = TaskTracker::new();
    // Bounds memory and file descriptors; taken before accepting, so that clients queue in the kernel.
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut sweep = tokio::time::interval(SWEEP);
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            _ = sweep.tick() => {
                endpoint.uploads.sweep_idle();
                continue;
            }
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (endpoint, cancel, abort) = (Arc::clone(&endpoint), cancel.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection(&endpoint, stream, peer, &cancel) => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "the endpoint cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(endpoint: &Endpoint, stream: TcpStream, address: SocketAddr, cancel: &CancellationToken) {
    let peer = match stream.local_addr() {
        Ok(local) => endpoint.access.peer(address, local),
        Err(_) => Peer::Unknown,
    };
    // Answers are small pieces and large streams; neither gains from waiting for more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(endpoint.answer(peer, request.map(Body::new)).await)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection to the endpoint ended early");
                }
                return;
            }
            () = cancel.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

impl Endpoint {
    async fn answer(&self, peer: Peer, request: Request<Body>) -> Response {
        let head = request.method() == Method::HEAD;
        let mut answer = match self.try_answer(peer, request).await {
            Ok(answer) => answer,
            Err(failure) => failure.render(head),
        };
        answer.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        answer
    }

    async fn try_answer(&self, peer: Peer, request: Request<Body>) -> Result<Response, Failure> {
        let uid = self.access.admit(peer, request.uri(), request.headers())?;
        let (parts, body) = request.into_parts();
        let Route { call, query } = Route::parse(&parts.method, parts.uri.path(), parts.uri.query())?;
        match call {
            Call::Version => Ok(version(parts.method == Method::HEAD)),
            Call::Catalog => read::catalog(&self.ctx, &query).await,
            Call::In { repository, name, what } => {
                let asked = Asked { repository, name, query, parts, body, uid };
                self.answer_in(what, asked).await
            }
        }
    }

    async fn answer_in(&self, what: What, asked: Asked) -> Result<Response, Failure> {
        let Asked { repository, name, query, parts, body, uid } = asked;
        let (ctx, uploads, headers) = (&self.ctx, &self.uploads, &parts.headers);
        let head = parts.method == Method::HEAD;
        match what {
            What::ReadManifest(named) => read::manifest(ctx, &repository, &named, headers, head).await,
            What::ReadBlob(digest) => read::blob(ctx, uploads, &repository, digest, headers, head).await,
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

fn version(head: bool) -> Response {
    let mut answer = Response::new(if head { Body::empty() } else { Body::from("{}") });
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    answer
}
