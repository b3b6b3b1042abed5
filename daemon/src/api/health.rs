//! `grpc.health.v1.Health`, answered from how the daemon is at that moment.
//!
//! While the index is rebuilt, the services that look things up by it are not serving, and neither is the whole (the
//! empty name). A read-only store serves: all that is held can be asked for; `Daemon.GetStatus` says why nothing can be
//! written. When the daemon stops, nothing serves.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::status::ApiError;
use crate::ops::Ctx;

/// How often somebody who watches is told of a change at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The services, and whether they look things up by the index.
const SERVICES: &[(&str, bool)] = &[
    ("", true),
    ("larder.v1.Artifacts", true),
    ("larder.v1.Attachments", true),
    ("larder.v1.Content", true),
    ("larder.v1.Daemon", false),
    ("larder.v1.Layouts", true),
    ("larder.v1.Registries", false),
    ("larder.v1.Signatures", true),
    ("larder.v1.Sync", true),
    ("larder.v1.Trust", false),
    ("larder.v1.Verification", true),
];

#[derive(Clone)]
pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) cancel: CancellationToken,
}

impl Service {
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let (_, needs_index) = SERVICES.iter().find(|(name, _)| *name == service)?;
        let waits = *needs_index && self.ctx.store.rebuilding().is_some();
        Some(if waits || self.cancel.is_cancelled() { ServingStatus::NotServing } else { ServingStatus::Serving })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Service {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.into_inner().service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(ApiError::not_found("no-such-service", "there is no such service").into()),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let (events, stream) = mpsc::channel(1);
        let this = self.clone();
        self.ctx.tasks.spawn(async move {
            let mut told = None;
            loop {
                let now = this.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(now) {
                    told = Some(now);
                    if events.send(Ok(response(now))).await.is_err() {
                        return;
                    }
                }
                if this.cancel.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = events.closed() => return,
                    () = this.cancel.cancelled() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_service_has_its_health() {
        let set = prost_types::FileDescriptorSet::decode(larder_proto::DESCRIPTORS).expect("descriptors");
        let ours = set.file.iter().filter(|file| file.package() == "larder.v1");
        let mut served: Vec<String> =
            ours.flat_map(|file| &file.service).map(|service| format!("larder.v1.{}", service.name())).collect();
        served.push(String::new());
        served.sort();
        assert_eq!(SERVICES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), served);
    }
}
