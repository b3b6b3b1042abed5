//! `larder.v1.Artifacts`.

use std::str::FromStr as _;

use larder_core::{Digest, Reference, Repository, Tag};
use larder_proto::v1;
use larder_proto::v1::artifacts_server::Artifacts;
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{actor, convert};
use crate::ops::Ctx;
use crate::ops::artifacts::{self, Artifact, ListOptions, Summary};
use crate::ops::query::Held;
use crate::ops::{tags, tree};
use crate::store::record::ListKey;

/// The longest page.
const MAX_PAGE: usize = 1000;
/// The page where none is named.
const DEFAULT_PAGE: usize = 100;
/// The most tags that one request removes.
const MAX_REMOVED: usize = 1000;

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
        let filter = artifacts::filter(&request.filter).map_err(|error| {
            ApiError::invalid("invalid-glob", error.to_string())
                .hint("as in 'ghcr.io/team/**'; `*` stays within one part of the name, `**` does not")
        })?;
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
        let request = request.into_inner();
        let question = request.reference.parse().map_err(ApiError::from)?;
        let artifact = artifacts::show(&self.ctx, &question).await.map_err(ApiError::from)?;
        let config = match request.config {
            true => artifacts::config(&self.ctx, &artifact.manifest).await.map_err(ApiError::from)?,
            false => None,
        };
        Ok(Response::new(v1::GetArtifactResponse { config: config.unwrap_or_default(), ..shown(artifact) }))
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

    async fn resolve_remote(
        &self,
        request: Request<v1::ResolveRemoteRequest>,
    ) -> Result<Response<v1::ResolveRemoteResponse>, Status> {
        let reference: Reference = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let offered = artifacts::resolve_remote(&self.ctx, &reference).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ResolveRemoteResponse {
            repository: offered.repository.to_string(),
            tag: offered.tag.map(|tag| tag.to_string()).unwrap_or_default(),
            digest: offered.digest.to_string(),
        }))
    }

    async fn get_tree(&self, request: Request<v1::GetTreeRequest>) -> Result<Response<v1::GetTreeResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let tree = tree::tree(&self.ctx, &question).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::GetTreeResponse {
            repository: tree.held.repository.to_string(),
            tag: tree.held.tag.map(|tag| tag.to_string()).unwrap_or_default(),
            root: Some(node(tree.root)),
            cut: tree.cut,
        }))
    }

    async fn set_tag(&self, request: Request<v1::SetTagRequest>) -> Result<Response<v1::SetTagResponse>, Status> {
        let actor = actor(&request, "tag");
        let request = request.into_inner();
        let source = request.source.parse().map_err(ApiError::from)?;
        let target: Reference = request.target.parse().map_err(ApiError::from)?;
        let tagged = tags::tag(&self.ctx, actor, &source, &target).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::SetTagResponse {
            repository: tagged.answer.held.repository.to_string(),
            tag: tagged.tag.to_string(),
            digest: tagged.answer.held.digest.to_string(),
            old: tagged.old.map(|digest| digest.to_string()).unwrap_or_default(),
            seq: tagged.seq,
            verdict: Some(convert::answer(&tagged.answer)),
        }))
    }

    async fn remove_tags(
        &self,
        request: Request<v1::RemoveTagsRequest>,
    ) -> Result<Response<v1::RemoveTagsResponse>, Status> {
        let actor = actor(&request, "rm");
        let request = request.into_inner();
        if request.references.is_empty() || request.references.len() > MAX_REMOVED {
            let message = format!("{} references; 1 to {MAX_REMOVED} go in one request", request.references.len());
            return Err(ApiError::invalid("invalid-argument", message).into());
        }
        let references: Result<Vec<Reference>, _> = request.references.iter().map(|text| text.parse()).collect();
        let references = references.map_err(ApiError::from)?;
        let mode = if request.dry_run { tags::Mode::DryRun } else { tags::Mode::Remove };
        let (removed, seq) = tags::remove(&self.ctx, actor, &references, mode).await.map_err(ApiError::from)?;
        let removed = removed.into_iter().map(|one| v1::RemovedTag {
            repository: one.held.repository.to_string(),
            tag: one.held.tag.map(|tag| tag.to_string()).unwrap_or_default(),
            digest: one.held.digest.to_string(),
            other_tags: convert::names(&one.other_tags),
        });
        Ok(Response::new(v1::RemoveTagsResponse { removed: removed.collect(), seq }))
    }

    async fn list_remote_tags(
        &self,
        request: Request<v1::ListRemoteTagsRequest>,
    ) -> Result<Response<v1::ListRemoteTagsResponse>, Status> {
        let repository: Repository = request.into_inner().repository.parse().map_err(ApiError::from)?;
        let listed = artifacts::remote_tags(&self.ctx, &repository).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListRemoteTagsResponse { tags: convert::names(&listed.tags), cut: listed.cut }))
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
        config: Vec::new().into(),
    }
}

fn node(of: tree::Node) -> v1::TreeNode {
    let digest = of.descriptor.digest;
    let verdict = of.verdict.map(|(repository, verdict)| v1::Verdict {
        held: true,
        ..convert::offered(&Held { repository, tag: None, digest }, &verdict)
    });
    v1::TreeNode {
        descriptor: Some(convert::descriptor(&of.descriptor)),
        kind: of.kind.to_owned(),
        held: of.held,
        left_out: of.left_out,
        found_at: of.found_at,
        signatures: u32::try_from(of.signatures).unwrap_or(u32::MAX),
        verdict,
        successors: of.successors.into_iter().map(node).collect(),
        attached: of.attached.into_iter().map(node).collect(),
    }
}
