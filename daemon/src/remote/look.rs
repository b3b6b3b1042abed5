//! What one operation finds out about a repository while it looks for what is attached there.
//!
//! Five hundred images of one repository need not ask five hundred times whether the registry has the referrers API, nor
//! four times each whether there is a tag of cosign's: one answer and one list of tags say it for all. Both live as
//! long as the operation and no longer than [`FRESH`]; they are never kept for the next one, which would miss the
//! signature that was made in between.

use std::collections::HashSet;
use std::sync::{Arc, Mutex as Brief, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{Digest, Tag};
use tokio::sync::Mutex;

use super::RemoteRepository;
use super::error::RemoteError;
use super::manifests::Resolved;
use super::referrers::{ByApi, Listed, MAX_FOLLOWED, Referrers, count, fallback_tag};

/// How long an answer stands for subjects other than the one that it was given to. An operation may take hours.
const FRESH: Duration = Duration::from_secs(60);
/// The most pages of a list of tags that are read, however many subjects they would serve.
const MAX_PAGES: usize = 128;
/// The most tags of a list that are kept.
const MAX_TAGS: usize = 50_000;

/// A look at one repository, shared by everything that one operation takes from there.
pub struct Look {
    repository: RemoteRepository,
    /// How many references of the repository the operation has.
    references: usize,
    /// Held while the first subject is asked about, so that those which start with it need not ask.
    api: Mutex<Option<(Instant, Api)>>,
    /// Held while the list is fetched, which happens once.
    listed: Mutex<Option<(Instant, Tags)>>,
    /// Tags that were found by their name since the last glance at the list. Held for a moment only.
    found: Brief<Vec<Tag>>,
}

/// Whether a repository's registry has the referrers API.
#[derive(Clone, Copy)]
enum Api {
    Absent,
    /// It has, or it did not say: each subject is asked about.
    ToBeAsked,
}

/// The tags of a repository.
#[derive(Clone)]
enum Tags {
    All(Arc<HashSet<Tag>>),
    /// The list cannot be had, costs more than it saves, or is not to be relied on: tags are asked for by name.
    ByName,
}

impl Look {
    /// Begins a look at a repository of which the operation has so many references.
    pub fn new(repository: RemoteRepository, references: usize) -> Self {
        Self { repository, references, api: Mutex::default(), listed: Mutex::default(), found: Brief::default() }
    }

    /// Returns the repository.
    pub fn repository(&self) -> &RemoteRepository {
        &self.repository
    }

    /// Resolves a tag that was asked for; `None` where it is not there. The manifest of a tag that is new here comes along:
    /// one request instead of two.
    ///
    /// # Errors
    /// Fails as [`RemoteRepository::resolve`] does.
    pub async fn resolve(&self, tag: &Tag, is_known: bool) -> Result<Option<Resolved>, RemoteError> {
        let resolved = match is_known {
            true => self.repository.resolve(tag).await?,
            false => self.repository.fetch_tag(tag).await?,
        };
        if resolved.is_some() {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).push(tag.clone());
        }
        Ok(resolved)
    }

    /// Lists what refers to a digest: by the referrers API and under the fallback tag, merged.
    ///
    /// Both are asked: a registry that has just got the API may not list what was pushed before, and some answer with
    /// an empty list whatever there is.
    ///
    /// # Errors
    /// Fails where a list cannot be had: it is not an empty one.
    pub async fn referrers(&self, subject: &Digest) -> Result<Referrers, RemoteError> {
        let (by_api, by_tag) = tokio::try_join!(self.by_api(subject), self.by_fallback_tag(subject))?;
        let mut found = Referrers { api: by_api.is_some(), ..Referrers::default() };
        found.looked_at.push(match &by_api {
            None => "referrers API: not offered".into(),
            Some(list) => format!("referrers API: {}", count(list.count)),
        });
        let name = subject.algorithm().name();
        found.looked_at.push(format!("{name}-{}…: {}", subject.short(), count(by_tag.count)));
        let by_api = by_api.unwrap_or_default();
        let cut = (by_api.count - by_api.first.len()) + (by_tag.count - by_tag.first.len());
        let mut seen = HashSet::new();
        found.found = by_api.first.into_iter().chain(by_tag.first).filter(|one| seen.insert(one.digest)).collect();
        let beyond = cut + found.found.len().saturating_sub(MAX_FOLLOWED);
        found.found.truncate(MAX_FOLLOWED);
        if beyond > 0 {
            found.looked_at.push(format!("{beyond} referrers beyond the first {MAX_FOLLOWED} are left"));
        }
        Ok(found)
    }

    /// Asks the API; `None` where the registry does not have it.
    async fn by_api(&self, subject: &Digest) -> Result<Option<Listed>, RemoteError> {
        let mut known = self.api.lock().await;
        match *known {
            Some((at, Api::Absent)) if at.elapsed() < FRESH => return Ok(None),
            Some((_, Api::ToBeAsked)) => drop(known),
            Some((_, Api::Absent)) | None => {
                let answer = self.repository.referrers_by_api(subject).await;
                let api = if matches!(answer, Ok(ByApi::NotOffered)) { Api::Absent } else { Api::ToBeAsked };
                *known = Some((Instant::now(), api));
                return answer.map(ByApi::list);
            }
        }
        self.repository.referrers_by_api(subject).await.map(ByApi::list)
    }

    async fn by_fallback_tag(&self, subject: &Digest) -> Result<Listed, RemoteError> {
        match fallback_tag(subject) {
            Some(tag) if self.may_be_there(&tag).await => self.repository.referrers_by_tag(subject, &tag).await,
            _ => Ok(Listed::default()),
        }
    }

    /// Says whether a tag is to be asked for by name: `false` only where the list of tags, fetched by this very
    /// operation, is whole and does not show it.
    pub async fn may_be_there(&self, tag: &Tag) -> bool {
        let mut listed = self.listed.lock().await;
        let fresh = listed.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, listed)| listed.clone());
        let tags = match fresh {
            Some(tags) => tags,
            None => {
                let tags = self.list().await;
                *listed = Some((Instant::now(), tags.clone()));
                tags
            }
        };
        let Tags::All(tags) = tags else { return true };
        // A list that lacks what was just found by its name is not whole, whatever it says.
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        if found.iter().any(|found| !tags.contains(found)) {
            tracing::debug!("{}: the list of tags is not whole", self.repository);
            *listed = Some((Instant::now(), Tags::ByName));
            return true;
        }
        tags.contains(tag)
    }

    /// Lists the tags, unless that costs more requests than it saves.
    async fn list(&self) -> Tags {
        // A page for each reference costs less than the four tags that each of its subjects would be asked for.
        let pages = self.references.clamp(1, MAX_PAGES);
        match self.repository.all_tags(pages, MAX_TAGS).await {
            Ok(Some(tags)) => Tags::All(Arc::new(tags)),
            Ok(None) => Tags::ByName,
            Err(error) => {
                tracing::debug!(%error, "no list of tags");
                Tags::ByName
            }
        }
    }
}
