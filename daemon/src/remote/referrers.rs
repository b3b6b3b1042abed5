//! What refers to a digest (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use std::collections::HashSet;

use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::manifest::{Content, OCI_INDEX};
use larder_core::{Descriptor, Digest, Tag};
use serde::Deserialize as _;

use super::RemoteRepository;
use super::error::{At, RemoteError};
use super::paging::Pages;

/// The most referrers of one digest that are listed.
const MAX_REFERRERS: usize = 100_000;

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

/// A page of the API: an image index, of which only the list matters.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    media_type: Option<String>,
    /// Required, but Go writes an empty list as null.
    #[serde(deserialize_with = "list_or_null")]
    manifests: Vec<Descriptor>,
}

fn list_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Descriptor>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl RemoteRepository {
    /// Lists what refers to a digest: the referrers API and the fallback tag, merged.
    ///
    /// Both are asked: a registry that has just got the API may not list what was pushed before, and some answer with
    /// an empty list whatever there is.
    ///
    /// # Errors
    /// Fails on every answer but a list and 404: a list that cannot be had is not an empty one.
    pub async fn referrers(&self, subject: &Digest) -> Result<Referrers, RemoteError> {
        let at = self.at(&format!("@{subject} (referrers)"));
        let mut found = Referrers::default();
        let from_api = self.listed_by_api(&at, subject).await?;
        found.api = from_api.is_some();
        found.looked_at.push(match &from_api {
            None => "referrers API: not offered".into(),
            Some(list) => format!("referrers API: {}", count(list.len())),
        });
        let mut seen = HashSet::new();
        let from_api = from_api.unwrap_or_default();
        found.descriptors.extend(from_api.into_iter().filter(|descriptor| seen.insert(descriptor.digest)));

        if let Some(tag) = fallback_tag(subject) {
            let from_tag = self.listed_under(&at, &tag).await?;
            found.looked_at.push(format!(
                "{}-{}…: {}",
                subject.algorithm().name(),
                subject.short(),
                count(from_tag.len())
            ));
            found.descriptors.extend(from_tag.into_iter().filter(|descriptor| seen.insert(descriptor.digest)));
        }
        Ok(found)
    }

    /// Asks the API; `None` where the registry does not have it.
    async fn listed_by_api(&self, at: &At, subject: &Digest) -> Result<Option<Vec<Descriptor>>, RemoteError> {
        let mut pages = Pages::new(self, at.clone(), &format!("referrers/{subject}"), OCI_INDEX, "referrers")?;
        let mut list = Vec::new();
        let mut first = true;
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(Some(list)),
                Err(RemoteError::NotFound { .. }) if first => return Ok(None),
                Err(error) => return Err(error),
            };
            first = false;
            let malformed = |why: String| RemoteError::Malformed { at: at.clone(), why };
            let page: Page = serde_json::from_slice(&page).map_err(|error| malformed(error.to_string()))?;
            if page.media_type.is_some_and(|media_type| media_type != OCI_INDEX) {
                return Err(malformed("the list of referrers is no image index".into()));
            }
            list.extend(page.manifests);
            if list.len() > MAX_REFERRERS {
                return Err(RemoteError::TooLarge { at: at.clone(), limit: format!("{MAX_REFERRERS} referrers") });
            }
        }
    }

    /// Reads the index under the fallback tag; nothing where there is none.
    async fn listed_under(&self, at: &At, tag: &Tag) -> Result<Vec<Descriptor>, RemoteError> {
        let Some(index) = self.manifest_by_tag(self.at(&format!(":{tag}")), tag).await? else {
            return Ok(Vec::new());
        };
        match index.content() {
            Content::Index { manifests } => Ok(manifests.clone()),
            Content::Image { .. } => {
                let why = format!("what is under the tag {tag} is no index");
                Err(RemoteError::Malformed { at: at.clone(), why })
            }
        }
    }
}

/// Returns the tag under which a registry without the API keeps the list of what refers to `subject`.
pub(super) fn fallback_tag(subject: &Digest) -> Option<Tag> {
    DigestTag { digest: *subject, suffix: TagSuffix::Fallback }.tag()
}

fn count(number: usize) -> String {
    if number == 0 { "none".into() } else { number.to_string() }
}
