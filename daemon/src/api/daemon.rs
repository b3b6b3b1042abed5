//! `larder.v1.Daemon`.

use std::sync::Arc;

use larder_proto::v1;
use larder_proto::v1::daemon_server::Daemon;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::actor;
use super::convert::{gate_mode, timestamp, trust_health};
use super::status::ApiError;
use crate::config::Keep;
use crate::ops::status::{Process, status};
use crate::ops::{Ctx, prune};

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) process: Arc<Process>,
    pub(super) cancel: CancellationToken,
}

#[tonic::async_trait]
impl Daemon for Service {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = status(&self.ctx);
        Ok(Response::new(v1::GetStatusResponse {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            home: self.process.home.display().to_string(),
            socket: self.process.socket.display().to_string(),
            endpoint: self.process.endpoint.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            grpc: self.process.grpc.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            gate: gate_mode(status.gate).to_owned(),
            started: Some(timestamp(self.process.started)),
            seq: status.seq,
            read_only: status.read_only.unwrap_or_default(),
            rebuild: status.rebuilding.map(|(done, total)| v1::Rebuild { done, total }),
            trust: Some(trust_health(&status.trust, &self.process.trust_folder, self.ctx.clock.now())),
            subjects: status.subjects,
            recovered: self.process.recovered.clone(),
            journal: Some(v1::JournalHealth {
                oldest_seq: status.oldest.0,
                pruned_at: status.oldest.1.map(timestamp),
                verifying: status.verifying.map(|(done, total)| v1::Rebuild { done, total }),
            }),
        }))
    }

    async fn prune_journal(
        &self,
        request: Request<v1::PruneJournalRequest>,
    ) -> Result<Response<v1::PruneJournalResponse>, Status> {
        let actor = actor(&request, "larder daemon prune-journal");
        let request = request.into_inner();
        let keep = Keep {
            days: request.keep_days.unwrap_or(self.process.keep.days),
            bytes: request.keep_bytes.unwrap_or(self.process.keep.bytes),
        };
        let pruned = tokio::select! {
            pruned = prune::prune(&self.ctx, actor, keep, request.dry_run) => pruned.map_err(ApiError::from)?,
            () = self.cancel.cancelled() => return Err(ApiError::unavailable("stopping", "larderd is stopping").into()),
        };
        Ok(Response::new(v1::PruneJournalResponse {
            until: pruned.until,
            segments: pruned.segments,
            bytes: pruned.bytes,
            state_bytes: pruned.state_bytes,
        }))
    }

    async fn stop(&self, _request: Request<v1::StopRequest>) -> Result<Response<v1::StopResponse>, Status> {
        self.cancel.cancel();
        Ok(Response::new(v1::StopResponse {}))
    }
}
