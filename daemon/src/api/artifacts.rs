//! `larder.v1.Artifacts`.

use std::str::FromStr as _;

use larder_core::{Digest, Repository, Tag};
use larder_proto::v1;
use larder_proto::v1::artifacts_server::Artifacts;
use tonic::{Request, Response, Status};

use super::convert;
use super::status::ApiError;
use crate::ops::Ctx;
use crate::ops::artifacts::{self, Artifact, ListOptions, Summary};
use crate::store::record::ListKey;

/// The longest page.
const MAX_PAGE: usize = 1000;
/// The page where none is named.
const DEFAULT_PAGE: usize = 100;

pub(super) struct Service {
    pub(super) ctx: Ctx,
}

#[tonic::async_trait]
impl Artifacts for Service {
    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        let request = request.into_inner();
        let filter =
            artifacts::filter(&request.filter).map_err(|error| ApiError::invalid("invalid-glob", error.to_string()))?;
        let limit = match request.page_size as usize {
            0 => DEFAULT_PAGE,
            size => size.min(MAX_PAGE),
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(place(token).ok_or_else(|| {
                ApiError::invalid("invalid-argument", "the page token is not one that a page before returned")
            })?),
        };
        let options = ListOptions { filter, not_accepted: request.not_accepted };
        let listed = artifacts::list(&self.ctx, &options, after, limit).await.map_err(ApiError::from)?;
        let next_page_token = match listed.last() {
            Some(last) if listed.len() == limit => token(&last.key),
            _ => String::new(),
        };
        let artifacts = listed.iter().map(summary).collect();
        Ok(Response::new(v1::ListArtifactsResponse { artifacts, next_page_token }))
    }

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<v1::GetArtifactResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let artifact = artifacts::show(&self.ctx, &question).await.map_err(ApiError::from)?;
        Ok(Response::new(shown(artifact)))
    }

    async fn resolve_reference(
        &self,
        request: Request<v1::ResolveReferenceRequest>,
    ) -> Result<Response<v1::ResolveReferenceResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let (held, row) = artifacts::resolve(&self.ctx, &question).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ResolveReferenceResponse {
            repository: held.repository.to_string(),
            tag: held.tag.map(|tag| tag.to_string()).unwrap_or_default(),
            digest: held.digest.to_string(),
            moved: row.map(|row| convert::timestamp(row.moved)),
        }))
    }

    async fn list_remote_tags(
        &self,
        request: Request<v1::ListRemoteTagsRequest>,
    ) -> Result<Response<v1::ListRemoteTagsResponse>, Status> {
        let repository: Repository = request.into_inner().repository.parse().map_err(ApiError::from)?;
        let tags = artifacts::remote_tags(&self.ctx, &repository).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListRemoteTagsResponse { tags: convert::names(&tags) }))
    }
}

/// Writes a place in the order as a page token: `repository:tag@digest`.
fn token(key: &ListKey) -> String {
    let tag = key.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}{tag}@{}", key.repository, key.digest)
}

fn place(token: &str) -> Option<ListKey> {
    let (name, digest) = token.split_once('@')?;
    let digest = Digest::from_str(digest).ok()?;
    let path = name.rfind('/')?;
    let (repository, tag) = match name.get(path..)?.split_once(':') {
        Some((_, tag)) => (name.strip_suffix(tag)?.strip_suffix(':')?, Some(Tag::from_str(tag).ok()?)),
        None => (name, None),
    };
    Some(ListKey { repository: Repository::from_str(repository).ok()?, tag, digest })
}

fn summary(summary: &Summary) -> v1::ArtifactSummary {
    v1::ArtifactSummary {
        repository: summary.key.repository.to_string(),
        tag: summary.key.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest: summary.key.digest.to_string(),
        media_type: summary.row.media_type.clone(),
        artifact_type: summary.row.artifact_type.clone().unwrap_or_default(),
        size: summary.size,
        seq: summary.seq,
        verdict: Some(convert::answer(&summary.answer)),
    }
}

fn shown(artifact: Artifact) -> v1::GetArtifactResponse {
    use crate::ops::query::Held;
    let successor = |successor: artifacts::Successor| {
        let digest = successor.descriptor.digest;
        v1::Successor {
            verdict: successor.verdict.map(|(repository, verdict)| v1::Verdict {
                held: true,
                ..convert::offered(&Held { repository, tag: None, digest }, &verdict)
            }),
            descriptor: Some(convert::descriptor(&successor.descriptor)),
            held: successor.held,
            left_out: successor.left_out,
        }
    };
    let attached = |attached: artifacts::Attached| {
        let row = attached.row;
        let held = Held { repository: row.repository.clone(), tag: None, digest: row.digest };
        v1::Attached {
            descriptor: Some(v1::Descriptor {
                media_type: row.media_type,
                digest: row.digest.to_string(),
                size: row.size,
                artifact_type: row.artifact_type.unwrap_or_default(),
                platform: None,
            }),
            kind: attached.kind.name().to_owned(),
            found_at: attached.found_at,
            signatures: u32::try_from(row.signatures.len()).unwrap_or(u32::MAX),
            verdict: attached.verdict.map(|verdict| v1::Verdict { held: true, ..convert::offered(&held, &verdict) }),
        }
    };
    v1::GetArtifactResponse {
        tags: convert::names(&artifact.summary.answer.tags),
        summary: Some(summary(&artifact.summary)),
        manifest: artifact.manifest.raw().clone(),
        successors: artifact.successors.into_iter().map(successor).collect(),
        attached: artifact.attached.into_iter().map(attached).collect(),
        parents: artifact.parents.iter().map(ToString::to_string).collect(),
    }
}
