//! Attaches an SBOM to what is held, as `cosign attach sbom` does: an image at the tag `sha256-<hex>.sbom`.

use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::digest::Algorithm;
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::sbom::{self, ATTACHABLE, MAX_SBOM_BYTES};
use larder_core::signature::simple_signing::SignatureImage;
use larder_core::{Digest, Reference, Tag};

use super::Ctx;
use super::added::describe;
use super::query::{Held, QueryError, Question, find};
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, Operation, OperationKind, TagMoved};

/// An SBOM whose bytes a client has written.
#[derive(Clone, Debug)]
pub struct Sbom {
    /// One of [`ATTACHABLE`].
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
}

/// Where an SBOM was put.
#[derive(Clone, Debug)]
pub struct Attached {
    /// What it belongs to.
    pub held: Held,
    /// The tag that holds it.
    pub tag: Tag,
    /// The manifest at the tag.
    pub manifest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// What the tag named before.
    pub old: Option<Digest>,
    /// The operation; 0 where the same SBOM was there.
    pub seq: u64,
}

/// Says why an SBOM was not attached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The subject is not held.
    #[error("{0}")]
    Subject(#[from] QueryError),
    /// cosign attaches no SBOMs of this type.
    #[error("{0:?} is no media type by which SBOMs are attached")]
    MediaType(String),
    /// The digest's algorithm is not the one that cosign names layers by.
    #[error("{0} is no sha256 digest; cosign names SBOMs by sha256")]
    Algorithm(Digest),
    /// The subject's digest is too long for an SBOM's tag.
    #[error("cosign has no SBOM tag for {0}: its name would be too long")]
    NoTag(Digest),
    /// The bytes are not here.
    #[error("the SBOM {0} is not here: its bytes come first, then it is attached")]
    Missing(Digest),
    /// There are no bytes.
    #[error("the SBOM is empty")]
    Empty,
    /// There are too many bytes.
    #[error("the SBOM has {0} bytes; cosign reads at most 128 MiB")]
    TooLong(u64),
    /// The image that was written is no manifest.
    #[error("the SBOM's image cannot be written: {0}")]
    Image(#[from] ManifestError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl AttachError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.reason(),
            Self::MediaType(_) => "invalid-argument",
            Self::Algorithm(_) | Self::NoTag(_) => "unsupported-digest",
            Self::Missing(_) => "missing-content",
            Self::Empty => "empty-sbom",
            Self::TooLong(_) => "sbom-too-long",
            Self::Image(_) => "invalid-manifest",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::MediaType(_) => Some(format!("it is one of {}", ATTACHABLE.join(", "))),
            Self::Missing(_) => Some("Content.Write brings its bytes; `larder attach sbom` does both".to_owned()),
            Self::Empty => Some("nothing was attached; is it the right file?".to_owned()),
            Self::TooLong(_) => Some("as a referrer it may be longer: `oras attach` at the endpoint".to_owned()),
            Self::Algorithm(_) | Self::NoTag(_) | Self::Image(_) => None,
            Self::Store(error) => error.hint(),
        }
    }
}

/// Puts an SBOM at the subject's SBOM tag, in place of the one that is there.
///
/// # Errors
/// Fails where the subject or the SBOM's bytes are not held, and where cosign would not attach or read it.
pub async fn sbom(ctx: &Ctx, actor: Actor, subject: &Question, new: &Sbom) -> Result<Attached, AttachError> {
    if !ATTACHABLE.contains(&new.media_type.as_str()) {
        return Err(AttachError::MediaType(new.media_type.chars().take(120).collect()));
    }
    if new.digest.algorithm() != Algorithm::Sha256 {
        return Err(AttachError::Algorithm(new.digest));
    }
    let held = find(ctx, subject).await?;
    let tag = DigestTag { digest: held.digest, suffix: TagSuffix::Sbom }.tag();
    let tag = tag.ok_or(AttachError::NoTag(held.digest))?;
    let size = size_of(ctx, new.digest)?;
    let SignatureImage { manifest, config } = sbom::image(&new.media_type, new.digest, size);
    let manifest = Manifest::parse(manifest, None)?;
    let digest = manifest.digest();

    let old = ctx.store.tag(&held.repository, &tag).await?.map(|row| row.digest);
    if old == Some(digest) {
        return Ok(Attached { held, tag, manifest: digest, size, old, seq: 0 });
    }
    let blobs = [config, manifest.raw().clone()];
    ctx.store.put_many(blobs.map(|blob| (Algorithm::Sha256, blob)).into()).await?;
    let attached = AttachedTo { subject: held.digest, kind: AttachedKind::Sbom, tag: Some(tag.clone()) };
    let added = describe(ctx, &held.repository, &manifest, None, Some(attached), Vec::new()).await?;
    let moved = TagMoved { repository: held.repository.clone(), tag: tag.clone(), old: None, new: Some(digest) };
    let operation = Operation {
        kind: OperationKind::Attach,
        reference: Reference::by_digest(held.repository.clone(), held.digest).to_string(),
        manifests: vec![added],
        tags: vec![moved],
        detached: Vec::new(),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok(Attached { held, tag, manifest: digest, size, old, seq })
}

/// Returns how many bytes an SBOM has, if they are here and as many as there may be.
fn size_of(ctx: &Ctx, digest: Digest) -> Result<u64, AttachError> {
    match ctx.store.length(&digest) {
        Some(_) if ctx.store.facts().is_corrupt(digest) => Err(AttachError::Missing(digest)),
        None => Err(AttachError::Missing(digest)),
        Some(0) => Err(AttachError::Empty),
        Some(size) if size > MAX_SBOM_BYTES => Err(AttachError::TooLong(size)),
        Some(size) => Ok(size),
    }
}
