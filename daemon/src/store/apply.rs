//! What a record means for the facts table.

use larder_core::facts::{Facts, Told};
use larder_core::manifest::is_index;

use super::record::{Detached, Event, ManifestAdded, Record};

/// Applies a record; applying it twice is as once, but for the signatures that are counted beyond the limit.
pub(super) fn apply(facts: &mut Facts, record: &Record) {
    match &record.event {
        Event::Operation(operation) => {
            for manifest in &operation.manifests {
                add_manifest(facts, record, manifest);
            }
            for Detached { repository, subject, signatures, uncounted, .. } in &operation.detached {
                for id in signatures {
                    facts.remove_signature(*id, repository, *subject);
                }
                facts.remove_uncounted(repository, *subject, *uncounted);
            }
        }
        Event::VerdictsTold(told) => {
            for (seq, change) in (record.seq..).zip(&told.changes) {
                facts.set_told(&change.repository, change.digest, Told { state: change.to, seq });
            }
        }
        Event::Corruption(corruption) => facts.set_corrupt(corruption.digest, corruption.corrupt),
        Event::TrustChanged(_) | Event::Pruned(_) => {}
    }
}

fn add_manifest(facts: &mut Facts, record: &Record, manifest: &ManifestAdded) {
    let repository = &manifest.repository;
    if manifest.subject.is_some() {
        facts.add_subject(repository, manifest.digest, record.time);
    }
    if is_index(&manifest.media_type) {
        for child in manifest.successors.iter().filter(|successor| successor.manifest) {
            facts.add_parent(repository, child.digest, manifest.digest);
        }
    }
    for row in &manifest.signatures {
        // What hangs on nothing that is known counts for what it names.
        if let Some(at) = manifest.attached.as_ref().map(|attached| attached.subject).or(row.names) {
            facts.add_signature(row.clone(), repository, at);
        }
    }
    if let Some(attached) = manifest.attached.as_ref().filter(|_| manifest.uncounted > 0) {
        facts.add_uncounted(repository, attached.subject, manifest.uncounted);
    }
}
