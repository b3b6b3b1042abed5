//! Which repositories the endpoint has, page by page.

use larder_core::Repository;

use super::Ctx;
use crate::store::StoreError;

/// The most repositories that one page lists.
pub const MAX_REPOSITORIES: usize = 1000;

/// A page of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// In the order of their names.
    pub repositories: Vec<Repository>,
    /// There are more behind them.
    pub more: bool,
}

/// Lists a page of the repositories that hold manifests, at most `limit`, behind `after`.
///
/// # Errors
/// Fails where the store does.
pub async fn repositories(ctx: &Ctx, after: Option<&Repository>, limit: Option<usize>) -> Result<Catalog, StoreError> {
    let limit = limit.unwrap_or(MAX_REPOSITORIES).min(MAX_REPOSITORIES);
    let mut repositories = ctx.store.repositories(after, limit + 1).await?;
    // A page of none is the answer to `n=0`, and nothing follows it.
    let more = limit > 0 && repositories.len() > limit;
    repositories.truncate(limit);
    Ok(Catalog { repositories, more })
}
