//! Tags listed (distribution-spec, "Listing Tags").

use larder_core::Tag;

use super::RemoteRepository;
use super::error::RemoteError;
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
        let mut pages = Pages::new(self, at.clone(), &format!("tags/list?n={PAGE}"), "application/json", "repository")?;
        let mut tags: Vec<Tag> = Vec::new();
        while tags.len() < limit
            && let Some(page) = pages.next().await?
        {
            let page: Page = serde_json::from_slice(&page)
                .map_err(|error| RemoteError::Malformed { at: at.clone(), why: error.to_string() })?;
            let room = limit - tags.len();
            tags.extend(page.tags.into_iter().flatten().filter_map(|tag| tag.parse().ok()).take(room));
        }
        Ok(tags)
    }
}
