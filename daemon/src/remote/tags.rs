//! Tags listed (distribution-spec, "Listing Tags").

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use larder_core::Tag;

use super::RemoteRepository;
use super::error::{At, RemoteError};
use super::paging::Pages;

/// How many tags a page is asked to have.
const PAGE: usize = 1000;

/// The most tags of one page that are kept, more than any limit of a list: registries that have no pages put all on one.
const MAX_PAGE_TAGS: usize = 100_000;

#[derive(serde::Deserialize)]
struct Page {
    /// Go writes an empty list as null.
    tags: Option<Names>,
}

/// The names on a page that are tags: nothing can be asked for by others.
struct Names(Vec<Tag>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of tags")
            }

            // One after the other: four megabytes of empty names would take thirty as a list.
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut tags = Vec::new();
                while let Some(name) = names.next_element::<Cow<'de, str>>()? {
                    if tags.len() < MAX_PAGE_TAGS {
                        tags.extend(name.parse());
                    }
                }
                Ok(Names(tags))
            }
        }

        deserializer.deserialize_seq(Each)
    }
}

/// Tags as they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// In the registry's order (lexical, by the specification).
    pub tags: Vec<Tag>,
    /// Whether the registry has more than were asked for.
    pub cut: bool,
}

impl RemoteRepository {
    /// Lists tags, following pages, at most `limit` of them.
    ///
    /// # Errors
    /// Fails where the repository is not there, and on malformed pages.
    pub async fn tags(&self, limit: usize) -> Result<Tags, RemoteError> {
        let at = self.at(" (tags)");
        let mut pages = self.tag_pages(&at)?;
        let mut tags: Vec<Tag> = Vec::new();
        // One more than is asked for shows that there are more; a further page may have none.
        while tags.len() <= limit
            && let Some(page) = pages.next().await?
        {
            tags.extend(read_page(page, &at)?.into_iter().flatten());
        }
        let cut = tags.len() > limit;
        tags.truncate(limit);
        Ok(Tags { tags, cut })
    }

    /// Lists all tags; `None` as soon as it shows that they are on more than `pages` pages, or more than `limit`, and
    /// where a page has no list.
    ///
    /// # Errors
    /// Fails as [`Self::tags`] does.
    pub(super) async fn all_tags(&self, pages: usize, limit: usize) -> Result<Option<HashSet<Tag>>, RemoteError> {
        let at = self.at(" (tags)");
        let mut list = self.tag_pages(&at)?;
        let mut tags = HashSet::new();
        for _ in 0..pages {
            let Some(page) = list.next().await? else { break };
            // No list is not an empty list.
            let Some(page) = read_page(page, &at)? else { return Ok(None) };
            tags.extend(page);
            if tags.len() > limit {
                return Ok(None);
            }
        }
        Ok((!list.has_next()).then_some(tags))
    }

    fn tag_pages(&self, at: &At) -> Result<Pages<'_>, RemoteError> {
        Pages::new(self, at.clone(), &format!("tags/list?n={PAGE}"), "application/json", "repository")
    }
}

/// Reads a page: the names on it that are tags, or `None` where it has no list.
fn read_page(page: Bytes, at: &At) -> Result<Option<Vec<Tag>>, RemoteError> {
    let page: Page = serde_json::from_slice(&page)
        .map_err(|error| RemoteError::Malformed { at: at.clone(), why: error.to_string() })?;
    Ok(page.tags.map(|Names(tags)| tags))
}
