//! The gRPC API `larder.v1`: parses requests, calls a story, renders its result.
//!
//! In come protobuf messages from peers whose uid was checked ([`peer`]) or whose certificate has a role ([`tls`],
//! `roles`); out go messages, or a `google.rpc.Status` with a stable reason. Nothing is decided here.

mod artifacts;
mod asked;
mod attachments;
mod calls;
mod connections;
mod content;
mod convert;
mod daemon;
mod health;
mod layouts;
pub mod peer;
mod registries;
mod roles;
mod signatures;
mod status;
mod sync;
pub mod tls;
mod trust;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use larder_core::signature::statement::MAX_PREDICATE_BYTES;
use larder_proto::v1::artifacts_server::ArtifactsServer;
use larder_proto::v1::attachments_server::AttachmentsServer;
use larder_proto::v1::content_server::ContentServer;
use larder_proto::v1::daemon_server::DaemonServer;
use larder_proto::v1::layouts_server::LayoutsServer;
use larder_proto::v1::registries_server::RegistriesServer;
use larder_proto::v1::signatures_server::SignaturesServer;
use larder_proto::v1::sync_server::SyncServer;
use larder_proto::v1::trust_server::TrustServer;
use larder_proto::v1::verification_server::VerificationServer;
use larder_proto::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::ops::Ctx;
use crate::ops::content::{IDLE, Writes};
use crate::ops::status::Process;
use crate::store::record::Actor;
use calls::{Admission, caller};
use connections::{KEEPALIVE_AFTER, KEEPALIVE_ANSWER, MAX_HEADERS, MAX_STREAMS};
use status::ApiError;

/// The most bytes of a request that may hold a manifest, which has up to 4 MiB; of every other, tonic's 4 MiB.
const MAX_CONTENT_REQUEST: usize = (4 << 20) + (64 << 10);
/// The most bytes of a request that may hold a predicate, or a statement around one.
const MAX_SIGNATURES_REQUEST: usize = MAX_PREDICATE_BYTES + (1 << 20);
/// How often writes are looked through for idle ones.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a client that does not read keeps the daemon from stopping.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves the API on the socket, and over TCP where that is configured, until it is cancelled; streams end then.
pub async fn serve(
    peers: peer::Listener,
    tcp: Option<tls::Listener>,
    ctx: Ctx,
    process: Arc<Process>,
    cancel: CancellationToken,
) {
    let writes = Writes::default();
    let routes = match routes(&ctx, &process, &writes, &cancel) {
        Ok(routes) => routes,
        Err(error) => {
            tracing::error!(%error, "the API cannot describe itself");
            return cancel.cancel();
        }
    };
    // One for both ways in: room for calls is the daemon's, not a listener's.
    let admission = Admission::default();
    let server = || {
        Server::builder()
            .trace_fn(|request| tracing::info_span!("call", path = request.uri().path()))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_keepalive_interval(Some(KEEPALIVE_AFTER))
            .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
            .layer(admission.clone())
            .add_routes(routes.clone())
    };
    let on_socket = server().serve_with_incoming_shutdown(connections::of_socket(peers), cancel.cancelled());
    let on_tcp = async {
        match tcp {
            Some(listener) => {
                let incoming = listener.incoming(cancel.clone(), &ctx.tasks);
                server().serve_with_incoming_shutdown(incoming, cancel.cancelled()).await
            }
            None => Ok(()),
        }
    };
    let swept = async {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => writes.sweep(IDLE),
            }
        }
    };
    let (on_socket, on_tcp, ()) = tokio::join!(on_socket, on_tcp, swept);
    for error in [on_socket, on_tcp].into_iter().filter_map(Result::err) {
        tracing::error!(%error, "the API ended");
    }
}

/// Builds all services.
fn routes(
    ctx: &Ctx,
    process: &Arc<Process>,
    writes: &Writes,
    cancel: &CancellationToken,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(larder_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let content = content::Service { ctx: ctx.clone(), writes: writes.clone(), cancel: cancel.clone() };
    let verification = verification::Service::new(ctx.clone(), Arc::clone(process), cancel.clone());
    let daemon = daemon::Service { ctx: ctx.clone(), process: Arc::clone(process), cancel: cancel.clone() };
    let layouts = layouts::Service { ctx: ctx.clone(), cancel: cancel.clone() };
    Ok(Routes::new(ArtifactsServer::new(artifacts::Service { ctx: ctx.clone() }))
        .add_service(AttachmentsServer::new(attachments::Service { ctx: ctx.clone(), cancel: cancel.clone() }))
        .add_service(ContentServer::new(content).max_decoding_message_size(MAX_CONTENT_REQUEST))
        .add_service(LayoutsServer::new(layouts).max_decoding_message_size(MAX_CONTENT_REQUEST))
        .add_service(SyncServer::new(sync::Service { ctx: ctx.clone(), cancel: cancel.clone() }))
        .add_service(RegistriesServer::new(registries::Service { ctx: ctx.clone() }))
        .add_service(
            SignaturesServer::new(signatures::Service { ctx: ctx.clone() })
                .max_decoding_message_size(MAX_SIGNATURES_REQUEST),
        )
        .add_service(TrustServer::new(trust::Service { ctx: ctx.clone(), process: Arc::clone(process) }))
        .add_service(VerificationServer::new(verification))
        .add_service(DaemonServer::new(daemon))
        .add_service(HealthServer::new(health::Service { ctx: ctx.clone(), cancel: cancel.clone() }))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Says who asks, and by which call: the uid of the socket's peer, or the name of a certificate.
fn actor<T>(request: &tonic::Request<T>, via: &str) -> Actor {
    let (uid, name) = caller(request);
    let via = name.map_or_else(|| via.to_owned(), |name| format!("{name}, {via}"));
    Actor { uid, via }
}

/// Tells whoever follows a stream that it ends because the daemon does.
async fn stopping<T>(events: &mpsc::Sender<Result<T, Status>>) {
    let stopping = ApiError::unavailable("stopping", "larderd is stopping");
    // A client that has gone, or that does not read, needs no answer.
    let _ = tokio::time::timeout(LAST_WORDS, events.send(Err(stopping.into()))).await;
}
