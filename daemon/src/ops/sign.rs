//! Signing without a private key: says what to sign, stores what was signed.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::check::check;
use larder_core::digest::Algorithm;
use larder_core::key::{KeyError, PublicKey};
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::signature::found;
use larder_core::signature::simple_signing::{self, MAX_PAYLOAD_BYTES, SignatureImage};
use larder_core::{Digest, Reference, Repository, Tag};

use super::Ctx;
use super::added::describe;
use super::query::{QueryError, resolve};
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, Operation, OperationKind, TagMoved};

/// What to sign.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The subject's repository.
    pub repository: Repository,
    /// The subject.
    pub digest: Digest,
    /// The bytes to sign.
    pub payload: Vec<u8>,
}

/// A signature that a client made.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The subject's repository.
    pub repository: Repository,
    /// The subject.
    pub digest: Digest,
    /// The signed bytes.
    pub payload: Bytes,
    /// ASN.1 DER.
    pub signature: Bytes,
    /// The key that it must verify with, as PEM.
    pub public_key: String,
}

/// Where a signature was put.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The tag that holds it.
    pub tag: Tag,
    /// The manifest at the tag.
    pub digest: Digest,
    /// False where the same signature was there.
    pub added: bool,
}

/// Says why something was not signed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The subject is not held.
    #[error("{0}")]
    Subject(#[from] QueryError),
    /// The public key cannot be read.
    #[error("the public key cannot be read: {0}")]
    Key(#[from] KeyError),
    /// The payload is not what was prepared: it does not name the digest.
    #[error("the payload does not name {0}")]
    OtherPayload(Digest),
    /// The signature does not verify.
    #[error("the signature does not verify with the given key: {0}")]
    BadSignature(&'static str),
    /// The digest is too long for a signature tag.
    #[error("cosign has no signature tag for {0}: its name would be too long")]
    NoTag(Digest),
    /// What is under the signature tag is no signature image.
    #[error("{tag} holds something that no signature can be added to: {source}")]
    Occupied {
        /// The tag.
        tag: Tag,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl SignError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.reason(),
            Self::Key(_) => "invalid-key",
            Self::OtherPayload(_) | Self::BadSignature(_) => "bad-signature",
            Self::NoTag(_) => "unsupported-digest",
            Self::Occupied { .. } => "invalid-manifest",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::OtherPayload(_) | Self::BadSignature(_) => {
                Some("sign the payload as PrepareSignature returned it; nothing was stored".to_owned())
            }
            Self::Key(_) => Some("`larder key generate` makes a pair that can be read".to_owned()),
            Self::NoTag(_) => None,
            Self::Occupied { .. } => Some(
                "whoever pushed it to the endpoint has to push a signature image in its place; nothing was stored"
                    .to_owned(),
            ),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Returns the bytes that cosign would sign for what is held under a reference.
///
/// # Errors
/// Fails where it is not held.
pub async fn prepare(
    ctx: &Ctx,
    reference: &Reference,
    annotations: &BTreeMap<String, String>,
) -> Result<Prepared, SignError> {
    let held = resolve(ctx, reference).await?;
    let payload = simple_signing::payload(&held.repository.cosign_name(), &held.digest, annotations);
    Ok(Prepared { repository: held.repository, digest: held.digest, payload })
}

/// Stores a signature under the subject's signature tag, beside those that are there.
///
/// # Errors
/// Fails where the subject is not held, or the signature is not one of this key over this digest.
pub async fn attach(ctx: &Ctx, actor: Actor, signed: Signed) -> Result<Attached, SignError> {
    let subject = Reference::by_digest(signed.repository.clone(), signed.digest);
    resolve(ctx, &subject).await?;
    let tag = DigestTag { digest: signed.digest, suffix: TagSuffix::Signature };
    let tag = tag.tag().ok_or(SignError::NoTag(signed.digest))?;
    verify(&signed)?;

    let _turn = ctx.signing.lock().await;
    let existing = match ctx.store.tag(&signed.repository, &tag).await? {
        Some(row) => Some(ctx.store.manifest(&row.digest).await?),
        None => None,
    };
    let Some(image) = simple_signing::append(existing.as_ref(), &signed.payload, &signed.signature) else {
        let digest = existing.map_or(signed.digest, |manifest| manifest.digest());
        return Ok(Attached { tag, digest, added: false });
    };
    let SignatureImage { manifest, config } = image;
    let manifest =
        Manifest::parse(manifest, None).map_err(|source| SignError::Occupied { tag: tag.clone(), source })?;
    let blobs = [signed.payload.clone(), config, manifest.raw().clone()];
    ctx.store.put_many(blobs.map(|blob| (Algorithm::Sha256, blob)).into()).await?;
    let attached = AttachedTo { subject: signed.digest, kind: AttachedKind::Signature, tag: Some(tag.clone()) };
    let added = describe(ctx, &signed.repository, &manifest, None, Some(attached), Vec::new()).await?;
    let moved =
        TagMoved { repository: signed.repository.clone(), tag: tag.clone(), old: None, new: Some(manifest.digest()) };
    let operation = Operation {
        kind: OperationKind::Sign,
        reference: subject.to_string(),
        manifests: vec![added],
        tags: vec![moved],
    };
    ctx.perform(actor, operation).await?;
    Ok(Attached { tag, digest: manifest.digest(), added: true })
}

/// Reads the new signature as any other would be read, and checks it: what does not verify is not stored.
fn verify(signed: &Signed) -> Result<(), SignError> {
    if signed.payload.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(SignError::BadSignature("its payload is longer than any that is read"));
    }
    let key = PublicKey::from_pem(signed.public_key.as_bytes())?;
    let alone = simple_signing::append(None, &signed.payload, &signed.signature)
        .ok_or(SignError::BadSignature("it cannot be written as a signature"))?;
    let manifest = Manifest::parse(alone.manifest, None)
        .map_err(|_| SignError::BadSignature("it cannot be written as a signature"))?;
    let found = found::read(&manifest, |_| Some(signed.payload.clone()));
    let [found] = found.as_slice() else { return Err(SignError::BadSignature("it is not one signature")) };
    if found.names != Some(signed.digest) {
        return Err(SignError::OtherPayload(signed.digest));
    }
    match check(found, &key) {
        Some(_) => Ok(()),
        None => Err(SignError::BadSignature("it was made by another key, or over other bytes")),
    }
}
