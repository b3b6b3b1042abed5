//! Judges what is not held from what is offered, and keeps nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_core::facts::{Facts, SignatureRow};
use larder_core::judge::{Support, judge_view, support};
use larder_core::policy::{CheckAnchor, TrustView};
use larder_core::signature::found;
use larder_core::signature::{FoundSignature, SignatureId};
use larder_core::verdict::Verdict;
use larder_core::{Descriptor, Digest, Repository};

use super::Ctx;
use super::checks::{CheckResult, anchors_of, check_one, read_signature};
use crate::store::StoreError;
use crate::transfer::{Plan, Source, TransferError};

/// What was judged, and on which signatures it rests.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) support: Vec<Support>,
    /// The signatures that a key made, for their payloads.
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
    let anchors: Arc<[CheckAnchor]> = anchors_of(&view).into();
    let mut at: Vec<(Digest, SignatureRow)> = Vec::new();
    let mut checked: Vec<Checked> = Vec::new();

    for node in &plan.nodes {
        let digest = node.manifest.digest();
        if node.subject.is_some() {
            facts.add_subject(repository, digest, now);
            for child in node.manifest.children() {
                facts.add_parent(repository, child.digest, digest);
            }
        }
        let Some(attached) = &node.attached else { continue };
        for layer in found::layers(&node.manifest) {
            let bytes = match layer.is_read() {
                true => Some(small(source, layer.descriptor).await?),
                false => None,
            };
            for signature in layer.read(bytes) {
                at.push((attached.subject, signature.row(digest, now)));
                checked.push(check_all(ctx, signature, digest, &anchors).await?);
            }
        }
        if let Some(signature) = found::bare(&node.manifest) {
            at.push((attached.subject, signature.row(digest, now)));
        }
    }
    for (known, hangs_on) in add_known(ctx, repository, plan, &mut facts) {
        if let Some(signature) = read_signature(&ctx.store, &known).await? {
            checked.push(check_all(ctx, signature, known.manifest, &anchors).await?);
        }
        at.push((hangs_on, known));
    }
    for (hangs_on, row) in at {
        facts.add_signature(row, repository, hangs_on);
    }
    let mut found = HashMap::new();
    for Checked { id, results, valid } in checked {
        results.into_iter().for_each(|result| result.record(&mut facts));
        if let Some(valid) = valid {
            found.entry(id).or_insert(valid);
        }
    }
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

/// What came of checking one signature.
struct Checked {
    id: SignatureId,
    results: Vec<CheckResult>,
    /// The signature and the manifest that holds it, kept only where somebody known made it: junk may be long.
    valid: Option<(FoundSignature, Digest)>,
}

/// Checks a signature against every key and root.
async fn check_all(
    ctx: &Ctx,
    signature: FoundSignature,
    manifest: Digest,
    anchors: &Arc<[CheckAnchor]>,
) -> Result<Checked, StoreError> {
    let anchors = Arc::clone(anchors);
    let check = move || {
        let results = check_one(&signature, &anchors);
        let is_valid = results.iter().any(CheckResult::is_valid);
        Checked { id: signature.id, results, valid: is_valid.then_some((signature, manifest)) }
    };
    ctx.checks.run(check).await.ok_or(StoreError::Stopping)
}

/// Reads a small blob whole and verifies it: a stream is verified by its taker.
pub(super) async fn small(source: &impl Source, layer: &Descriptor) -> Result<Bytes, TransferError> {
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
