//! Records of the journal: what happened and what was told.

use std::cmp::Ordering;

use jiff::Timestamp;
use larder_core::artifact::AttachedKind;
use larder_core::facts::SignatureRow;
use larder_core::signature::SignatureId;
use larder_core::verdict::{Reason, State};
use larder_core::{Digest, Repository, Tag};

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The uid of the client, if one asked.
    pub uid: Option<u32>,
    /// How: `larder pull`, `endpoint`, `file`, `larderd`.
    pub via: String,
}

impl Actor {
    /// The daemon itself, of its own accord.
    pub fn daemon() -> Self {
        Self { uid: None, via: "larderd".to_owned() }
    }
}

/// A record: an event with its seq and time. An event that tells n changes takes n seqs, `seq` being the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The (first) seq.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub event: Event,
}

impl Record {
    /// Returns how many seqs it takes.
    pub fn seqs(&self) -> u64 {
        match &self.event {
            Event::VerdictsTold(told) => told.changes.len() as u64,
            Event::Operation(_) | Event::TrustChanged(_) | Event::Corruption(_) | Event::Pruned(_) => 1,
        }
    }

    /// Returns the last of its seqs.
    pub fn last_seq(&self) -> u64 {
        self.seq.saturating_add(self.seqs().saturating_sub(1))
    }

    /// Keeps what lies between two seqs (`after` < seq < `before`): of several verdicts told together perhaps only some.
    /// `None` where nothing is left.
    #[must_use]
    pub(super) fn between(mut self, after: u64, before: u64) -> Option<Self> {
        let first = self.seq;
        if let Event::VerdictsTold(told) = &mut self.event {
            let mut seq = first;
            let mut kept = None;
            told.changes.retain(|_| {
                let inside = seq > after && seq < before;
                if inside && kept.is_none() {
                    kept = Some(seq);
                }
                seq = seq.saturating_add(1);
                inside
            });
            self.seq = kept?;
            return Some(self);
        }
        (first > after && first < before).then_some(self)
    }
}

/// What happened, or was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation brought manifests and moved tags.
    Operation(Operation),
    /// A trust set was put in force.
    TrustChanged(TrustChanged),
    /// Verdicts were told (at most 1,000 changes a record).
    VerdictsTold(VerdictsTold),
    /// Content was found corrupt, or healed.
    Corruption(Corruption),
    /// The oldest part of the journal was replaced by a state.
    Pruned(Pruned),
}

/// An operation: everything appears together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// pull, push, receive (at the endpoint), sign, tag, untag, save, load, attach, clean.
    pub kind: OperationKind,
    /// The reference as asked for.
    pub reference: String,
    /// The manifests that it brought, successors first.
    pub manifests: Vec<ManifestAdded>,
    /// The tags that it moved.
    pub tags: Vec<TagMoved>,
    /// What it took away from where it was attached.
    pub detached: Vec<Detached>,
}

/// What kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Pulled from a registry.
    Pull,
    /// Pushed to a registry (moves nothing here).
    Push,
    /// Written through the endpoint.
    Receive,
    /// Signed by a client.
    Sign,
    /// Named by a client.
    Tag,
    /// Lost a name, by a client.
    Untag,
    /// Handed out as a layout (moves nothing here).
    Save,
    /// Loaded from a layout or an archive.
    Load,
    /// Got something attached, by a client.
    Attach,
    /// Lost what was attached, by a client.
    Clean,
}

/// A manifest that was attached to something and is so no more. Its bytes stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Where.
    pub repository: Repository,
    /// The manifest.
    pub digest: Digest,
    /// What it hung on.
    pub subject: Digest,
    /// The signatures that are found there no more: those that nothing else attached there holds.
    pub signatures: Vec<SignatureId>,
    /// How many signatures it held beyond the limit.
    pub uncounted: u32,
}

/// A manifest in a repository. Adding one that is there unites roles, left-outs shrink, first-seen stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestAdded {
    /// Where.
    pub repository: Repository,
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// `artifactType`, else the config's media type.
    pub artifact_type: Option<String>,
    /// Its length.
    pub size: u64,
    /// It is a subject here; and whether it was asked for itself (listed by `ls`) or came through an index.
    pub subject: Option<SubjectRole>,
    /// It is attached to something.
    pub attached: Option<AttachedTo>,
    /// What it lists: digest, length, and whether that is a manifest.
    pub successors: Vec<Successor>,
    /// Those of its successors that were left out on purpose.
    pub left_out: Vec<Digest>,
    /// The signatures found in it (rows carry manifest and layer).
    pub signatures: Vec<SignatureRow>,
    /// Signatures beyond the limit: recorded and not counted.
    pub uncounted: u32,
}

/// How a manifest is a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectRole {
    /// Named by a tag, or asked for by digest.
    Root,
    /// Came through an index.
    Child,
}

/// What a manifest is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedTo {
    /// The digest that it hangs on.
    pub subject: Digest,
    /// What it is.
    pub kind: AttachedKind,
    /// The tag under which it was found, if by a tag.
    pub tag: Option<Tag>,
}

/// One successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// A manifest, not a blob.
    pub manifest: bool,
}

/// A tag that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMoved {
    /// Where.
    pub repository: Repository,
    /// Which.
    pub tag: Tag,
    /// What it named; `None` where it was not there. The commit fills this in.
    pub old: Option<Digest>,
    /// What it names; `None` where it is removed.
    pub new: Option<Digest>,
}

/// A trust set put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustChanged {
    /// What changed, as in `keys/release.pub removed`.
    pub changes: Vec<String>,
    /// The set: a blob of this digest (TrustFiles::to_blob).
    pub set: Digest,
}

/// Verdicts told for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictsTold {
    /// Why they were judged: a code and words (`key-removed`, "key release removed (keys/release.pub deleted)").
    pub cause: Cause,
    /// At most 1,000; the n-th has seq `record.seq + n`.
    pub changes: Vec<VerdictTold>,
}

/// Why verdicts were judged anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// trust-changed, pulled, received, signed, tagged, time, recovered, corrupt, checked
    pub code: String,
    /// In words.
    pub detail: String,
}

/// One verdict told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictTold {
    /// Which subject.
    pub repository: Repository,
    /// Which subject.
    pub digest: Digest,
    /// Its tags when it was told.
    pub tags: Vec<Tag>,
    /// What was told before; `None` at a first telling.
    pub from: Option<State>,
    /// The state now.
    pub to: State,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The seq at which this subject was told before; 0 for none.
    pub previous: u64,
}

/// Content found corrupt or healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Which content.
    pub digest: Digest,
    /// True where its bytes failed their digest, false where they are whole again.
    pub corrupt: bool,
}

/// The oldest part of the journal replaced by a state: by what of it still matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The last seq that is gone.
    pub until: u64,
    /// The SHA-256 of the state.
    pub state: Digest,
}

/// What a tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The digest.
    pub digest: Digest,
    /// The seq of the record that moved it.
    pub seq: u64,
    /// When.
    pub moved: Timestamp,
}

/// A line of `ls`, and its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListKey {
    /// The repository.
    pub repository: Repository,
    /// The tag; `None` (sorted last) where no tag names the digest.
    pub tag: Option<Tag>,
    /// The digest.
    pub digest: Digest,
}

impl Ord for ListKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |key: &Self| key.tag.is_none();
        (self.repository.cmp(&other.repository))
            .then_with(|| place(self).cmp(&place(other)))
            .then_with(|| self.tag.cmp(&other.tag))
            .then_with(|| self.digest.cmp(&other.digest))
    }
}

impl PartialOrd for ListKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whose history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOf {
    /// Everything.
    All,
    /// A subject.
    Subject(Repository, Digest),
    /// A tag's moves, and the verdicts of what it names now or named.
    Tag(Repository, Tag),
}
