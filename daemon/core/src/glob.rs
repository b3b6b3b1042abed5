//! Globs over repositories, as ClusterImagePolicy has them (facts/sigstore.md 8.2).

use crate::digest::Digest;
use crate::reference::Repository;

/// A valid, normalised glob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {}

/// Says why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GlobError(pub String);

impl std::str::FromStr for Glob {
    type Err = GlobError;
    fn from_str(_text: &str) -> Result<Self, GlobError> {
        unimplemented!()
    }
}

impl Glob {
    /// Returns the glob as it was written.
    pub fn as_str(&self) -> &str {
        unimplemented!()
    }
    /// Says whether it matches `REPO` or `REPO@DIGEST`, Docker Hub tried by both of its names.
    pub fn matches(&self, _repository: &Repository, _digest: &Digest) -> bool {
        unimplemented!()
    }
    /// Says whether it could match some digest of the repository.
    pub fn may_match(&self, _repository: &Repository) -> bool {
        unimplemented!()
    }
    /// Says whether it has a `:tag`, which never matches.
    pub fn has_tag(&self) -> bool {
        unimplemented!()
    }
}
