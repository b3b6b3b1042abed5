//! Trust: the files of the trust folder, read into a set that can be judged under (DESIGN section 6).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::digest::Digest;
use crate::glob::Glob;
use crate::key::{AnchorId, PublicKey};

/// The files of a trust folder by their path relative to it (`keys/release.pub`), as read.
pub type _FilesShape = BTreeMap<String, Bytes>; // (skeleton note: a newtype `TrustFiles(BTreeMap<String, Bytes>)` below, no alias in the end)

/// The files of a trust folder: path relative to the folder, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles(pub BTreeMap<String, Bytes>);

impl TrustFiles {
    /// Writes the files as one canonical blob (what the journal names); the same files give the same bytes.
    pub fn to_blob(&self) -> Bytes {
        unimplemented!()
    }
    /// Reads such a blob.
    pub fn from_blob(_blob: &[u8]) -> Result<Self, String> {
        unimplemented!()
    }
}

/// A set of trust that can be judged under.
#[derive(Debug, Default)]
pub struct TrustSet {
    /// The key files, by name.
    pub keys: BTreeMap<String, KeyFile>,
    /// The policies, by name.
    pub policies: BTreeMap<String, Policy>,
    /// deny.yaml
    pub deny: Deny,
    // + precomputed: life of each anchor, which files policies name, …
}

/// One `keys/<name>.pub`, with what `keys/<name>.yaml` says of it.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// The key.
    pub key: PublicKey,
    /// `for`; empty means all.
    pub scope: Vec<Glob>,
    /// validFor.start
    pub valid_from: Option<Timestamp>,
    /// validFor.end
    pub valid_until: Option<Timestamp>,
    /// retired, or revoked: the reason in words; `Some` counts as revoked for ever in this version.
    pub revoked: Option<String>,
}

/// A ClusterImagePolicy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The images' globs.
    pub globs: Vec<Glob>,
    /// `mode: warn`?
    pub mode: Mode,
    /// The authorities, in order.
    pub authorities: Vec<Authority>,
    /// A field in `spec` that this version does not evaluate makes the policy unsatisfiable.
    pub unsupported: Option<String>,
}

/// What a failing policy does at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refuse.
    Enforce,
    /// Serve with a warning.
    Warn,
}

/// One authority of a policy.
#[derive(Clone, Debug)]
pub struct Authority {
    /// `name`, or `authority-<index>`.
    pub name: String,
    /// What it asks for.
    pub kind: AuthorityKind,
    /// A field that this version does not evaluate: the authority is unsatisfiable.
    pub unsupported: Option<String>,
}

/// What an authority asks for.
#[derive(Clone, Debug)]
pub enum AuthorityKind {
    /// `key.secretRef.name`: the key file of that name.
    KeyFile {
        /// The file's name without `.pub`.
        name: String,
        /// `key.hashAlgorithm`
        hash: Option<crate::check::SignedHash>,
    },
    /// `key.data`
    KeyData {
        /// The inline key.
        key: PublicKey,
        /// `key.hashAlgorithm`
        hash: Option<crate::check::SignedHash>,
    },
    /// `static.action: pass`
    StaticPass,
    /// `static.action: fail`
    StaticFail {
        /// `static.message`
        message: Option<String>,
    },
    /// Something that this version does not evaluate (`keyless`, …).
    Other,
}

/// deny.yaml
#[derive(Clone, Debug, Default)]
pub struct Deny {
    /// digest → reason
    pub digests: BTreeMap<Digest, String>,
    /// key file name → reason; every key of that name counts as revoked
    pub keys: BTreeMap<String, String>,
    /// issuer, subject, reason: accepted and idle
    pub identities: Vec<(String, String, String)>,
}

/// A file that cannot be read as what its place asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Relative to the folder.
    pub path: String,
    /// What is wrong, with line and column where there are any, and the remedy.
    pub message: String,
}

/// What reading a folder gave.
#[derive(Debug)]
pub struct Reading {
    /// What could be read. A key whose `.yaml` is faulty is left out; a faulty policy is left out.
    pub set: Arc<TrustSet>,
    /// What could not. A reading with faults is never put in force.
    pub faults: Vec<Fault>,
    /// What is odd and harmless: path, message (`:tag` globs, `match`, unsupported fields).
    pub warnings: Vec<(String, String)>,
}

impl TrustSet {
    /// Reads the files. Never fails: what is wrong is in the faults.
    pub fn read(_files: &TrustFiles) -> Reading {
        unimplemented!()
    }
    /// Returns every key that a signature may have to be checked against, each once (inline ones and revoked ones too).
    pub fn anchors(&self) -> Vec<PublicKey> {
        unimplemented!()
    }
    /// Returns the names under which an anchor is known (`release`, or `policy p, authority-0`).
    pub fn names_of(&self, _anchor: &AnchorId) -> Vec<String> {
        unimplemented!()
    }
    /// Returns the earliest instant after `now` at which a verdict can change by itself (validFor).
    pub fn next_change(&self, _now: Timestamp) -> Option<Timestamp> {
        unimplemented!()
    }
}

/// Under what is judged right now: what the daemon publishes as a watch value.
#[derive(Clone, Debug)]
pub enum TrustView {
    /// Before the first settled set: everything is pending.
    Starting,
    /// The folder is settled and without fault.
    Settled(Arc<TrustSet>),
    /// Unsettled or faulty: the worse of two verdicts.
    Disturbed {
        /// The last settled set.
        settled: Arc<TrustSet>,
        /// What can be read now.
        readable: Arc<TrustSet>,
    },
    /// The folder is missing or unreadable: what was accepted is pending.
    Missing {
        /// The last settled set.
        settled: Arc<TrustSet>,
    },
}
