//! `larder.v1.Signatures`.

use larder_core::signature::material::VerificationMaterial;
use larder_core::{Digest, Reference, Repository};
use larder_proto::v1;
use larder_proto::v1::signatures_server::Signatures;
use tonic::{Request, Response, Status};

use super::actor;
use super::status::ApiError;
use crate::ops::Ctx;
use crate::ops::sign::{Covered, Format, Saying, SignError, Signed, attach, prepare, signable};

/// The most bytes of a signature: RSA with 8,192 bits has 1,024.
const MAX_SIGNATURE_BYTES: usize = 4096;

pub(super) struct Service {
    pub(super) ctx: Ctx,
}

#[tonic::async_trait]
impl Signatures for Service {
    async fn list_signable(
        &self,
        request: Request<v1::ListSignableRequest>,
    ) -> Result<Response<v1::ListSignableResponse>, Status> {
        let request = request.into_inner();
        let reference: Reference = request.reference.parse().map_err(ApiError::from)?;
        let covered = match (request.recursive, request.attachment.as_str()) {
            (false, "") => Covered::Artifact,
            (true, "") => Covered::Recursive,
            (false, "sbom") => Covered::Sbom,
            _ => return Err(ApiError::invalid("invalid-argument", "the attachment is `sbom`, without more").into()),
        };
        let (repository, digests) = signable(&self.ctx, &reference, covered).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListSignableResponse {
            repository: repository.to_string(),
            digests: digests.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn prepare_signature(
        &self,
        request: Request<v1::PrepareSignatureRequest>,
    ) -> Result<Response<v1::PrepareSignatureResponse>, Status> {
        let request = request.into_inner();
        let reference: Reference = request.reference.parse().map_err(ApiError::from)?;
        let format = format(request.format)?;
        let saying = if request.predicate_type.is_empty() {
            Saying::Signature(request.annotations.into_iter().collect())
        } else {
            Saying::Attestation { predicate_type: request.predicate_type, predicate: request.predicate }
        };
        let prepared = prepare(&self.ctx, &reference, format, &saying).await.map_err(ApiError::from)?;
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
        let material = request.material.unwrap_or_default();
        let material = VerificationMaterial::parse(material.certificates, &material.log_entries, material.timestamps);
        let signed = Signed {
            repository,
            digest,
            format: format(request.format)?,
            material: material.map_err(|error| ApiError::from(SignError::from(error)))?,
            payload: request.payload,
            signature: request.signature,
            public_key: request.public_key,
        };
        let attached = attach(&self.ctx, actor, signed).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::AttachSignatureResponse {
            tag: attached.tag.map(|tag| tag.to_string()).unwrap_or_default(),
            digest: attached.digest.to_string(),
            added: attached.added,
        }))
    }
}

fn format(number: i32) -> Result<Format, Status> {
    match v1::SignatureFormat::try_from(number) {
        Ok(v1::SignatureFormat::Unspecified | v1::SignatureFormat::Legacy) => Ok(Format::Legacy),
        Ok(v1::SignatureFormat::Bundle) => Ok(Format::Bundle),
        Err(_) => Err(ApiError::invalid("invalid-argument", "this format of signatures is not known").into()),
    }
}
