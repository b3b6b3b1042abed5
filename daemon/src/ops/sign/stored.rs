//! Where signatures are put: cosign's tags, or referrers.

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::check::Checker;
use larder_core::digest::Algorithm;
use larder_core::key::PublicKey;
use larder_core::manifest::Manifest;
use larder_core::signature::bundle_writer::{BUNDLE_V03, EMPTY_CONFIG, bundle, envelope, referrer, signature_over};
use larder_core::signature::dsse::{IN_TOTO, pae};
use larder_core::signature::simple_signing::{
    MAX_COSIGN_LAYERS, SIGNATURE_ANNOTATION, SignatureImage, append, append_attestation, decode_signature,
};
use larder_core::{Descriptor, Digest, Reference};

use super::{Attached, SignError, Signed};
use crate::ops::Ctx;
use crate::ops::added::describe;
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, Operation, OperationKind, TagMoved};

/// By how many bytes two stored forms of one statement may differ that the same key signed: a signature by ECDSA has a few
/// bytes more or less, and base64 makes four of three.
const LENGTHS_DIFFER: u64 = 16;

/// Appends it to what is under the subject's `.sig` tag, or, where it attests something, its `.att` tag.
pub(super) async fn under_tag(
    ctx: &Ctx,
    actor: Actor,
    signed: &Signed,
    key: &PublicKey,
    attests: Option<&str>,
) -> Result<Attached, SignError> {
    let (suffix, kind) = match attests {
        Some(_) => (TagSuffix::Attestation, AttachedKind::Attestation),
        None => (TagSuffix::Signature, AttachedKind::Signature),
    };
    let tag = DigestTag { digest: signed.digest, suffix }.tag().ok_or(SignError::NoTag(signed.digest))?;
    let beside = signed.material.annotations()?;
    let layer = match attests {
        Some(_) => envelope(&signed.payload, &signed.signature),
        None => signed.payload.clone(),
    };

    let _turn = ctx.signing.lock().await;
    let existing = match ctx.store.tag(&signed.repository, &tag).await? {
        Some(row) => Some(ctx.store.manifest(&row.digest).await?),
        None => None,
    };
    if let Some(existing) = &existing {
        let at = Attached { tag: Some(tag.clone()), digest: existing.digest(), added: false };
        for present in existing.layers() {
            if has_signed(ctx, signed, key, present, &layer).await? {
                return Ok(at);
            }
        }
        if existing.layers().len() >= MAX_COSIGN_LAYERS {
            return Err(SignError::Full(tag));
        }
    }
    let image = match attests {
        Some(predicate_type) => append_attestation(existing.as_ref(), &layer, predicate_type, beside),
        None => append(existing.as_ref(), &signed.payload, &signed.signature, beside),
    };
    let Some(SignatureImage { manifest, config }) = image else {
        let digest = existing.map_or(signed.digest, |manifest| manifest.digest());
        return Ok(Attached { tag: Some(tag), digest, added: false });
    };
    let manifest =
        Manifest::parse(manifest, None).map_err(|source| SignError::Occupied { tag: tag.clone(), source })?;
    let attached = AttachedTo { subject: signed.digest, kind, tag: Some(tag) };
    store(ctx, actor, signed, &manifest, attached, [layer, config]).await
}

/// Hangs a bundle on the subject.
pub(super) async fn as_referrer(
    ctx: &Ctx,
    actor: Actor,
    signed: &Signed,
    key: &PublicKey,
    predicate_type: &str,
) -> Result<Attached, SignError> {
    let bundle = bundle(key, &signed.material, &signed.payload, &signed.signature);
    let subject = ctx.store.manifest(&signed.digest).await?.descriptor();

    let _turn = ctx.signing.lock().await;
    for row in ctx.store.attached(signed.digest).await? {
        let is_bundle = row.attached.is_some_and(|attached| attached.kind == AttachedKind::Bundle);
        if !is_bundle || row.repository != signed.repository {
            continue;
        }
        let manifest = ctx.store.manifest(&row.digest).await?;
        if let [present] = manifest.layers()
            && has_signed(ctx, signed, key, present, &bundle).await?
        {
            return Ok(Attached { tag: None, digest: row.digest, added: false });
        }
    }
    let manifest = referrer(&bundle, &subject, predicate_type, ctx.clock.now());
    let manifest =
        Manifest::parse(manifest, None).map_err(|source| SignError::Referrer { digest: signed.digest, source })?;
    let attached = AttachedTo { subject: signed.digest, kind: AttachedKind::Bundle, tag: None };
    store(ctx, actor, signed, &manifest, attached, [bundle, Bytes::from_static(EMPTY_CONFIG)]).await
}

/// Says whether a layer holds what was signed, by the same key: not every key signs the same bytes twice in the same way.
///
/// What brings new material is new, whoever signed before: a signature that no log has seen is another to whoever asks for a log.
///
/// Only layers are read that have about the length of the new one, so that this costs little whatever else is there.
async fn has_signed(
    ctx: &Ctx,
    signed: &Signed,
    key: &PublicKey,
    present: &Descriptor,
    new: &Bytes,
) -> Result<bool, StoreError> {
    let new_length = new.len() as u64;
    if !signed.material.is_empty() {
        return Ok(false);
    }
    if present.size.abs_diff(new_length) > LENGTHS_DIFFER {
        return Ok(false);
    }
    if present.media_type == larder_core::artifact::SIMPLE_SIGNING {
        let signature = present.annotations.get(SIGNATURE_ANNOTATION).and_then(|text| decode_signature(text).ok());
        let is_same = present.digest == Digest::with(present.digest.algorithm(), new);
        return Ok(is_same
            && signature.is_some_and(|signature| Checker::new(&signed.payload, &signature).check(key).is_some()));
    }
    let may_be = matches!(present.media_type.as_str(), BUNDLE_V03 | larder_core::artifact::DSSE_ENVELOPE);
    if !may_be || !ctx.store.has(&present.digest) {
        return Ok(false);
    }
    let stored = ctx.store.read(&present.digest, new_length + LENGTHS_DIFFER).await?;
    let Some(signature) = signature_over(&signed.payload, &stored) else { return Ok(false) };
    Ok(Checker::new(&pae(IN_TOTO, &signed.payload), &signature).check(key).is_some())
}

/// Makes a manifest visible with its blobs, and its tag, if it has one.
async fn store(
    ctx: &Ctx,
    actor: Actor,
    signed: &Signed,
    manifest: &Manifest,
    attached: AttachedTo,
    [layer, config]: [Bytes; 2],
) -> Result<Attached, SignError> {
    let blobs = [layer, config, manifest.raw().clone()];
    ctx.store.put_many(blobs.map(|blob| (Algorithm::Sha256, blob)).into()).await?;
    let tag = attached.tag.clone();
    let added = describe(ctx, &signed.repository, manifest, None, Some(attached), Vec::new()).await?;
    let moved = tag.clone().map(|tag| TagMoved {
        repository: signed.repository.clone(),
        tag,
        old: None,
        new: Some(manifest.digest()),
    });
    let operation = Operation {
        kind: OperationKind::Sign,
        reference: Reference::by_digest(signed.repository.clone(), signed.digest).to_string(),
        manifests: vec![added],
        tags: moved.into_iter().collect(),
        detached: Vec::new(),
    };
    ctx.perform(actor, operation).await?;
    Ok(Attached { tag, digest: manifest.digest(), added: true })
}
