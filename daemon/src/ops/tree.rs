//! An artifact as a tree: what it lists, and below each manifest what is attached to it.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::BoxFuture;
use larder_core::artifact::AttachedKind;
use larder_core::manifest::{MAX_DEPTH, Manifest, is_index};
use larder_core::verdict::Verdict;
use larder_core::{Descriptor, Digest, Platform, Repository};

use super::Ctx;
use super::artifacts::attached_to;
use super::query::{Held, QueryError, Question, find};
use crate::store::StoreError;

/// The most nodes of a tree.
const MAX_NODES: usize = 20_000;
/// How far attached things are followed that hang on attached things (an SBOM's own signature).
const MAX_ATTACHED_DEPTH: usize = 3;
/// What the media types of images' configs end in; another config makes an artifact.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// What it is of.
    pub held: Held,
    /// Its root.
    pub root: Node,
    /// It has more nodes than are shown.
    pub cut: bool,
}

/// A manifest or blob in a tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// index, image or artifact; config or layer; or the name of an [`AttachedKind`].
    pub kind: &'static str,
    /// Whether its content is held.
    pub held: bool,
    /// Whether it was left out on purpose.
    pub left_out: bool,
    /// Of what is attached: where it was found.
    pub found_at: Vec<String>,
    /// How many signatures it holds.
    pub signatures: usize,
    /// Of subjects: how it is judged, and in which repository.
    pub verdict: Option<(Repository, Verdict)>,
    /// What it lists.
    pub successors: Vec<Self>,
    /// What is attached to it.
    pub attached: Vec<Self>,
}

impl Node {
    fn new(descriptor: Descriptor, kind: &'static str) -> Self {
        let (successors, attached) = (Vec::new(), Vec::new());
        let (found_at, signatures, verdict) = (Vec::new(), 0, None);
        Self { descriptor, kind, held: false, left_out: false, found_at, signatures, verdict, successors, attached }
    }
}

/// Draws up the tree of what is held under a reference.
///
/// # Errors
/// Fails where it is not held, or its manifest cannot be read.
pub async fn tree(ctx: &Ctx, question: &Question) -> Result<Tree, QueryError> {
    let held = find(ctx, question).await?;
    let manifest = ctx.store.manifest(&held.digest).await?;
    let mut walk = Walk { ctx, repository: &held.repository, nodes: 0, cut: false };
    let root = walk.subject(manifest.descriptor(), manifest, 0).await?;
    let cut = walk.cut;
    Ok(Tree { held, root, cut })
}

struct Walk<'a> {
    ctx: &'a Ctx,
    repository: &'a Repository,
    nodes: usize,
    cut: bool,
}

impl Walk<'_> {
    /// Counts a node; says whether there is room for it.
    fn has_room(&mut self) -> bool {
        self.nodes += 1;
        self.cut |= self.nodes > MAX_NODES;
        !self.cut
    }

    fn subject(
        &mut self,
        descriptor: Descriptor,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'_, Result<Node, StoreError>> {
        Box::pin(async move {
            self.nodes += 1;
            let digest = manifest.digest();
            let mut node = Node::new(descriptor, kind_of(&manifest));
            node.held = true;
            node.verdict = Some((self.repository.clone(), self.ctx.verdict(self.repository, digest)));
            let row = self.ctx.store.manifest_row(self.repository, digest).await?;
            let left_out: HashSet<Digest> = row.map(|row| row.left_out.into_iter().collect()).unwrap_or_default();
            let layers_begin = usize::from(!manifest.is_index());
            for (place, successor) in manifest.successors().enumerate() {
                if !self.has_room() {
                    break;
                }
                let left_out = left_out.contains(&successor.digest);
                let child = if manifest.is_index() {
                    self.child(successor, depth).await?
                } else {
                    let kind = if place < layers_begin { "config" } else { "layer" };
                    let held = self.ctx.store.has(&successor.digest);
                    Node { held, ..Node::new(successor.clone(), kind) }
                };
                node.successors.push(Node { left_out: left_out && !child.held, ..child });
            }
            node.attached = self.attached(digest, 0).await?;
            Ok(node)
        })
    }

    /// Draws what an index lists: whole where this repository has it, as a leaf where not.
    async fn child(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Node, StoreError> {
        let digest = descriptor.digest;
        if depth < MAX_DEPTH && self.ctx.store.facts().contains(self.repository, digest) {
            let manifest = self.ctx.store.manifest(&digest).await?;
            return self.subject(descriptor.clone(), manifest, depth + 1).await;
        }
        let kind = match &descriptor.platform {
            Some(platform) if Platform::is_unknown(platform) => "attestation",
            _ if is_index(&descriptor.media_type) => "index",
            _ => "image",
        };
        Ok(Node::new(descriptor.clone(), kind))
    }

    fn attached(&mut self, subject: Digest, depth: usize) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        Box::pin(async move {
            let mut nodes: BTreeMap<(AttachedKind, Digest), Node> = BTreeMap::new();
            for one in attached_to(self.ctx, subject).await? {
                let key = (one.kind, one.row.digest);
                if let Some(node) = nodes.get_mut(&key) {
                    node.found_at.push(one.found_at);
                    continue;
                }
                if !self.has_room() {
                    break;
                }
                let mut descriptor = Descriptor::new(one.row.media_type.clone(), one.row.digest, one.row.size);
                descriptor.artifact_type.clone_from(&one.row.artifact_type);
                let mut node = Node::new(descriptor, one.kind.name());
                node.held = self.ctx.store.has(&one.row.digest);
                node.found_at.push(one.found_at);
                node.signatures = one.row.signatures.len();
                node.verdict = one.verdict.map(|verdict| (one.row.repository.clone(), verdict));
                if depth + 1 < MAX_ATTACHED_DEPTH {
                    node.attached = self.attached(one.row.digest, depth + 1).await?;
                }
                nodes.insert(key, node);
            }
            Ok(nodes.into_values().collect())
        })
    }
}

fn kind_of(manifest: &Manifest) -> &'static str {
    match manifest.artifact_type() {
        _ if manifest.is_index() => "index",
        Some(artifact_type) if !IMAGE_CONFIGS.contains(&artifact_type) => "artifact",
        Some(_) | None => "image",
    }
}
