//! The gRPC API `larder.v1`: parses requests, calls a story, renders its result.
//!
//! In come protobuf messages from peers whose uid was checked; out go messages, or a `google.rpc.Status`
//! with a stable reason. Nothing is decided here.

mod artifacts;
mod convert;
mod daemon;
pub mod peer;
mod registries;
mod signatures;
mod status;
mod sync;
mod trust;
mod verification;

use std::sync::Arc;

use larder_proto::v1::artifacts_server::ArtifactsServer;
use larder_proto::v1::daemon_server::DaemonServer;
use larder_proto::v1::registries_server::RegistriesServer;
use larder_proto::v1::signatures_server::SignaturesServer;
use larder_proto::v1::sync_server::SyncServer;
use larder_proto::v1::trust_server::TrustServer;
use larder_proto::v1::verification_server::VerificationServer;
use larder_proto::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::ops::Ctx;
use crate::ops::status::Process;
use crate::store::record::Actor;
use peer::{Listener, Peer};

/// Serves the API until it is cancelled; streams end then.
pub async fn serve(peers: Listener, ctx: Ctx, process: Arc<Process>, cancel: CancellationToken) {
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(ArtifactsServer::new(artifacts::Service { ctx: ctx.clone() }))
        .add_service(SyncServer::new(sync::Service { ctx: ctx.clone(), cancel: cancel.clone() }))
        .add_service(RegistriesServer::new(registries::Service { ctx: ctx.clone() }))
        .add_service(SignaturesServer::new(signatures::Service { ctx: ctx.clone() }))
        .add_service(TrustServer::new(trust::Service { ctx: ctx.clone(), process: Arc::clone(&process) }))
        .add_service(VerificationServer::new(verification::Service {
            ctx: ctx.clone(),
            process: Arc::clone(&process),
            cancel: cancel.clone(),
        }))
        .add_service(DaemonServer::new(daemon::Service { ctx, process, cancel: cancel.clone() }))
        .serve_with_incoming_shutdown(peers.incoming(), cancel.cancelled())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the API ended");
    }
}

/// Says who asks: the uid of the socket's peer, and by which call.
fn actor<T>(request: &tonic::Request<T>, via: &str) -> Actor {
    let uid = request.extensions().get::<Peer>().map(|peer| peer.uid);
    Actor { uid, via: via.to_owned() }
}
