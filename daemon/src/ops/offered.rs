//! Judges what is not held from what is offered, and keeps nothing.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_core::check::Checker;
use larder_core::facts::{Facts, SignatureRow};
use larder_core::judge::{Support, judge_view, support};
use larder_core::policy::TrustView;
use larder_core::signature::SignatureId;
use larder_core::signature::simple_signing::{self, FoundSignature, MAX_PAYLOAD_BYTES};
use larder_core::verdict::Verdict;
use larder_core::{Descriptor, Digest, Repository};

use super::Ctx;
use super::checks::{anchors_of, read_signatures};
use crate::transfer::{Plan, Source, TransferError};

/// What was judged, and on which signatures it rests.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) support: Vec<Support>,
    /// The signatures that were found, for their payloads.
    pub(super) found: HashMap<SignatureId, (FoundSignature, Digest)>,
}

/// Judges a plan's root as it would be judged if it were held, together with what is known of it here.
pub(super) async fn judge(
    ctx: &Ctx,
    repository: &Repository,
    source: &impl Source,
    plan: &Plan,
) -> Result<Judged, TransferError> {
    let view = ctx.view();
    let now = ctx.clock.now();
    let mut facts = Facts::default();
    let mut found: HashMap<SignatureId, (FoundSignature, Digest)> = HashMap::new();
    let mut at: Vec<(SignatureId, Digest, SignatureRow)> = Vec::new();

    for node in &plan.nodes {
        let digest = node.manifest.digest();
        if node.subject.is_some() {
            facts.add_subject(repository, digest, now);
            for child in node.manifest.children() {
                facts.add_parent(repository, child.digest, digest);
            }
        }
        let Some(attached) = &node.attached else { continue };
        let payloads = payloads(source, node.manifest.layers()).await?;
        for signature in simple_signing::read(&node.manifest, |layer| payloads.get(&layer.digest).cloned()) {
            let row = SignatureRow {
                id: signature.id,
                format: signature.format,
                names: signature.names,
                first_seen: now,
                manifest: digest,
                layer: signature.layer,
            };
            at.push((signature.id, attached.subject, row));
            found.insert(signature.id, (signature, digest));
        }
    }
    for (known, hangs_on) in add_known(ctx, repository, plan, &mut facts) {
        let signatures = read_signatures(&ctx.store, known.manifest).await?;
        if let Some(signature) = signatures.into_iter().find(|signature| signature.id == known.id) {
            found.entry(known.id).or_insert((signature, known.manifest));
        }
        at.push((known.id, hangs_on, known));
    }
    for (_, hangs_on, row) in at {
        facts.add_signature(row, repository, hangs_on);
    }
    let keys = anchors_of(&view);
    let checked = tokio::task::spawn_blocking(move || {
        for (id, (signature, _)) in &found {
            let checker = Checker::of(signature);
            for key in &keys {
                facts.record_check(*id, key.id(), checker.as_ref().and_then(|checker| checker.check(key)));
            }
        }
        (facts, found)
    });
    let (facts, found) = checked.await.map_err(|_| crate::store::StoreError::Stopping)?;
    let verdict = judge_view(&facts, &view, repository, plan.root, now);
    let support = support_of(&facts, &view, repository, plan.root, now, &verdict);
    Ok(Judged { verdict, support, found })
}

fn support_of(
    facts: &Facts,
    view: &TrustView,
    repository: &Repository,
    digest: Digest,
    now: jiff::Timestamp,
    verdict: &Verdict,
) -> Vec<Support> {
    if verdict.state.is_accepted() { support(facts, view, repository, digest, now) } else { Vec::new() }
}

/// Adds the indexes that are held and list the plan's root, and returns what signatures are known here of all of them.
fn add_known(ctx: &Ctx, repository: &Repository, plan: &Plan, facts: &mut Facts) -> Vec<(SignatureRow, Digest)> {
    let held = ctx.store.facts();
    let mut digests: Vec<Digest> =
        plan.nodes.iter().filter(|node| node.subject.is_some()).map(|node| node.manifest.digest()).collect();
    let mut wave = vec![plan.root];
    while let Some(child) = wave.pop() {
        for index in held.parents(repository, child) {
            facts.add_subject(repository, index, ctx.clock.now());
            facts.add_parent(repository, child, index);
            if !digests.contains(&index) {
                digests.push(index);
                wave.push(index);
            }
        }
    }
    let mut known: BTreeMap<SignatureId, (SignatureRow, Digest)> = BTreeMap::new();
    for digest in digests {
        for id in held.signatures_of(digest) {
            if let Some(row) = held.signature(id) {
                known.entry(id).or_insert_with(|| (row.clone(), digest));
            }
        }
    }
    known.into_values().collect()
}

/// Reads the payloads of signature layers; one that is too long is left, its signature is faulty.
async fn payloads(source: &impl Source, layers: &[Descriptor]) -> Result<HashMap<Digest, Bytes>, TransferError> {
    let mut payloads = HashMap::new();
    for layer in layers {
        if layer.media_type != larder_core::artifact::SIMPLE_SIGNING
            || layer.size > MAX_PAYLOAD_BYTES
            || payloads.contains_key(&layer.digest)
        {
            continue;
        }
        payloads.insert(layer.digest, small(source, layer).await?);
    }
    Ok(payloads)
}

/// Reads a small blob whole and verifies it: a stream is verified by its taker.
async fn small(source: &impl Source, layer: &Descriptor) -> Result<Bytes, TransferError> {
    let mut bytes = Vec::new();
    let mut stream = source.blob(layer, 0).await?;
    while let Some(chunk) = stream.try_next().await? {
        if bytes.len() as u64 + chunk.len() as u64 > layer.size {
            return Err(TransferError::Content { digest: layer.digest, what: "it is longer than its descriptor says" });
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() as u64 != layer.size || Digest::with(layer.digest.algorithm(), &bytes) != layer.digest {
        return Err(TransferError::Content { digest: layer.digest, what: "its bytes are not those of its digest" });
    }
    Ok(bytes.into())
}
