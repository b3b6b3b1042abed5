//! Trusted roots of the folder, and how long each may be leaned on.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::TrustSet;
use crate::key::AnchorId;
use crate::keyless::TrustedRoot;

/// What the configuration says about trust, beside the folder's files. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `[trust] root_max_age_days`: how old a root may be before nothing that leans on it is accepted.
    pub root_max_age: Option<SignedDuration>,
}

/// One `roots/<name>.json`, with what `roots/<name>.yaml` says of it.
#[derive(Clone, Debug)]
pub struct Root {
    /// The hash of all that it names: another spelling of the same root is the same.
    pub id: AnchorId,
    /// Whom it names.
    pub root: Arc<TrustedRoot>,
    /// `asOf`: when somebody last knew it to be the current one.
    pub as_of: Option<Timestamp>,
}

impl Root {
    /// Returns the instant from which its age counts: `asOf`, else the newest beginning that it names itself, which is
    /// older; `None` where it names none, so that nobody knows its age.
    pub fn dated(&self) -> Option<Timestamp> {
        self.as_of.or_else(|| self.root.newest())
    }
}

/// How long a root may be leaned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootEnd {
    /// For as long as it is there: no limit is configured.
    Never,
    /// Until this instant, which is excluded.
    At(Timestamp),
    /// Not at all: there is a limit, and nobody knows how old it is.
    Always,
}

impl RootEnd {
    /// Says whether it is over.
    pub fn is_over(self, now: Timestamp) -> bool {
        match self {
            Self::Never => false,
            Self::At(end) => now >= end,
            Self::Always => true,
        }
    }
}

impl TrustSet {
    /// Says how long a root may be leaned on.
    pub fn root_end(&self, root: &Root) -> RootEnd {
        match (self.rules.root_max_age, root.dated()) {
            (None, _) => RootEnd::Never,
            (Some(age), Some(dated)) => RootEnd::At(dated.checked_add(age).unwrap_or(Timestamp::MAX)),
            (Some(_), None) => RootEnd::Always,
        }
    }
}
