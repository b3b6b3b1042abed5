//! Attaches a signature or an attestation that somebody else made, as `cosign attach signature` and `cosign attach
//! attestation` do: a layer more at the tag `sha256-<hex>.sig` or `.att`.
//!
//! Whose it is, is not asked: it is judged afterwards like every signature that a registry brings. But it must be one, and
//! about the subject: what can never count is refused while the person who has the files is there.

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::digest::Algorithm;
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::signature::found::{self, Annotations};
use larder_core::signature::simple_signing::{MAX_COSIGN_LAYERS, SignatureImage, append_layer, evidence_layer};
use larder_core::{Digest, Reference, Tag};

use super::Ctx;
use super::added::describe;
use super::query::{Held, QueryError, Question, find};
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, Operation, OperationKind, TagMoved};

/// What is attached.
#[derive(Clone, Debug)]
pub struct Given {
    /// A SimpleSigning payload, or a DSSE envelope.
    pub bytes: Bytes,
    /// The payload's signature, base64; `None` for an envelope, which has its own.
    pub signature: Option<String>,
    /// What comes with it; its `envelope` is not looked at.
    pub beside: Annotations,
}

/// Where it was put.
#[derive(Clone, Debug)]
pub struct Attached {
    /// What it belongs to.
    pub held: Held,
    /// The tag that holds it.
    pub tag: Tag,
    /// The manifest at the tag.
    pub manifest: Digest,
    /// False where it was there.
    pub added: bool,
}

/// Says why it was not attached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The subject is not held.
    #[error("{0}")]
    Subject(#[from] QueryError),
    /// It is no signature, or no attestation.
    #[error("it cannot be attached: {0}")]
    NoEvidence(String),
    /// It is about something else.
    #[error("it does not name {0}")]
    OtherSubject(Digest),
    /// The subject's digest is too long for a tag.
    #[error("cosign has no tag for {0}: its name would be too long")]
    NoTag(Digest),
    /// What is under the tag is no signature image.
    #[error("{tag} holds something that nothing can be added to: {source}")]
    Occupied {
        /// The tag.
        tag: Tag,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// There are as many layers under the tag as cosign reads.
    #[error("{0} holds {MAX_COSIGN_LAYERS} signatures already, and cosign reads no more")]
    Full(Tag),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl EvidenceError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.reason(),
            Self::NoEvidence(_) | Self::OtherSubject(_) => "bad-signature",
            Self::NoTag(_) => "unsupported-digest",
            Self::Occupied { .. } => "invalid-manifest",
            Self::Full(_) => "too-many-signatures",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::NoEvidence(_) | Self::OtherSubject(_) => {
                Some("is it the right file, and the right image? nothing was attached".to_owned())
            }
            Self::NoTag(_) | Self::Full(_) => Some("a bundle needs no tag: `oras attach` at the endpoint".to_owned()),
            Self::Occupied { .. } => Some("nothing was attached".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Appends it to what is at the subject's `.sig` tag, or its `.att` tag.
///
/// # Errors
/// Fails where the subject is not held, and where no check could ever make it count.
pub async fn evidence(ctx: &Ctx, actor: Actor, subject: &Question, given: &Given) -> Result<Attached, EvidenceError> {
    let held = find(ctx, subject).await?;
    let (suffix, kind) = match given.signature {
        Some(_) => (TagSuffix::Signature, AttachedKind::Signature),
        None => (TagSuffix::Attestation, AttachedKind::Attestation),
    };
    let tag = DigestTag { digest: held.digest, suffix }.tag().ok_or(EvidenceError::NoTag(held.digest))?;
    let layer =
        evidence_layer(&given.bytes, given.signature.as_deref(), &given.beside).map_err(EvidenceError::NoEvidence)?;
    let occupied = |source| EvidenceError::Occupied { tag: tag.clone(), source };
    if let Some(alone) = append_layer(None, &layer) {
        about(&Manifest::parse(alone.manifest, None).map_err(occupied)?, given, held.digest)?;
    }

    let _turn = ctx.signing.lock().await;
    let existing = match ctx.store.tag(&held.repository, &tag).await? {
        Some(row) => Some(ctx.store.manifest(&row.digest).await?),
        None => None,
    };
    if existing.as_ref().is_some_and(|existing| existing.layers().len() >= MAX_COSIGN_LAYERS) {
        return Err(EvidenceError::Full(tag));
    }
    let Some(SignatureImage { manifest, config }) = append_layer(existing.as_ref(), &layer) else {
        let manifest = existing.map_or(held.digest, |existing| existing.digest());
        return Ok(Attached { held, tag, manifest, added: false });
    };
    let manifest = Manifest::parse(manifest, None).map_err(occupied)?;
    let digest = manifest.digest();
    let blobs = [given.bytes.clone(), config, manifest.raw().clone()];
    ctx.store.put_many(blobs.map(|blob| (Algorithm::Sha256, blob)).into()).await?;
    let attached = AttachedTo { subject: held.digest, kind, tag: Some(tag.clone()) };
    let added = describe(ctx, &held.repository, &manifest, None, Some(attached), Vec::new()).await?;
    let operation = Operation {
        kind: OperationKind::Sign,
        reference: Reference::by_digest(held.repository.clone(), held.digest).to_string(),
        manifests: vec![added],
        tags: vec![TagMoved { repository: held.repository.clone(), tag: tag.clone(), old: None, new: Some(digest) }],
        detached: Vec::new(),
    };
    ctx.perform(actor, operation).await?;
    Ok(Attached { held, tag, manifest: digest, added: true })
}

/// Makes sure that what is attached can be read, and names the subject.
fn about(manifest: &Manifest, given: &Given, digest: Digest) -> Result<(), EvidenceError> {
    let rows = found::read(manifest, |_| Some(given.bytes.clone()));
    if let Some(fault) = rows.iter().find_map(|row| row.fault.clone()) {
        return Err(EvidenceError::NoEvidence(fault));
    }
    match rows.iter().any(|row| row.names == Some(digest)) {
        true => Ok(()),
        false => Err(EvidenceError::OtherSubject(digest)),
    }
}
