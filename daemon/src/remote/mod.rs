//! The OCI distribution client (DESIGN section 8, "Outbound"; facts/peers.md section 7).

use bytes::Bytes;
use futures_util::stream::BoxStream;
use larder_core::manifest::Manifest;
use larder_core::{Descriptor, Digest, Repository, Tag};

use crate::config::RegistriesConfig;

/// Every registry that can be reached, with its credentials, tokens and limits. Cheap to clone.
#[derive(Clone)]
pub struct Remotes {}

/// A repository at its registry.
#[derive(Clone)]
pub struct RemoteRepository {}

/// What one wants of a repository; decides the token's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// Says why a registry did not do what was asked: names the registry, what was asked for, what it answered, and (`hint()`) the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// skeleton
    #[error("skeleton")]
    Skeleton,
    // Unauthorized, Denied, NotFound{what}, TooManyRequests{retry_after}, Server{status,..}, Unreachable{..}, Forbidden address, DigestMismatch, LengthMismatch, TooLarge, Malformed{..}, Redirect{..}, Token{..}, PlainHttp…
}

impl RemoteError {
    /// A stable machine reason: unauthorized, denied, not-found, rate-limited, registry-error, unreachable, refused-address, digest-mismatch, malformed-answer, …
    pub fn reason(&self) -> &'static str {
        unimplemented!()
    }
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        unimplemented!()
    }
}

/// What a tag was resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The digest.
    pub digest: Digest,
    /// The manifest, where the answer brought it along (registries whose HEAD says no digest).
    pub manifest: Option<Manifest>,
}

/// What refers to a digest.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// Whether the registry has the referrers API.
    pub api: bool,
    /// From the API and from the fallback tag, merged, each digest once.
    pub descriptors: Vec<Descriptor>,
    /// Lines for people: `referrers API: 2`, `sha256-4bcff63911fc…: none`.
    pub looked_at: Vec<String>,
}

/// A blob's bytes as they arrive; length and digest are the taker's to verify (Store::ingest does), the stream ends with an error where the
/// registry closes early.
pub type BlobStream = BoxStream<'static, Result<Bytes, RemoteError>>;

impl Remotes {
    /// Builds the clients; opens nothing.
    pub fn new(_config: RegistriesConfig) -> Result<Self, RemoteError> {
        unimplemented!()
    }
    /// Returns a repository at its registry; `Err` for local repositories, which have none.
    pub fn repository(&self, _repository: &Repository, _access: Access) -> Result<RemoteRepository, RemoteError> {
        unimplemented!()
    }
}

impl RemoteRepository {
    /// Resolves a tag by HEAD (by GET where HEAD says no digest); `None` where the tag is not there.
    pub async fn resolve(&self, _tag: &Tag) -> Result<Option<Resolved>, RemoteError> {
        unimplemented!()
    }
    /// Fetches a manifest by digest, verified; `None` where it is not there.
    pub async fn manifest(&self, _digest: &Digest) -> Result<Option<Manifest>, RemoteError> {
        unimplemented!()
    }
    /// Fetches a blob as a stream.
    pub async fn blob(&self, _descriptor: &Descriptor) -> Result<BlobStream, RemoteError> {
        unimplemented!()
    }
    /// Fetches a small blob whole and verified, refusing more than `limit` bytes.
    pub async fn small_blob(&self, _descriptor: &Descriptor, _limit: u64) -> Result<Bytes, RemoteError> {
        unimplemented!()
    }
    /// Lists tags, following pages, at most `limit` of them.
    pub async fn tags(&self, _limit: usize) -> Result<Vec<Tag>, RemoteError> {
        unimplemented!()
    }
    /// Lists what refers to a digest: the referrers API and the fallback tag, merged. Every error but "not there" is an error.
    pub async fn referrers(&self, _subject: &Digest) -> Result<Referrers, RemoteError> {
        unimplemented!()
    }
    /// Says whether a blob is there.
    pub async fn has_blob(&self, _digest: &Digest) -> Result<bool, RemoteError> {
        unimplemented!()
    }
    /// Says whether a manifest is there.
    pub async fn has_manifest(&self, _digest: &Digest) -> Result<bool, RemoteError> {
        unimplemented!()
    }
    /// Uploads a blob.
    pub async fn push_blob(&self, _descriptor: &Descriptor, _bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<(), RemoteError> {
        unimplemented!()
    }
    /// Uploads a manifest, by tag or (without one) by digest; where it has a subject and the registry does not say `OCI-Subject`, the
    /// fallback index is updated (read, append, write).
    pub async fn push_manifest(&self, _manifest: &Manifest, _tag: Option<&Tag>) -> Result<(), RemoteError> {
        unimplemented!()
    }
}
