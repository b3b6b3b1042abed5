//! `larder.v1.Signatures`.

use std::collections::BTreeMap;

use larder_core::{Digest, Reference, Repository};
use larder_proto::v1;
use larder_proto::v1::signatures_server::Signatures;
use tonic::{Request, Response, Status};

use super::actor;
use super::status::ApiError;
use crate::ops::Ctx;
use crate::ops::sign::{Signed, attach, prepare};

/// The most bytes of a signature: RSA with 8,192 bits has 1,024.
const MAX_SIGNATURE_BYTES: usize = 4096;

pub(super) struct Service {
    pub(super) ctx: Ctx,
}

#[tonic::async_trait]
impl Signatures for Service {
    async fn prepare_signature(
        &self,
        request: Request<v1::PrepareSignatureRequest>,
    ) -> Result<Response<v1::PrepareSignatureResponse>, Status> {
        let request = request.into_inner();
        let reference: Reference = request.reference.parse().map_err(ApiError::from)?;
        let annotations: BTreeMap<String, String> = request.annotations.into_iter().collect();
        let prepared = prepare(&self.ctx, &reference, &annotations).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::PrepareSignatureResponse {
            repository: prepared.repository.to_string(),
            digest: prepared.digest.to_string(),
            payload: prepared.payload.into(),
        }))
    }

    async fn attach_signature(
        &self,
        request: Request<v1::AttachSignatureRequest>,
    ) -> Result<Response<v1::AttachSignatureResponse>, Status> {
        let actor = actor(&request, "sign");
        let request = request.into_inner();
        if request.signature.len() > MAX_SIGNATURE_BYTES {
            return Err(ApiError::invalid("bad-signature", "the signature is longer than any that is checked").into());
        }
        let repository: Repository = request.repository.parse().map_err(ApiError::from)?;
        let digest: Digest = request.digest.parse().map_err(ApiError::from)?;
        let signed = Signed {
            repository,
            digest,
            payload: request.payload,
            signature: request.signature,
            public_key: request.public_key,
        };
        let attached = attach(&self.ctx, actor, signed).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::AttachSignatureResponse {
            tag: attached.tag.to_string(),
            digest: attached.digest.to_string(),
            added: attached.added,
        }))
    }
}
