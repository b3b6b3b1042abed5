//! `larder.v1.Attachments`.

use larder_core::Digest;
use larder_proto::v1;
use larder_proto::v1::attachments_server::Attachments;
use tonic::{Request, Response, Status};

use super::actor;
use super::status::ApiError;
use crate::ops::Ctx;
use crate::ops::attach;

pub(super) struct Service {
    pub(super) ctx: Ctx,
}

#[tonic::async_trait]
impl Attachments for Service {
    async fn attach_sbom(
        &self,
        request: Request<v1::AttachSbomRequest>,
    ) -> Result<Response<v1::AttachSbomResponse>, Status> {
        let actor = actor(&request, "attach");
        let request = request.into_inner();
        let subject = request.reference.parse().map_err(ApiError::from)?;
        let digest: Digest = request.digest.parse().map_err(ApiError::from)?;
        let sbom = attach::Sbom { media_type: request.media_type, digest };
        let attached = attach::sbom(&self.ctx, actor, &subject, &sbom).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::AttachSbomResponse {
            repository: attached.held.repository.to_string(),
            digest: attached.held.digest.to_string(),
            tag: attached.tag.to_string(),
            manifest: attached.manifest.to_string(),
            size: attached.size,
            old: attached.old.map(|digest| digest.to_string()).unwrap_or_default(),
            seq: attached.seq,
        }))
    }
}
