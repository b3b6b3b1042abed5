//! Trust: the files of the trust folder, read into a set that can be judged under (DESIGN section 6).
//!
//! In come the folder's files as bytes ([`TrustFiles`]); out come a [`TrustSet`], and what is wrong or
//! odd with the files ([`Reading`]). A set is never changed after it was read, and what it derives from
//! its files (which keys stand by themselves, how long each lives) is settled when it is built.

mod anchors;
mod clusterimagepolicy;
mod deny;
mod files;
mod key_file;
mod read;
mod root;
mod root_file;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::check::SignedHash;
use crate::digest::Digest;
use crate::glob::Glob;
use crate::key::{AnchorId, PublicKey};
use crate::keyless::{Identity, TrustedRoot};
use crate::reference::Repository;
use crate::rego::Condition;
use crate::signature::Format;

pub use anchors::{Anchor, Ends, Life, Named, Scope, Standing};
pub use files::{BlobError, MAX_FILE_BYTES, TrustFiles};
pub use root::{Root, RootEnd, Rules};

/// A set of trust that can be judged under.
///
/// The default is the set of an empty folder: nobody is trusted.
#[derive(Debug, Default)]
pub struct TrustSet {
    /// The key files, by name.
    pub keys: BTreeMap<String, KeyFile>,
    /// The policies, by name.
    pub policies: BTreeMap<String, Policy>,
    /// The trusted roots, by name.
    pub roots: BTreeMap<String, Root>,
    /// deny.yaml
    pub deny: Deny,
    /// What the configuration says beside the files.
    pub rules: Rules,
    /// What follows for each key, in files and written into policies.
    anchors: BTreeMap<AnchorId, Anchor>,
}

/// What a signature is checked against.
#[derive(Clone, Debug)]
pub enum CheckAnchor {
    /// A key.
    Key(PublicKey),
    /// A trusted root.
    Root(Root),
    /// A key's signature, and what logs and timestamp authorities of a root say of it.
    Logged {
        /// The key.
        key: PublicKey,
        /// The root.
        root: Root,
    },
    /// When a key's signature was proven to be there, by a root.
    Dated {
        /// The key.
        key: PublicKey,
        /// The root.
        root: Root,
    },
    /// Whether an attestation of a type says what a policy asks for.
    Condition(Arc<Condition>),
}

impl CheckAnchor {
    /// Returns its id.
    pub fn id(&self) -> AnchorId {
        match self {
            Self::Key(key) => key.id(),
            Self::Root(root) => root.id,
            Self::Logged { key, root } => Self::logged(&key.id(), &root.id),
            Self::Dated { key, root } => Self::dated(&key.id(), &root.id),
            Self::Condition(condition) => condition.id(),
        }
    }

    /// Returns the id of [`Self::Logged`].
    pub fn logged(key: &AnchorId, root: &AnchorId) -> AnchorId {
        of_both(b"logged", key, root)
    }

    /// Returns the id of [`Self::Dated`].
    pub fn dated(key: &AnchorId, root: &AnchorId) -> AnchorId {
        of_both(b"dated", key, root)
    }
}

/// Hashes two ids of 32 bytes behind what they are together.
fn of_both(what: &[u8], key: &AnchorId, root: &AnchorId) -> AnchorId {
    let mut hasher = Sha256::new();
    [what, &key.0, &root.0].iter().for_each(|part| hasher.update(part));
    AnchorId(hasher.finalize().into())
}

/// One `keys/<name>.pub`, with what `keys/<name>.yaml` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The key.
    pub key: PublicKey,
    /// `for`; empty means all.
    pub scope: Vec<Glob>,
    /// validFor.start
    pub valid_from: Option<Timestamp>,
    /// validFor.end
    pub valid_until: Option<Timestamp>,
    /// retired, or revoked: in words.
    pub revoked: Option<String>,
    /// What of it counts no more.
    pub ends: Ends,
}

/// A ClusterImagePolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The images' globs.
    pub globs: Vec<Glob>,
    /// What a failure does at the gate.
    pub mode: Mode,
    /// The authorities, in order; never empty.
    pub authorities: Vec<Authority>,
    /// A field in `spec` that this version does not evaluate makes the policy unsatisfiable.
    pub unsupported: Option<String>,
}

impl Policy {
    /// Says whether the policy is for an image.
    pub fn matches(&self, repository: &Repository, digest: &Digest) -> bool {
        self.globs.iter().any(|glob| glob.matches(repository, digest))
    }

    /// Says whether nothing but `static: fail` is asked for: it denies what it matches, whatever else the file says.
    pub fn denies(&self) -> bool {
        self.authorities.iter().all(|authority| matches!(authority.kind, AuthorityKind::StaticFail { .. }))
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// `name`, or `authority-<index>`.
    pub name: String,
    /// What it asks for.
    pub kind: AuthorityKind,
    /// `attestations`: what must be attested instead of a signature, each entry by one attestation.
    pub attestations: Vec<AttestationDemand>,
    /// `signatureFormat`; without it, both formats count.
    pub format: Option<SignatureFormat>,
    /// `source`: the repositories in which a signature must have been found; empty means any.
    pub sources: Vec<Repository>,
    /// `ctlog`, `rfc3161timestamp` beside a key: what must prove the key's signature.
    pub proof: Option<KeyProof>,
    /// A field that this version does not evaluate: the authority is unsatisfiable.
    pub unsupported: Option<String>,
}

/// What must prove a key's signature, and by which root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProof {
    /// A log, or a timestamp.
    pub proof: Proof,
    /// `trustRootRef`: the one root that counts; without it, all of the folder's.
    pub root: Option<String>,
    /// `ctlog.url`: the root must name a log at this place.
    pub log: Option<String>,
}

impl KeyProof {
    /// Says whether a root names the log that is named by its place.
    pub(crate) fn fits(&self, root: &TrustedRoot) -> bool {
        self.log.as_ref().is_none_or(|log| has_log(root, log))
    }
}

/// Says whether a root names a log at a place.
fn has_log(root: &TrustedRoot, place: &str) -> bool {
    root.logs.iter().any(|log| same_place(place, &log.base_url))
}

fn same_place(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// One entry of an authority's `attestations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationDemand {
    /// `name`
    pub name: String,
    /// `predicateType`, as a URI: short names are resolved.
    pub predicate_type: String,
    /// `policy` in Rego: what must hold for what is attested.
    pub condition: Option<Arc<Condition>>,
}

/// `signatureFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFormat {
    /// cosign's classic `.sig` and `.att` images.
    Legacy,
    /// Sigstore bundles.
    Bundle,
}

impl SignatureFormat {
    /// Says whether a signature is in this format.
    pub fn is(self, format: Format) -> bool {
        match self {
            Self::Legacy => matches!(format, Format::SimpleSigning | Format::Attestation),
            Self::Bundle => format == Format::Bundle,
        }
    }
}

/// What an authority asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityKind {
    /// `key.secretRef.name`: the key file of that name.
    KeyFile {
        /// The file's name without `.pub`.
        name: String,
        /// `key.hashAlgorithm`
        hash: Option<SignedHash>,
    },
    /// `key.data`
    KeyData {
        /// The inline key.
        key: PublicKey,
        /// `key.hashAlgorithm`
        hash: Option<SignedHash>,
    },
    /// `keyless`
    Keyless(Keyless),
    /// `static.action: pass`
    StaticPass,
    /// `static.action: fail`
    StaticFail {
        /// `static.message`
        message: Option<String>,
    },
    /// Something that this version does not evaluate.
    Other,
}

/// What a `keyless` authority asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyless {
    /// Whom the certificate must be for: any one of them.
    pub identities: Vec<Identity>,
    /// `trustRootRef`: the one root that counts; without it, all of the folder's.
    pub root: Option<String>,
    /// `url`: the root must name an authority at this place.
    pub authority: Option<String>,
    /// `ctlog.url`: the root must name a log at this place.
    pub log: Option<String>,
    /// A certificate transparency log must have vouched for the certificate: not `insecureIgnoreSCT`.
    pub sct: bool,
    /// What must prove the time.
    pub proof: Proof,
}

impl Keyless {
    /// Says whether a root names what the authority names by its place.
    pub(crate) fn fits(&self, root: &TrustedRoot) -> bool {
        let authority = |wanted: &String| root.authorities.iter().any(|one| same_place(wanted, &one.uri));
        self.authority.as_ref().is_none_or(authority) && self.log.as_ref().is_none_or(|log| has_log(root, log))
    }
}

/// What must prove when something was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An entry in a transparency log.
    Log,
    /// A timestamp, and no log: `rfc3161timestamp`.
    Timestamp,
}

/// deny.yaml
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// digest → reason
    pub digests: BTreeMap<Digest, String>,
    /// key file name → reason; every key of that name counts as revoked
    pub keys: BTreeMap<String, String>,
    /// issuer, subject, reason: what these signed counts as revoked
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
    /// Reads the files, with no rules beside them. Never fails: what is wrong is in the faults.
    pub fn read(files: &TrustFiles) -> Reading {
        Self::read_under(files, Rules::default())
    }

    /// Reads the files, under these rules. Never fails: what is wrong is in the faults.
    pub fn read_under(files: &TrustFiles, rules: Rules) -> Reading {
        read::read(files, rules)
    }

    fn new(
        keys: BTreeMap<String, KeyFile>,
        policies: BTreeMap<String, Policy>,
        roots: BTreeMap<String, Root>,
        deny: Deny,
        rules: Rules,
    ) -> Self {
        let anchors = anchors::derive(&keys, &policies, &deny);
        Self { keys, policies, roots, deny, rules, anchors }
    }

    /// Returns everything that a signature may have to be checked against, each once: keys; the roots if a policy asks for
    /// identities; keys together with roots, where a policy asks what proves a key's signature, or the key's own end does.
    pub fn check_anchors(&self) -> Vec<CheckAnchor> {
        let mut anchors: Vec<CheckAnchor> = self.anchors().into_iter().map(CheckAnchor::Key).collect();
        let roots: BTreeMap<AnchorId, &Root> = self.roots.values().map(|root| (root.id, root)).collect();
        if self.authorities().any(|authority| matches!(authority.kind, AuthorityKind::Keyless(_))) {
            anchors.extend(roots.values().map(|root| CheckAnchor::Root((*root).clone())));
        }
        let both = |key: &PublicKey| roots.values().map(|root| (key.clone(), (*root).clone())).collect::<Vec<_>>();
        let mut proven = BTreeSet::new();
        for key in self.authorities().filter(|one| one.proof.is_some()).filter_map(|one| self.key_of(one)) {
            if proven.insert(key.id()) {
                anchors.extend(both(key).into_iter().map(|(key, root)| CheckAnchor::Logged { key, root }));
            }
        }
        let demands = self.authorities().flat_map(|authority| &authority.attestations);
        let conditions = demands.filter_map(|demand| demand.condition.as_ref());
        let conditions: BTreeMap<AnchorId, &Arc<Condition>> = conditions.map(|one| (one.id(), one)).collect();
        anchors.extend(conditions.into_values().cloned().map(CheckAnchor::Condition));
        for anchor in self.anchors.values().filter(|anchor| anchor.life.ends.before().is_some()) {
            anchors.extend(both(&anchor.key).into_iter().map(|(key, root)| CheckAnchor::Dated { key, root }));
        }
        anchors
    }

    fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.policies.values().flat_map(|policy| &policy.authorities)
    }

    /// Returns the key that an authority asks for; none where its file is not there.
    fn key_of<'a>(&'a self, authority: &'a Authority) -> Option<&'a PublicKey> {
        match &authority.kind {
            AuthorityKind::KeyFile { name, .. } => self.keys.get(name).map(|file| &file.key),
            AuthorityKind::KeyData { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Says whether anything leans on the roots.
    pub fn asks_for_roots(&self) -> bool {
        self.leaning_policies().next().is_some()
            || self.anchors.values().any(|anchor| anchor.life.ends.before().is_some())
    }

    /// Returns the policies that lean on roots: they ask for identities, or for what proves a key's signature.
    pub(crate) fn leaning_policies(&self) -> impl Iterator<Item = &Policy> {
        let leans =
            |authority: &Authority| matches!(authority.kind, AuthorityKind::Keyless(_)) || authority.proof.is_some();
        self.policies.values().filter(move |policy| policy.authorities.iter().any(leans))
    }

    /// Returns every key that a signature may have to be checked against, each once (inline ones and revoked ones too).
    pub fn anchors(&self) -> Vec<PublicKey> {
        self.anchors.values().map(|anchor| anchor.key.clone()).collect()
    }

    /// Returns what the set says of a key.
    pub fn anchor(&self, id: &AnchorId) -> Option<&Anchor> {
        self.anchors.get(id)
    }

    /// Returns what the set says of each of its keys.
    pub fn each_anchor(&self) -> impl Iterator<Item = (&AnchorId, &Anchor)> {
        self.anchors.iter()
    }

    /// Returns the names under which an anchor is known (`release`, or `policy p, authority-0`).
    pub fn names_of(&self, anchor: &AnchorId) -> Vec<String> {
        self.anchors.get(anchor).map_or_else(Vec::new, |anchor| anchor.names.clone())
    }

    /// Returns the names of the policies that name a key file, and so confine it to policies.
    pub fn policies_naming(&self, key: &str) -> Vec<String> {
        let names =
            |authority: &Authority| matches!(&authority.kind, AuthorityKind::KeyFile { name, .. } if name == key);
        let naming = self.policies.iter().filter(|(_, policy)| policy.authorities.iter().any(names));
        naming.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the earliest instant after `now` at which a verdict can change by itself: `validFor`, the age of roots, and
    /// the windows of logs that sign no time, in which a key's signature is judged by the clock.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.anchors.values().flat_map(|anchor| [anchor.life.valid_from, anchor.life.valid_until]);
        let roots = self.roots.values().map(|root| match self.root_end(root) {
            RootEnd::At(end) => Some(end),
            RootEnd::Never | RootEnd::Always => None,
        });
        let logs = self.roots.values().flat_map(|root| &root.root.logs);
        let windows = logs.flat_map(|log| [log.window.start, log.window.just_after()]);
        ends.chain(roots).chain(windows).flatten().filter(|&end| end > now).min()
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

impl TrustView {
    /// Returns the sets that it is judged under; none before the first settled one.
    pub fn sets(&self) -> impl Iterator<Item = &Arc<TrustSet>> {
        let (first, second) = match self {
            Self::Starting => (None, None),
            Self::Settled(set) | Self::Missing { settled: set } => (Some(set), None),
            Self::Disturbed { settled, readable } => (Some(settled), Some(readable)),
        };
        first.into_iter().chain(second)
    }

    /// Returns the earliest instant after `now` at which a verdict can change by itself.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.sets().filter_map(|set| set.next_change(now)).min()
    }
}
