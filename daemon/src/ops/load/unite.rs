//! Signatures that two carriers bring under one tag become one image.

use std::collections::BTreeMap;

use larder_core::artifact::AttachedKind;
use larder_core::digest::Algorithm;
use larder_core::manifest::Manifest;
use larder_core::signature::simple_signing::{SignatureImage, merge};
use larder_core::{Digest, Repository, Tag};

use super::LoadError;
use crate::ops::Ctx;
use crate::store::record::AttachedTo;
use crate::transfer::{Node, Plan};

/// Unites the signatures that are carried with those under the same tag here, so that the tag loses none. Returns what
/// cosign's tags name then.
pub(super) async fn signatures(
    ctx: &Ctx,
    repository: &Repository,
    plan: &mut Plan,
) -> Result<BTreeMap<Tag, Digest>, LoadError> {
    let unites =
        |manifest: &Manifest| matches!(AttachedKind::of(manifest), AttachedKind::Signature | AttachedKind::Attestation);
    let mut under: BTreeMap<Tag, Manifest> = BTreeMap::new();
    let mut made = Vec::new();
    for node in &plan.nodes {
        let Some(AttachedTo { subject, kind, tag: Some(tag) }) = &node.attached else { continue };
        let there = match under.get(tag) {
            Some(there) => Some(there.clone()),
            None => match ctx.store.tag(repository, tag).await? {
                // What cannot be read any more is replaced.
                Some(row) if unites(&node.manifest) => ctx.store.manifest(&row.digest).await.ok(),
                _ => None,
            },
        };
        let Some(there) = there.filter(|there| unites(there) && unites(&node.manifest)) else {
            under.insert(tag.clone(), node.manifest.clone());
            continue;
        };
        let united = match merge(&there, &node.manifest) {
            None => there,
            // All that is there is carried, too.
            Some(_) if merge(&node.manifest, &there).is_none() => node.manifest.clone(),
            Some(SignatureImage { manifest, config }) => {
                ctx.store.put_many(vec![(Algorithm::Sha256, config)]).await?;
                let manifest =
                    Manifest::parse(manifest, None).map_err(|source| LoadError::Merge { tag: tag.clone(), source })?;
                made.push(Node {
                    manifest: manifest.clone(),
                    subject: None,
                    attached: Some(AttachedTo { subject: *subject, kind: *kind, tag: Some(tag.clone()) }),
                    left_out: Vec::new(),
                });
                manifest
            }
        };
        under.insert(tag.clone(), united);
    }
    plan.nodes.extend(made);
    Ok(under.into_iter().map(|(tag, manifest)| (tag, manifest.digest())).collect())
}
