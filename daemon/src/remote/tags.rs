//! Tags listed (distribution-spec, "Listing Tags").

use std::collections::HashSet;

use larder_core::Tag;

use super::RemoteRepository;
use super::error::{At, RemoteError};
use super::paging::Pages;

/// How many tags a page is asked to have.
const PAGE: usize = 1000;

#[derive(serde::Deserialize)]
struct Page {
    /// Go writes an empty list as null.
    tags: Option<Vec<String>>,
}

impl RemoteRepository {
    /// Lists tags, following pages, at most `limit` of them, in the registry's order (lexical, by the specification).
    ///
    /// Names that are no tags are left out: nothing can be asked for by them.
    ///
    /// # Errors
    /// Fails where the repository is not there, and on malformed pages.
    pub async fn tags(&self, limit: usize) -> Result<Vec<Tag>, RemoteError> {
        let at = self.at(" (tags)");
        let mut pages = self.tag_pages(&at)?;
        let mut tags: Vec<Tag> = Vec::new();
        while tags.len() < limit
            && let Some(page) = pages.next().await?
        {
            let page = read_page(&page, &at)?;
            tags.extend(page.into_iter().flatten().take(limit - tags.len()));
        }
        Ok(tags)
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
            let Some(page) = read_page(&page, &at)? else { return Ok(None) };
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
fn read_page(page: &[u8], at: &At) -> Result<Option<impl Iterator<Item = Tag> + use<>>, RemoteError> {
    let page: Page = serde_json::from_slice(page)
        .map_err(|error| RemoteError::Malformed { at: at.clone(), why: error.to_string() })?;
    Ok(page.tags.map(|tags| tags.into_iter().filter_map(|tag| tag.parse().ok())))
}
