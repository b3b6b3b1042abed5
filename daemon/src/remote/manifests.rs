//! Tags resolved, manifests fetched (distribution-spec, "Pulling manifests").

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use larder_core::manifest::{ACCEPTED, MAX_MANIFEST_BYTES, Manifest};
use larder_core::{Digest, Tag};

use super::error::{At, RemoteError};
use super::transport::read_all;
use super::{RemoteRepository, named_digest, set_accept};

/// What a tag was resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The digest.
    pub digest: Digest,
    /// The manifest, where the answer brought it along (registries whose HEAD says no digest).
    pub manifest: Option<Manifest>,
}

impl RemoteRepository {
    /// Resolves a tag by HEAD, which costs no rate limit, or by GET where HEAD says no digest; `None` where the tag is
    /// not there.
    ///
    /// # Errors
    /// Fails on every answer but "here" and 404.
    pub async fn resolve(&self, tag: &Tag) -> Result<Option<Resolved>, RemoteError> {
        let at = self.at(&format!(":{tag}"));
        let mut call = self.call(Method::HEAD, at.clone(), &format!("manifests/{tag}"))?;
        set_accept(&mut call.headers, &ACCEPTED);
        let response = {
            let _permit = self.connection.admit(&at, &call.method).await?;
            self.connection.call(&call).await?
        };
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {
                if let Some(digest) = named_digest(response.headers()) {
                    return Ok(Some(Resolved { digest, manifest: None }));
                }
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            _ => return Err(self.failure(&at, response, "tag").await),
        }
        self.fetch_tag(tag).await
    }

    /// Resolves a tag of which nothing is known: by GET, for its manifest will be needed; `None` where it is not there.
    ///
    /// # Errors
    /// Fails as [`Self::manifest`] does.
    pub async fn fetch_tag(&self, tag: &Tag) -> Result<Option<Resolved>, RemoteError> {
        let manifest = self.fetch(self.at(&format!(":{tag}")), tag.as_str(), None, "tag").await?;
        Ok(manifest.map(|manifest| Resolved { digest: manifest.digest(), manifest: Some(manifest) }))
    }

    /// Fetches a manifest by digest, verified; `None` where it is not there.
    ///
    /// # Errors
    /// Fails on every answer but "here" and 404, and where the bytes are not what was asked for.
    pub async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, RemoteError> {
        self.fetch(self.at(&format!("@{digest}")), &digest.to_string(), Some(*digest), "manifest").await
    }

    /// Says whether a manifest is there.
    ///
    /// # Errors
    /// Fails on every answer but "here" and 404.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool, RemoteError> {
        self.is_there(self.at(&format!("@{digest}")), &format!("manifests/{digest}"), &ACCEPTED, "manifest").await
    }

    /// Fetches a manifest by tag, verified against the digest that the registry names with it.
    pub(super) async fn manifest_by_tag(&self, at: At, tag: &Tag) -> Result<Option<Manifest>, RemoteError> {
        self.fetch(at, tag.as_str(), None, "tag").await
    }

    async fn fetch(
        &self,
        at: At,
        reference: &str,
        expected: Option<Digest>,
        kind: &'static str,
    ) -> Result<Option<Manifest>, RemoteError> {
        let mut call = self.call(Method::GET, at, &format!("manifests/{reference}"))?;
        set_accept(&mut call.headers, &ACCEPTED);
        let at = &call.at;
        let _permit = self.connection.admit(at, &call.method).await?;
        let response = self.connection.call(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.failure(at, response, kind).await),
        }
        let headers = response.headers();
        let expected = expected.or_else(|| named_digest(headers));
        let announced = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let raw = read_all(at, response, MAX_MANIFEST_BYTES).await.map_err(|error| match error {
            RemoteError::TooLarge { at, limit } => {
                RemoteError::TooLarge { at, limit: format!("{limit}, the most that a manifest may have") }
            }
            error => error,
        })?;
        let manifest = match expected {
            Some(expected) => Manifest::parse_as(raw, announced.as_deref(), expected),
            None => Manifest::parse(raw, announced.as_deref()),
        };
        manifest.map(Some).map_err(|source| RemoteError::Manifest { at: at.clone(), source: Box::new(source) })
    }
}
