//! What can go wrong, with the noun that it went wrong on and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use larder_core::manifest::ManifestError;
use larder_core::{Digest, Repository};
use rustix::io::Errno;

/// Says why a home cannot be opened; nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon holds it.
    #[error("{} is in use by another larderd", home.display())]
    Held {
        /// The home.
        home: PathBuf,
    },
    /// It was written by a newer Larder.
    #[error("{} has format version {found}; this larderd knows versions up to {known}: use the newer larderd", home.display())]
    Newer {
        /// The home.
        home: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that this daemon knows.
        known: u64,
    },
    /// It uses features that this daemon does not know and must not ignore.
    #[error("{} uses features that this larderd does not know ({}): use the newer larderd", home.display(), features.join(", "))]
    Features {
        /// The home.
        home: PathBuf,
        /// The features' names.
        features: Vec<String>,
    },
    /// The folder holds something else.
    #[error("{} is no Larder home: {why}; choose an empty folder with LARDER_HOME", home.display())]
    NotAHome {
        /// The folder.
        home: PathBuf,
        /// What shows it.
        why: String,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {}", path.display(), words(source))]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

/// Says why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing can be written.
    #[error("the store is read-only: {why}")]
    ReadOnly {
        /// Why.
        why: String,
    },
    /// The disk is full; the store stays usable.
    #[error("the disk is full: cannot {what} {}", path.display())]
    Full {
        /// What was to be done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// What is announced is more than the disk has room for; nothing of it was taken.
    #[error("the disk has no room for {needed} bytes: {free} are free")]
    NoRoom {
        /// How many bytes are announced.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {}", path.display(), words(source))]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bytes have another digest than the one they go by; they are not visible any more.
    #[error("the bytes of {expected} have the digest {actual}")]
    DigestMismatch {
        /// The digest that they should have.
        expected: Digest,
        /// The digest that they have.
        actual: Digest,
    },
    /// There are more or fewer bytes than announced.
    #[error("{} has {actual} bytes instead of the announced {expected}", digest.map_or_else(|| "the blob".to_owned(), |digest| digest.to_string()))]
    LengthMismatch {
        /// The blob, if it was named.
        digest: Option<Digest>,
        /// The length announced.
        expected: u64,
        /// The bytes that came (at least).
        actual: u64,
    },
    /// A blob is not held.
    #[error("{digest} is not held here")]
    NotHeld {
        /// Which.
        digest: Digest,
    },
    /// A blob is longer than what the caller takes.
    #[error("{digest} has {length} bytes, more than the {limit} that are read here")]
    TooLong {
        /// Which.
        digest: Digest,
        /// Its length.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob that should be a manifest is none.
    #[error("{digest} is no manifest: {source}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        source: Box<ManifestError>,
    },
    /// A manifest cannot become visible while something that it lists is neither held nor left out.
    #[error("{manifest} in {repository} lists {missing}, which is not held")]
    Incomplete {
        /// The repository.
        repository: Repository,
        /// The manifest.
        manifest: Digest,
        /// What is missing.
        missing: Digest,
    },
    /// A commit says what must not be: it would break an invariant.
    #[error("this cannot be recorded: {0}")]
    Invalid(String),
    /// The look-up index is being rebuilt.
    #[error("the look-up index is being rebuilt ({done} of {total} records)")]
    Rebuilding {
        /// Records applied.
        done: u64,
        /// Records to apply.
        total: u64,
    },
    /// The journal says something that cannot be read.
    #[error("the journal cannot be read at seq {seq}: {why}")]
    Journal {
        /// Where.
        seq: u64,
        /// Why.
        why: String,
    },
    /// What is asked for was pruned from the journal.
    #[error("the journal begins at seq {oldest}: what was before it has been pruned")]
    Pruned {
        /// The oldest seq that it has.
        oldest: u64,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl StoreError {
    /// Builds the error for a failed step on a path; a full disk is told apart.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full { what, path: path.to_owned() }
            } else {
                Self::Io { what, path: path.to_owned(), source }
            }
        }
    }

    /// Returns the stable machine reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "read-only",
            Self::Full { .. } | Self::NoRoom { .. } => "store-full",
            Self::Io { .. } => "io",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::NotHeld { .. } => "not-held",
            Self::TooLong { .. } => "too-long",
            Self::Manifest { .. } => "invalid-manifest",
            Self::Incomplete { .. } => "incomplete",
            Self::Invalid(_) => "invalid",
            Self::Rebuilding { .. } => "rebuilding",
            Self::Journal { .. } => "journal",
            Self::Pruned { .. } => "cursor-pruned",
            Self::Stopping => "stopping",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ReadOnly { .. } => {
                Some("everything held can still be read; `larder daemon status` and the daemon's log say more".into())
            }
            Self::Full { .. } | Self::NoRoom { .. } => {
                Some("free some space on the disk that holds the home, then try again".into())
            }
            Self::Io { .. } | Self::Journal { .. } => {
                Some("look at the disk that holds the home, and at its log".into())
            }
            Self::DigestMismatch { .. } => {
                Some("pull it again; the bytes are kept in quarantine/ of the home for inspection".into())
            }
            Self::NotHeld { .. } => Some("`larder pull` brings it".into()),
            Self::Rebuilding { .. } => Some(
                "try again in a moment; `larder daemon status` shows how far it is, and digests work meanwhile".into(),
            ),
            Self::Pruned { .. } => Some(
                "begin without a cursor: what was told last of every subject is kept, and the tail follows it".into(),
            ),
            Self::Incomplete { .. } => Some("send what is missing first".into()),
            Self::Stopping => Some("try again; the next command starts the daemon".into()),
            Self::LengthMismatch { .. } | Self::TooLong { .. } => {
                Some("nothing of it was kept; whoever sent it has to send what the descriptor says".into())
            }
            Self::Manifest { .. } => Some("nothing of it was kept; its publisher has to mend it".into()),
            Self::Invalid(_) => Some("nothing was changed; whoever asked has to ask for something else".into()),
        }
    }
}

/// Says whether an error means that there is no space left, on the disk or within a quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Says in words what the system says; its number is for the log.
pub(crate) fn words(error: &io::Error) -> String {
    if is_full(error) {
        return "the disk is full".into();
    }
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
