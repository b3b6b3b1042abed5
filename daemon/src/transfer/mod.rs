//! The one graph copy: push, pull, save and load are all a walk over manifests (`plan`) and a copy of what
//! the sink lacks (`copy`), successors before parents.
//!
//! A [`Source`] says what an artifact consists of and what is attached to it; a [`Sink`] takes it.
//! Both are registries, the store, or archives. Whatever a plan holds was verified against its digest.

mod copy;
mod flight;
mod layout;
mod plan;
mod remote;
mod store;

use std::future::Future;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::{Descriptor, Digest, Platform, Tag};

use crate::bundle::BundleError;
use crate::remote::RemoteError;
use crate::store::StoreError;

pub use copy::{Moved, Progress, Reading, copy_blobs};
pub use flight::Flights;
pub use layout::{LayoutSink, LayoutSource, Piece};
pub use plan::{Node, Plan, Room, Selection, plan};
pub use remote::{RemoteSink, RemoteSource};
pub use store::{StoreSink, StoreSource};

/// The bytes of a blob as they arrive; the sink verifies them.
pub type BlobStream = BoxStream<'static, Result<Bytes, TransferError>>;

/// Where artifacts come from.
pub trait Source: Send + Sync {
    /// Returns a manifest, verified; `None` where it is not there.
    fn manifest(&self, digest: &Digest) -> impl Future<Output = Result<Option<Manifest>, TransferError>> + Send;

    /// Returns what is attached to a digest, as long as there is room for it.
    fn attached(
        &self,
        subject: &Digest,
        room: &Room,
    ) -> impl Future<Output = Result<AttachedList, TransferError>> + Send;

    /// Returns a blob's bytes, without so many at its beginning.
    fn blob(
        &self,
        descriptor: &Descriptor,
        from: u64,
    ) -> impl Future<Output = Result<BlobStream, TransferError>> + Send;
}

/// Where artifacts go.
pub trait Sink: Send + Sync {
    /// Says whether the blob is there already.
    fn has_blob(&self, descriptor: &Descriptor) -> impl Future<Output = Result<bool, TransferError>> + Send;

    /// Fails where there is no room for so many bytes of blobs, as far as that can be known.
    fn check_room(&self, _bytes: u64) -> Result<(), TransferError> {
        Ok(())
    }

    /// Says how many bytes of a blob an earlier copy left.
    fn begun(&self, _descriptor: &Descriptor) -> u64 {
        0
    }

    /// Takes a blob; digest and length are verified before anybody can see it.
    fn put_blob<S: Source>(
        &self,
        descriptor: &Descriptor,
        reading: &Reading<'_, S>,
    ) -> impl Future<Output = Result<(), TransferError>> + Send;

    /// Takes manifests, successors first, all of whose other successors are there. Returns those that had to move.
    fn put_manifests<'a>(
        &self,
        manifests: &[&'a Manifest],
    ) -> impl Future<Output = Result<Vec<&'a Manifest>, TransferError>> + Send;
}

/// What is attached to a subject, and where it was looked for.
#[derive(Debug, Default)]
pub struct AttachedList {
    /// The manifests.
    pub found: Vec<Found>,
    /// Lines for people: `referrers API: 2`, `sha256-4bcff63911fc….sig: none`.
    pub looked_at: Vec<String>,
}

/// A manifest that is attached to a subject.
#[derive(Clone, Debug)]
pub struct Found {
    /// The manifest.
    pub manifest: Manifest,
    /// The tag that it was found under; `None` for a referrer.
    pub tag: Option<Tag>,
}

/// Which side of a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Says why a copy failed. Nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A registry did not do what was asked.
    #[error("{source}")]
    Remote {
        /// Which side it is on.
        side: Side,
        /// What it answered.
        source: RemoteError,
    },
    /// The store did not do what was asked.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An archive is not what it should be.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// A manifest that another one lists is not there.
    #[error("{digest}, which the index {index} lists, is not there")]
    MissingChild {
        /// The listed digest.
        digest: Digest,
        /// The index that lists it.
        index: Digest,
    },
    /// The root is not there.
    #[error("{0} is not there")]
    MissingRoot(Digest),
    /// Indexes are nested too deeply.
    #[error("the index {0} is nested deeper than 8 levels")]
    TooDeep(Digest),
    /// There are more manifests than one artifact may have.
    #[error("the artifact {0} has more than 4,096 manifests")]
    TooManyManifests(Digest),
    /// Its manifests take more memory than one artifact's may.
    #[error("the manifests of {root} and of what is attached to it take more than {mib} MiB of memory")]
    ManifestsTooLarge {
        /// The artifact.
        root: Digest,
        /// How much they may take.
        mib: usize,
    },
    /// The index has nothing for the platform.
    #[error("the index {index} has no image for {wanted}; it has {}", offered_text(offered))]
    NoPlatform {
        /// The index.
        index: Digest,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// A manifest cannot be read.
    #[error("{digest}: {source}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        source: ManifestError,
    },
    /// A blob's bytes are not those that its descriptor promises.
    #[error("the blob {digest} was refused: {what}")]
    Content {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        what: &'static str,
    },
    /// The stream of a blob failed on the way.
    #[error("the blob {digest} could not be read: {message}")]
    Read {
        /// Its digest.
        digest: Digest,
        /// What happened.
        message: String,
    },
}

fn offered_text(offered: &[Platform]) -> String {
    if offered.is_empty() {
        return "none that names a platform".to_owned();
    }
    let mut names: Vec<String> = offered.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

impl TransferError {
    /// Says whether a copy that went on behind an earlier one's bytes may have failed for their sake.
    fn may_lie_with_the_beginning(&self) -> bool {
        matches!(
            self.reason(),
            "digest-mismatch" | "length-mismatch" | "registry-error" | "malformed-answer" | "io" | "truncated"
        )
    }

    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Remote { source, .. } => source.reason(),
            Self::Store(error) => error.reason(),
            Self::Bundle(error) => error.reason(),
            Self::MissingChild { .. } | Self::MissingRoot(_) => "not-found",
            Self::TooDeep(_) | Self::TooManyManifests(_) | Self::Manifest { .. } => "invalid-manifest",
            Self::ManifestsTooLarge { .. } => "too-large",
            Self::NoPlatform { .. } => "no-platform",
            Self::Content { .. } => "digest-mismatch",
            Self::Read { .. } => "interrupted",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Remote { source, .. } => source.hint(),
            Self::Store(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            Self::MissingChild { .. } | Self::MissingRoot(_) => {
                Some("the registry is incomplete or was changed meanwhile: try again, or ask its owner".to_owned())
            }
            Self::NoPlatform { .. } => {
                Some("`--platform OS/ARCH` names another, `--platform all` takes all".to_owned())
            }
            Self::ManifestsTooLarge { .. } => Some(
                "nothing was changed; `--platform OS/ARCH` takes one image of an index; else its publisher has to part it, \
                 or to remove some of what is attached"
                    .to_owned(),
            ),
            Self::TooDeep(_) | Self::TooManyManifests(_) | Self::Manifest { .. } | Self::Content { .. } => {
                Some("nothing was changed; the artifact's publisher has to mend it".to_owned())
            }
            Self::Read { .. } => Some("try again".to_owned()),
        }
    }
}
