//! The SBOMs of what is held: listed with whom they are signed by, and read.
//!
//! An SBOM is a layer of an image at cosign's tag or of a referrer, or the predicate of an attestation. None of them is
//! judged for its subject's sake: this says who signed it, and leaves it to the reader what that is worth.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::facts::SignatureRow;
use larder_core::judge::{Signed, signed};
use larder_core::sbom::{self, Kind};
use larder_core::signature::dsse::StatementError;
use larder_core::signature::{Says, SignatureId};
use larder_core::{Descriptor, Digest, Repository, Tag};

use super::Ctx;
use super::artifacts::{Attached, attached_to};
use super::checks::read_signature;
use super::content::{self, Content, ContentBytes, Mode, ReadError};
use super::query::{Held, QueryError, Question, find};
use crate::store::StoreError;
use crate::store::record::{Event, Record};

/// The most SBOMs that are listed.
const MAX_SBOMS: usize = 256;

/// How an SBOM belongs to its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The predicate of an attestation.
    Attestation,
    /// An image at cosign's tag.
    Tag,
    /// A manifest that refers to the subject.
    Referrer,
}

/// An SBOM.
#[derive(Clone, Debug)]
pub struct Sbom {
    /// Its language.
    pub kind: Kind,
    /// How it belongs to its subject.
    pub form: Form,
    /// The layer that is the SBOM, or that holds the attestation.
    pub layer: Descriptor,
    /// Of an attestation.
    pub predicate_type: Option<Arc<str>>,
    /// How many bytes it has; 0 where it cannot be read out of its attestation.
    pub size: u64,
    /// The manifest that lists the layer.
    pub manifest: Digest,
    /// A repository that the manifest is in.
    pub repository: Repository,
    /// Everywhere it was found.
    pub found_at: Vec<String>,
    /// By whom it is signed, or attested.
    pub signed: Signed,
    /// When it came here, or its first signature did; not known of a referrer that nobody signed.
    pub seen: Option<Timestamp>,
    /// Of an attestation: the signature over it.
    signature: Option<SignatureRow>,
}

/// All SBOMs of a subject.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The subject.
    pub held: Held,
    /// Those that are signed by a key that counts first, then by when they came, the newest first; of what came together,
    /// attestations first.
    pub sboms: Vec<Sbom>,
    /// The subject's SBOM tag, where what is there is no SBOM.
    pub odd: Option<Tag>,
}

/// Says why an SBOM is not shown.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// The subject is not held.
    #[error("{0}")]
    Subject(#[from] QueryError),
    /// There is none.
    #[error("{0} has no SBOM here")]
    None(String),
    /// There is none, and something else in its place.
    #[error("{what} has no SBOM here: what is at {tag} is none")]
    Odd {
        /// The subject.
        what: String,
        /// The tag.
        tag: Tag,
    },
    /// None of them has this digest.
    #[error("{what} has no SBOM {digest} here")]
    Other {
        /// The subject.
        what: String,
        /// What was asked for.
        digest: Digest,
    },
    /// The attestation's statement holds none that is read.
    #[error("the attestation {digest} holds no SBOM that can be read: {source}")]
    Unreadable {
        /// The attestation's layer.
        digest: Digest,
        /// What is wrong with the statement.
        source: StatementError,
    },
    /// The attestation is no longer there.
    #[error("the attestation {0} is not held here any more")]
    Gone(Digest),
    /// The gate holds it back, or it cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl SbomError {
    /// Returns the stable reason; of a [`ReadError`], its border has a finer one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.reason(),
            Self::None(_) | Self::Odd { .. } | Self::Other { .. } => "no-sbom",
            Self::Unreadable { .. } => "unreadable-sbom",
            Self::Gone(_) => "not-held",
            Self::Read(_) => "unreadable",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::None(what) => Some(format!(
                "`larder attach sbom --sbom FILE {what}` attaches one; an index's images have their own: `--platform OS/ARCH`"
            )),
            Self::Odd { what, .. } => Some(format!("`larder attach sbom --sbom FILE {what}` puts one in its place")),
            Self::Other { what, .. } => Some(format!("`larder sbom ls {what}` lists those that are here")),
            Self::Unreadable { .. } => Some("`larder download attestation` prints it as it is".to_owned()),
            Self::Gone(_) => Some("pull the artifact again".to_owned()),
            Self::Read(_) => Some("look at the disk that holds the home, and at its log".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Lists the SBOMs of what is held under a reference.
///
/// # Errors
/// Fails where it is not held.
pub async fn list(ctx: &Ctx, question: &Question) -> Result<Listed, SbomError> {
    let held = find(ctx, question).await?;
    let attached = attached_to(ctx, held.digest).await?;
    let mut listed = Listed { held, sboms: Vec::new(), odd: None };
    let along = Along::with_tag(ctx, &listed.held).await?;
    let repository = listed.held.repository.clone();
    for one in attached.iter().filter(|one| one.row.repository == repository) {
        layers(ctx, one, &along, &mut listed).await?;
    }
    attestations(ctx, &attached, &along, &mut listed).await?;
    let counts = |sbom: &Sbom| matches!(sbom.signed, Signed::By(_));
    listed.sboms.sort_by_key(|sbom| (Reverse(counts(sbom)), Reverse(sbom.seen), sbom.form, sbom.layer.digest));
    Ok(listed)
}

/// Reads one of the SBOMs, by the digest of its layer or manifest, or else the first of the list.
///
/// # Errors
/// Fails where there is none, and where the gate holds it back.
pub async fn read(ctx: &Ctx, question: &Question, digest: Option<Digest>) -> Result<(Sbom, Content), SbomError> {
    let Listed { sboms, odd, .. } = list(ctx, question).await?;
    let is = |sbom: &Sbom| digest.is_none_or(|digest| digest == sbom.layer.digest || digest == sbom.manifest);
    let Some(sbom) = sboms.into_iter().find(is) else {
        let what = question.to_string();
        return Err(match (digest, odd) {
            (Some(digest), _) => SbomError::Other { what, digest },
            (None, Some(tag)) => SbomError::Odd { what, tag },
            (None, None) => SbomError::None(what),
        });
    };
    let mut content = content::read(ctx, &Mode::Gated(sbom.repository.clone()), sbom.layer.digest).await?;
    if let Some(row) = &sbom.signature {
        let digest = sbom.layer.digest;
        let found = read_signature(&ctx.store, row).await?.ok_or(SbomError::Gone(digest))?;
        let bytes = predicate(found.payload).await.map_err(|source| SbomError::Unreadable { digest, source })?;
        content = Content { size: bytes.len() as u64, bytes: ContentBytes::Memory(bytes), ..content };
    }
    Ok((sbom, content))
}

/// The signatures that came here together with the image at the SBOM tag: none of them is older or newer than that.
#[derive(Default)]
struct Along {
    time: Timestamp,
    first_seen: BTreeMap<SignatureId, Timestamp>,
}

impl Along {
    async fn with_tag(ctx: &Ctx, held: &Held) -> Result<Self, StoreError> {
        let Some(tag) = (DigestTag { digest: held.digest, suffix: TagSuffix::Sbom }).tag() else {
            return Ok(Self::default());
        };
        let Some(row) = ctx.store.tag(&held.repository, &tag).await? else { return Ok(Self::default()) };
        let record = ctx.store.record_from(row.seq).await?;
        // A journal that was pruned no longer has it.
        let Some(Record { event: Event::Operation(operation), .. }) = record else { return Ok(Self::default()) };
        let signatures = operation.manifests.into_iter().flat_map(|manifest| manifest.signatures);
        Ok(Self { time: row.moved, first_seen: signatures.map(|row| (row.id, row.first_seen)).collect() })
    }

    /// Says when a signature came here.
    fn seen(&self, row: &SignatureRow) -> Timestamp {
        if self.first_seen.get(&row.id) == Some(&row.first_seen) { self.time } else { row.first_seen }
    }
}

/// Adds those layers of an attached manifest that are SBOMs.
async fn layers(ctx: &Ctx, attached: &Attached, along: &Along, listed: &mut Listed) -> Result<(), StoreError> {
    let row = &attached.row;
    let held = &listed.held;
    let tag = row.attached.as_ref().and_then(|to| to.tag.as_ref());
    let seen = match tag {
        None => None,
        Some(tag) => match ctx.store.tag(&row.repository, tag).await? {
            Some(there) if there.digest == row.digest => Some(there.moved),
            // Another one took its place.
            Some(_) | None => return Ok(()),
        },
    };
    if attached.kind != AttachedKind::Sbom {
        let of_sbom = |tag: &&Tag| DigestTag::parse(tag).is_some_and(|tag| tag.suffix == TagSuffix::Sbom);
        listed.odd = listed.odd.take().or_else(|| tag.filter(of_sbom).cloned());
        return Ok(());
    }
    let manifest = match ctx.store.manifest(&row.digest).await {
        // One that is damaged or gone hides none of the others.
        Err(StoreError::DigestMismatch { .. } | StoreError::NotHeld { .. }) => return Ok(()),
        read => read?,
    };
    let (signed, first) = of_image(ctx, along, &held.repository, row.digest);
    for layer in manifest.layers() {
        let Some(kind) = Kind::of_media_type(&layer.media_type) else { continue };
        if listed.sboms.len() >= MAX_SBOMS {
            break;
        }
        listed.sboms.push(Sbom {
            kind,
            form: if tag.is_some() { Form::Tag } else { Form::Referrer },
            layer: layer.clone(),
            predicate_type: None,
            size: layer.size,
            manifest: row.digest,
            repository: row.repository.clone(),
            found_at: vec![attached.found_at.clone()],
            signed: signed.clone(),
            seen: seen.or(first),
            signature: None,
        });
    }
    Ok(())
}

/// Says by whom a manifest that holds an SBOM is signed, and when its first signature was seen.
fn of_image(ctx: &Ctx, along: &Along, repository: &Repository, digest: Digest) -> (Signed, Option<Timestamp>) {
    let (view, now) = (ctx.view(), ctx.clock.now());
    let facts = ctx.store.facts();
    let rows = facts.named_by(digest).into_iter().filter_map(|id| facts.signature(id));
    let rows: Vec<SignatureRow> = rows.filter(|row| row.says == Says::Signed).collect();
    let ids: BTreeSet<SignatureId> = rows.iter().map(|row| row.id).collect();
    let first = rows.iter().map(|row| along.seen(row)).min();
    (signed(&facts, &view, repository, digest, &ids, now), first)
}

/// An attestation that names the subject, and whose predicate is an SBOM.
struct Found {
    row: SignatureRow,
    kind: Kind,
    predicate_type: Arc<str>,
    signed: Signed,
    /// Where it was found; never empty.
    repositories: Vec<Repository>,
}

/// Finds the attestations that name a subject, wherever they hang: its own repository comes first.
fn find_attestations(ctx: &Ctx, held: &Held) -> Vec<Found> {
    let (view, now) = (ctx.view(), ctx.clock.now());
    let facts = ctx.store.facts();
    let found = |row: SignatureRow| {
        let predicate_type: Arc<str> = row.says.predicate_type()?.into();
        let kind = Kind::of_predicate_type(&predicate_type)?;
        let mut repositories: Vec<Repository> =
            facts.found_at(row.id).into_iter().map(|(repository, _)| repository).collect();
        repositories.sort_by_key(|repository| *repository != held.repository);
        let signed = signed(&facts, &view, &held.repository, held.digest, &BTreeSet::from([row.id]), now);
        (!repositories.is_empty()).then_some(Found { row, kind, predicate_type, signed, repositories })
    };
    let rows = facts.named_by(held.digest).into_iter().filter_map(|id| facts.signature(id));
    rows.filter_map(found).take(MAX_SBOMS).collect()
}

/// Adds the attestations that name the subject and whose predicate is an SBOM.
async fn attestations(ctx: &Ctx, attached: &[Attached], along: &Along, listed: &mut Listed) -> Result<(), StoreError> {
    for Found { row, kind, predicate_type, signed, repositories } in find_attestations(ctx, &listed.held) {
        let (layer, payload) = match layer_of(ctx, &row).await {
            // One that is damaged or gone hides none of the others.
            Ok(None) | Err(StoreError::DigestMismatch { .. } | StoreError::NotHeld { .. }) => continue,
            Ok(Some(read)) => read,
            Err(error) => return Err(error),
        };
        let at = |one: &&Attached| one.row.digest == row.manifest;
        let mut found_at: Vec<String> = attached.iter().filter(at).map(|one| one.found_at.clone()).collect();
        if found_at.is_empty() {
            found_at = repositories.iter().map(|repository| format!("{repository}@{}", row.manifest)).collect();
        }
        let Some(repository) = repositories.into_iter().next() else { continue };
        listed.sboms.push(Sbom {
            kind,
            form: Form::Attestation,
            layer,
            predicate_type: Some(predicate_type),
            size: predicate(payload).await.map_or(0, |bytes| bytes.len() as u64),
            manifest: row.manifest,
            repository,
            found_at,
            signed,
            seen: Some(along.seen(&row)),
            signature: Some(row),
        });
    }
    Ok(())
}

/// Reads the layer that a signature is in, and the statement in it.
async fn layer_of(ctx: &Ctx, row: &SignatureRow) -> Result<Option<(Descriptor, Bytes)>, StoreError> {
    let manifest = ctx.store.manifest(&row.manifest).await?;
    let layer = usize::try_from(row.layer).ok().and_then(|place| manifest.layers().get(place)).cloned();
    let found = read_signature(&ctx.store, row).await?;
    Ok(layer.zip(found.map(|found| found.payload)))
}

/// Takes the predicate out of a statement of up to 32 MiB, away from the reactor.
async fn predicate(payload: Bytes) -> Result<Bytes, StatementError> {
    let taken = tokio::task::spawn_blocking(move || sbom::of_statement(&payload)).await;
    taken.unwrap_or(Err(StatementError::Missing("predicate")))
}
