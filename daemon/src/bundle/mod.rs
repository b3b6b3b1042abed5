//! Archive files: OCI image layouts, and what `docker save` wrote before it wrote layouts.
//!
//! The files themselves are a client's, which may run as another user: a [`Carrier`] is asked for them by their exact names
//! in the layout, one at a time. In comes what somebody carried here, all of it untrusted; out go its [`Contents`]:
//! which images it has, under which names, and what is attached to which digest. Whatever is read as a manifest hashes
//! to the digest that it goes by. [`Index`] reads and writes `index.json`.

mod carrier;
mod contents;
mod docker;
mod hashing;
mod index;

use larder_core::Digest;
use larder_core::manifest::ManifestError;

pub use carrier::{Ask, Carrier, FileStream, Files};
pub use contents::{Contents, Image};
pub use docker::{DOCKER_MANIFEST, for_docker};
pub use hashing::Hashing;
pub use index::{Index, Kind, fallback_index};

/// The most bytes of `index.json` or `manifest.json`, as of every manifest.
pub const MAX_INDEX_BYTES: u64 = larder_core::manifest::MAX_MANIFEST_BYTES;
/// The file that says that a folder is a layout (image-spec, image-layout.md).
pub const MARKER: &str = "oci-layout";
/// What it says.
pub const MARKER_BYTES: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// What the layout lists.
pub const INDEX: &str = "index.json";

/// Returns the name of a blob's file in a layout.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Says why an archive is not what it should be. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It has neither of the files that say what is in it.
    #[error(
        "it has no index.json with an oci-layout, and no manifest.json: it is neither an OCI image layout nor an archive of docker save"
    )]
    Unknown,
    /// There are too many files.
    #[error("it has more than {0} files")]
    TooManyFiles(usize),
    /// A file's name is no name of a file in an archive, or is there twice.
    #[error("{name:?} {why}")]
    Name {
        /// The name, cut.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file is not there.
    #[error("{0} is not there, though it is listed")]
    Missing(String),
    /// A file is longer than what is read of its kind.
    #[error("{name} has {size} bytes; at most {limit} are read")]
    TooLong {
        /// The file.
        name: String,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file has another length than what lists it says.
    #[error("{name} has {actual} bytes, and is listed with {listed}")]
    Length {
        /// The file.
        name: String,
        /// What is said.
        listed: u64,
        /// What is true.
        actual: u64,
    },
    /// A file has other bytes than its name or what lists it says.
    #[error("{name} has the digest {actual}, not {expected}")]
    Digest {
        /// The file.
        name: String,
        /// The digest that it goes by.
        expected: Digest,
        /// The digest of its bytes.
        actual: Digest,
    },
    /// A file that says what is in the archive cannot be understood.
    #[error("{name} is malformed: {why}")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A blob that is listed as a manifest is none.
    #[error("{name}: {source}")]
    Manifest {
        /// The file.
        name: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// It lists more than what is read.
    #[error("{name} lists {count} entries; at most {limit} are read")]
    TooManyEntries {
        /// The file.
        name: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Nothing is in it.
    #[error("it holds no image")]
    Empty,
    /// Whoever has the file cannot read it.
    #[error("{name} cannot be read: {why}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        why: String,
    },
    /// Whoever has the files went away.
    #[error("the client went away")]
    Gone,
}

impl BundleError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable-file",
            Self::Gone => "interrupted",
            _ => "invalid-layout",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown => "`larder save`, cosign, skopeo (oci:), oras, crane (--format=oci), docker and podman write what is read here; nothing was changed".to_owned(),
            Self::Unreadable { .. } => "nothing was changed; look at the file and the disk that it is on".to_owned(),
            Self::Gone => "nothing was changed; try again".to_owned(),
            _ => "nothing was changed; copy it anew from where it comes from".to_owned(),
        })
    }
}
