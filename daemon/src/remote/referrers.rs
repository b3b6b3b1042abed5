//! What refers to a digest (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::manifest::{Content, OCI_INDEX, is_manifest};
use larder_core::{Digest, Tag};
use reqwest::Response;
use serde::Deserialize as _;

use super::RemoteRepository;
use super::error::{At, RemoteError};
use super::paging::Pages;
use super::transport::read_all;

/// The most referrers of one digest that a registry may list.
const MAX_LISTED: usize = 100_000;
/// The most referrers of one digest that are followed; beyond, they are counted and left.
pub(super) const MAX_FOLLOWED: usize = 2000;
/// The most bytes that the words of a 404 may have.
const MAX_REFUSAL: u64 = 16 << 10;

/// What refers to a digest, as [`Look::referrers`](super::Look::referrers) found it.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// Whether the registry has the referrers API.
    pub api: bool,
    /// From the API and from the fallback tag, merged, each digest once.
    pub found: Vec<Referrer>,
    /// Lines for people: `referrers API: 2`, `sha256-4bcff63911fc…: none`.
    pub looked_at: Vec<String>,
}

/// One that refers: all of its descriptor that is needed. The rest may be long, and many of them are kept at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Whether it can be fetched as a manifest, by its media type.
    pub is_manifest: bool,
}

impl Referrer {
    fn new(digest: Digest, media_type: &str) -> Self {
        Self { digest, is_manifest: media_type.is_empty() || is_manifest(media_type) }
    }
}

/// What a list says: those that are followed, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The first of them.
    pub(super) first: Vec<Referrer>,
    /// How many there are in all.
    pub(super) count: usize,
}

impl Extend<Referrer> for Listed {
    fn extend<I: IntoIterator<Item = Referrer>>(&mut self, referrers: I) {
        for referrer in referrers {
            self.count += 1;
            if self.first.len() < MAX_FOLLOWED {
                self.first.push(referrer);
            }
        }
    }
}

/// A page of the API: an image index, of which only the list matters.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    media_type: Option<String>,
    /// Required, but Go writes an empty list as null.
    #[serde(deserialize_with = "list_or_null")]
    manifests: Vec<Entry>,
}

fn list_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What is read of a descriptor; what else it has (`data`, annotations) is passed over.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(rename = "size")]
    _size: u64,
}

/// What the referrers API answers about one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ByApi {
    /// What it lists.
    Listed(Listed),
    /// The registry does not have the API, whatever the digest.
    NotOffered,
    /// It lists nothing for this digest, and says nothing of others.
    Unclear,
}

impl ByApi {
    /// Returns the list; `None` where there is none.
    pub(super) fn list(self) -> Option<Listed> {
        match self {
            Self::Listed(list) => Some(list),
            Self::NotOffered | Self::Unclear => None,
        }
    }
}

impl RemoteRepository {
    /// Asks the API.
    ///
    /// Registries that do not have it are meant to answer 404; some answer 405, 406 or 501, or with a page for people.
    /// Those that have it are meant to answer with a list always; some answer 400 (Quay) or 404 with an error about the
    /// repository or the manifest where they do not know that.
    ///
    /// # Errors
    /// Fails on every other answer but a list: a list that cannot be had is not an empty one.
    pub(super) async fn referrers_by_api(&self, subject: &Digest) -> Result<ByApi, RemoteError> {
        let at = self.at(&format!("@{subject} (referrers)"));
        let mut pages = Pages::new(self, at.clone(), &format!("referrers/{subject}"), OCI_INDEX, "referrers")?;
        let Some((permit, first)) = pages.send().await? else { return Ok(ByApi::Listed(Listed::default())) };
        match first.status().as_u16() {
            400 => return Ok(ByApi::Unclear),
            404 => return Ok(missing(&at, first).await),
            405 | 406 | 501 => return Ok(ByApi::NotOffered),
            200 if is_page_for_people(first.headers()) => return Ok(ByApi::Unclear),
            _ => {}
        }
        let mut list = Listed::default();
        let mut page = Some(pages.read(first).await?);
        drop(permit);
        while let Some(bytes) = page {
            list.extend(read_page(&at, bytes)?);
            if list.count > MAX_LISTED {
                return Err(RemoteError::TooLarge { at: at.clone(), limit: format!("{MAX_LISTED} referrers") });
            }
            page = pages.next().await?;
        }
        Ok(ByApi::Listed(list))
    }

    /// Reads the index under the fallback tag of a digest; nothing where there is none.
    ///
    /// # Errors
    /// Fails on every answer but an index and 404.
    pub(super) async fn referrers_by_tag(&self, subject: &Digest, tag: &Tag) -> Result<Listed, RemoteError> {
        let at = self.at(&format!(":{tag}"));
        let Some(index) = self.manifest_by_tag(at.clone(), tag).await? else { return Ok(Listed::default()) };
        // GitLab's registry takes `sha256-<hex>` for `sha256:<hex>`: what it answers with is the subject, whose children
        // do not refer to it.
        if index.digest() == *subject {
            return Ok(Listed::default());
        }
        match index.content() {
            Content::Index { manifests } => {
                let mut list = Listed::default();
                list.extend(manifests.iter().map(|child| Referrer::new(child.digest, &child.media_type)));
                Ok(list)
            }
            Content::Image { .. } => {
                let why = format!("what is under the tag {tag} is no index");
                Err(RemoteError::Malformed { at, why })
            }
        }
    }
}

/// Reads a page of the API.
fn read_page(at: &At, bytes: Bytes) -> Result<impl Iterator<Item = Referrer> + use<>, RemoteError> {
    let malformed = |why: String| RemoteError::Malformed { at: at.clone(), why };
    let page: Page = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if page.media_type.is_some_and(|media_type| media_type != OCI_INDEX) {
        return Err(malformed("the list of referrers is no image index".into()));
    }
    Ok(page.manifests.into_iter().map(|entry| Referrer::new(entry.digest, &entry.media_type)))
}

/// Reads a 404: without the API there is no such path, whoever says so; an error about the repository or the manifest
/// comes from a registry that knows the path.
async fn missing(at: &At, response: Response) -> ByApi {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Refusal>,
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        code: String,
    }
    // Where the words cannot be read, every digest is asked about.
    let Ok(body) = read_all(at, response, MAX_REFUSAL).await else { return ByApi::Unclear };
    match serde_json::from_slice::<Envelope>(&body) {
        Ok(said) if said.errors.iter().any(|error| error.code != "UNSUPPORTED") => ByApi::Unclear,
        _ => ByApi::NotOffered,
    }
}

/// Says whether an answer is HTML, which what stands before a registry may show for every path that it does not know.
fn is_page_for_people(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.trim_start().get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html"))
}

/// Returns the tag under which a registry without the API keeps the list of what refers to `subject`.
pub(super) fn fallback_tag(subject: &Digest) -> Option<Tag> {
    DigestTag { digest: *subject, suffix: TagSuffix::Fallback }.tag()
}

pub(super) fn count(number: usize) -> String {
    if number == 0 { "none".into() } else { number.to_string() }
}
