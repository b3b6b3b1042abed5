//! `larder.v1.Attachments`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use larder_core::Digest;
use larder_core::judge::{Signed, Signer, Who};
use larder_core::signature::found::Annotations;
use larder_proto::v1;
use larder_proto::v1::attachments_server::Attachments;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{actor, content, convert};
use crate::ops::Ctx;
use crate::ops::attach;
use crate::ops::attach_evidence::{Given, evidence};
use crate::ops::clean::{self, Which};
use crate::ops::sboms::{self, Form, Sbom};

/// The most bytes of all annotations of one signature: far less than a manifest may have.
const MAX_ANNOTATIONS_BYTES: usize = 1 << 20;

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) cancel: CancellationToken,
}

#[tonic::async_trait]
impl Attachments for Service {
    type ReadSbomStream = Pin<Box<dyn Stream<Item = Result<v1::ReadSbomResponse, Status>> + Send>>;

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

    async fn attach_evidence(
        &self,
        request: Request<v1::AttachEvidenceRequest>,
    ) -> Result<Response<v1::AttachEvidenceResponse>, Status> {
        let actor = actor(&request, "attach");
        let request = request.into_inner();
        let subject = request.reference.parse().map_err(ApiError::from)?;
        let texts = [&request.signature, &request.certificate, &request.chain, &request.log_entry, &request.timestamp];
        if texts.iter().map(|text| text.len()).sum::<usize>() > MAX_ANNOTATIONS_BYTES {
            return Err(
                ApiError::invalid("bad-signature", "what comes with it is longer than a manifest may be").into()
            );
        }
        let given = Given {
            bytes: request.payload,
            signature: Some(request.signature).filter(|signature| !signature.is_empty()),
            beside: Annotations {
                certificate: request.certificate,
                chain: request.chain,
                log_entry: request.log_entry,
                timestamp: request.timestamp,
                ..Annotations::default()
            },
        };
        let attached = evidence(&self.ctx, actor, &subject, &given).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::AttachEvidenceResponse {
            repository: attached.held.repository.to_string(),
            digest: attached.held.digest.to_string(),
            tag: attached.tag.to_string(),
            manifest: attached.manifest.to_string(),
            added: attached.added,
        }))
    }

    async fn clean(&self, request: Request<v1::CleanRequest>) -> Result<Response<v1::CleanResponse>, Status> {
        let actor = actor(&request, "clean");
        let request = request.into_inner();
        let which = match request.kind() {
            v1::CleanKind::Signature => Which::Signatures,
            v1::CleanKind::Attestation => Which::Attestations,
            v1::CleanKind::Sbom => Which::Sboms,
            v1::CleanKind::Referrer => Which::Referrers,
            v1::CleanKind::All => Which::All,
            v1::CleanKind::Unspecified => {
                return Err(ApiError::invalid("invalid-argument", "`kind` says what is to be cleaned").into());
            }
        };
        let subject = request.reference.parse().map_err(ApiError::from)?;
        let mode = if request.dry_run { clean::Mode::DryRun } else { clean::Mode::Clean };
        let cleaned = clean::clean(&self.ctx, actor, &subject, which, mode).await.map_err(ApiError::from)?;
        let removed = cleaned.removed.iter().map(|one| v1::CleanedManifest {
            manifest: one.manifest.to_string(),
            kind: one.kind.name().to_owned(),
            tag: one.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
            signatures: u32::try_from(one.signatures).unwrap_or(u32::MAX),
        });
        Ok(Response::new(v1::CleanResponse {
            repository: cleaned.held.repository.to_string(),
            digest: cleaned.held.digest.to_string(),
            removed: removed.collect(),
            elsewhere: cleaned.elsewhere.iter().map(ToString::to_string).collect(),
            seq: cleaned.seq,
        }))
    }

    async fn list_sboms(
        &self,
        request: Request<v1::ListSbomsRequest>,
    ) -> Result<Response<v1::ListSbomsResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let listed = sboms::list(&self.ctx, &question).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListSbomsResponse {
            repository: listed.held.repository.to_string(),
            digest: listed.held.digest.to_string(),
            sboms: listed.sboms.iter().map(sbom).collect(),
            odd: listed.odd.map(|tag| tag.to_string()).unwrap_or_default(),
        }))
    }

    async fn read_sbom(&self, request: Request<v1::ReadSbomRequest>) -> Result<Response<Self::ReadSbomStream>, Status> {
        let request = request.into_inner();
        let question = request.reference.parse().map_err(ApiError::from)?;
        let digest = match request.digest.as_str() {
            "" => None,
            text => Some(text.parse().map_err(ApiError::from)?),
        };
        let (picked, bytes) = sboms::read(&self.ctx, &question, digest).await.map_err(ApiError::from)?;
        let count = bytes.size;
        let pieces = content::stream(&self.ctx, &self.cancel, picked.layer.digest, bytes, 0, count);
        let mut head = Some(sbom(&picked));
        let responses =
            pieces.map(move |piece| piece.map(|piece| v1::ReadSbomResponse { sbom: head.take(), piece: Some(piece) }));
        Ok(Response::new(Box::pin(responses)))
    }
}

fn sbom(of: &Sbom) -> v1::Sbom {
    let signers: &[_] = match &of.signed {
        Signed::By(signers) => signers,
        Signed::No | Signed::Untrusted | Signed::Pending => &[],
    };
    let signer = |signer: &Signer| match signer {
        Signer::Key { name, anchor } => {
            v1::SbomSigner { key: name.clone(), key_id: anchor.to_string(), ..v1::SbomSigner::default() }
        }
        Signer::Identity(Who { subject, issuer }) => {
            v1::SbomSigner { identity: subject.clone(), issuer: issuer.clone(), ..v1::SbomSigner::default() }
        }
    };
    v1::Sbom {
        kind: of.kind.name().to_owned(),
        form: match of.form {
            Form::Attestation => v1::SbomForm::Attestation,
            Form::Tag => v1::SbomForm::Tag,
            Form::Referrer => v1::SbomForm::Referrer,
        }
        .into(),
        digest: of.layer.digest.to_string(),
        media_type: of.layer.media_type.clone(),
        predicate_type: of.predicate_type.as_deref().unwrap_or_default().to_owned(),
        size: of.size,
        manifest: of.manifest.to_string(),
        found_at: of.found_at.clone(),
        signed: match &of.signed {
            Signed::No => v1::SbomSigned::No,
            Signed::Untrusted => v1::SbomSigned::Untrusted,
            Signed::Pending => v1::SbomSigned::Pending,
            Signed::By(_) => v1::SbomSigned::Yes,
        }
        .into(),
        signers: signers.iter().map(signer).collect(),
        seen: of.seen.map(convert::timestamp),
    }
}
