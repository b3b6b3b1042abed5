//! What an artifact consists of: its manifests, what is left out, and what is attached.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use larder_core::artifact::{AttachedKind, is_foreign};
use larder_core::manifest::{MAX_DEPTH, Manifest, is_index};
use larder_core::{Descriptor, Digest, Platform};

use super::{Source, TransferError};
use crate::store::record::{AttachedTo, SubjectRole};

/// The most manifests that one artifact may consist of, indexes and children together.
const MAX_MANIFESTS: usize = 4096;
/// The most memory that the manifests of one artifact and of what is attached to it may take, in bytes: all are held until
/// it is published. A real artifact of a hundred images with a thousand signatures takes half of that.
const MAX_FOOTPRINT: usize = 20 << 20;
/// How far attached things are followed that hang on attached things (an SBOM's own signature).
const MAX_ATTACHED_DEPTH: usize = 3;
/// How many manifests and discoveries of one plan may be under way at once; the registry's own limit is beneath.
const CONCURRENCY: usize = 16;
/// BuildKit's annotation on an attestation in an index: the digest of the image that it is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// Which images of an index are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    All,
    /// Every one that the source has; at least one of each index.
    Present,
    /// Those for a platform, what names no platform, and the attestations of those.
    Platform(Platform),
    /// None: the index alone.
    RootOnly,
}

/// A manifest in a plan.
#[derive(Clone, Debug)]
pub struct Node {
    /// The manifest.
    pub manifest: Manifest,
    /// How it is a subject, if it is.
    pub subject: Option<SubjectRole>,
    /// What it is attached to, if it is.
    pub attached: Option<AttachedTo>,
    /// What was left out on purpose: children, and foreign layers.
    pub left_out: Vec<Digest>,
}

/// An artifact with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The artifact.
    pub root: Digest,
    /// Its manifests, successors before parents, and then what is attached to them.
    pub nodes: Vec<Node>,
    /// Where attached things were looked for, as lines for people.
    pub looked_at: Vec<String>,
}

impl Plan {
    /// Returns every blob that the manifests list and that is not left out, each once.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let listed = self.nodes.iter().filter(|node| !node.manifest.is_index());
        let kept =
            listed.flat_map(|node| node.manifest.successors().filter(|blob| !node.left_out.contains(&blob.digest)));
        kept.filter(|blob| seen.insert(blob.digest)).cloned().collect()
    }

    /// Returns the root's node.
    pub fn root_node(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.manifest.digest() == self.root && node.subject.is_some())
    }

    /// Returns the platforms of the images that were taken.
    pub fn platforms(&self) -> Vec<Platform> {
        let taken: HashSet<Digest> = self.nodes.iter().map(|node| node.manifest.digest()).collect();
        let children = self.nodes.iter().flat_map(|node| node.manifest.children());
        let mut platforms: Vec<Platform> = children
            .filter(|child| taken.contains(&child.digest))
            .filter_map(|child| child.platform.clone().filter(|platform| !platform.is_unknown()))
            .collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }

    /// Returns how many manifests are left out.
    pub fn left_out(&self) -> usize {
        self.nodes.iter().filter(|node| node.manifest.is_index()).map(|node| node.left_out.len()).sum()
    }
}

/// Walks an artifact: its manifests, and what is attached to each of them.
///
/// # Errors
/// Fails where a manifest is missing or malformed, where the graph passes its bounds, or where the
/// source cannot say what is attached: "could not look" is never "none".
pub async fn plan(source: &impl Source, root: Digest, selection: &Selection) -> Result<Plan, TransferError> {
    let room = Room::new(root);
    let mut walk = Walk { source, selection, root, room: &room, nodes: Vec::new(), taken: HashSet::new() };
    let manifest = source.manifest(&root).await?.ok_or(TransferError::MissingRoot(root))?;
    room.take(&manifest)?;
    walk.take(manifest, SubjectRole::Root, 0).await?;
    let mut plan = Plan { root, nodes: walk.nodes, looked_at: Vec::new() };
    attach(source, &room, &mut plan).await?;
    Ok(plan)
}

/// What is left of the memory that a plan's manifests may take. A source takes from it as manifests arrive, so that what
/// waits to be looked at counts, too.
#[derive(Debug)]
pub struct Room {
    root: Digest,
    left: AtomicUsize,
}

impl Room {
    /// Begins the plan of an artifact.
    pub(super) fn new(root: Digest) -> Self {
        Self { root, left: AtomicUsize::new(MAX_FOOTPRINT) }
    }

    /// Takes the room of a manifest.
    ///
    /// # Errors
    /// Fails where there is not as much left.
    pub fn take(&self, manifest: &Manifest) -> Result<(), TransferError> {
        let footprint = manifest.footprint();
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(footprint));
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(TransferError::ManifestsTooLarge { root: self.root, mib: MAX_FOOTPRINT >> 20 }),
        }
    }
}

struct Walk<'a, S> {
    source: &'a S,
    selection: &'a Selection,
    root: Digest,
    room: &'a Room,
    nodes: Vec<Node>,
    taken: HashSet<Digest>,
}

impl<S: Source> Walk<'_, S> {
    /// Takes a manifest and what it lists; says whether anything of it was wanted.
    fn take(
        &mut self,
        manifest: Manifest,
        role: SubjectRole,
        depth: usize,
    ) -> BoxFuture<'_, Result<bool, TransferError>> {
        Box::pin(async move {
            if depth > MAX_DEPTH {
                return Err(TransferError::TooDeep(manifest.digest()));
            }
            let foreign = manifest.layers().iter().filter(|layer| is_foreign(&layer.media_type));
            let mut left_out: Vec<Digest> = foreign.map(|layer| layer.digest).collect();
            if manifest.is_index() {
                let (kept, others) = self.select(&manifest);
                left_out.extend(others);
                let index = manifest.digest();
                let mut any = false;
                for (child, fetched) in self.fetch(index, kept).await? {
                    let Some(fetched) = fetched else {
                        left_out.push(child);
                        continue;
                    };
                    let wanted =
                        self.taken.contains(&child) || self.take(fetched, SubjectRole::Child, depth + 1).await?;
                    any |= wanted;
                    if !wanted {
                        left_out.push(child);
                    }
                }
                let may_be_empty = matches!(self.selection, Selection::RootOnly);
                if !any && !manifest.children().is_empty() && !may_be_empty {
                    if role == SubjectRole::Child {
                        return Ok(false);
                    }
                    return Err(self.no_platform(&manifest));
                }
            }
            if self.nodes.len() >= MAX_MANIFESTS {
                return Err(TransferError::TooManyManifests(self.root));
            }
            if self.taken.insert(manifest.digest()) {
                left_out.sort();
                left_out.dedup();
                self.nodes.push(Node { manifest, subject: Some(role), attached: None, left_out });
            }
            Ok(true)
        })
    }

    /// Parts an index's children into those to take and those to leave out.
    fn select(&self, index: &Manifest) -> (Vec<Descriptor>, Vec<Digest>) {
        let wanted = match self.selection {
            Selection::All | Selection::Present => return (index.children().to_vec(), Vec::new()),
            Selection::RootOnly => return (Vec::new(), index.children().iter().map(|child| child.digest).collect()),
            Selection::Platform(wanted) => wanted,
        };
        let is_attestation = |child: &Descriptor| child.platform.as_ref().is_some_and(Platform::is_unknown);
        let fits = |child: &Descriptor| match &child.platform {
            // A nested index is descended: its own children decide.
            _ if is_index(&child.media_type) => true,
            None => true,
            Some(platform) => wanted.accepts(platform),
        };
        let images: HashSet<String> = index
            .children()
            .iter()
            .filter(|child| !is_attestation(child) && fits(child))
            .map(|child| child.digest.to_string())
            .collect();
        let keep = |child: &&Descriptor| {
            if is_attestation(child) {
                child.annotations.get(REFERENCE_DIGEST).is_some_and(|about| images.contains(about))
            } else {
                fits(child)
            }
        };
        let (kept, others): (Vec<&Descriptor>, Vec<&Descriptor>) = index.children().iter().partition(keep);
        (kept.into_iter().cloned().collect(), others.into_iter().map(|child| child.digest).collect())
    }

    /// Fetches an index's children; `None` for one that the source need not have.
    async fn fetch(
        &self,
        index: Digest,
        children: Vec<Descriptor>,
    ) -> Result<Vec<(Digest, Option<Manifest>)>, TransferError> {
        if self.nodes.len() + children.len() > MAX_MANIFESTS {
            return Err(TransferError::TooManyManifests(self.root));
        }
        let (source, room, may_lack) = (self.source, self.room, *self.selection == Selection::Present);
        stream::iter(children)
            .map(|child| async move {
                let digest = child.digest;
                let found = source.manifest(&digest).await?;
                match &found {
                    Some(manifest) => room.take(manifest)?,
                    None if may_lack => {}
                    None => return Err(TransferError::MissingChild { digest, index }),
                }
                Ok((digest, found))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    fn no_platform(&self, index: &Manifest) -> TransferError {
        let offered = index.children().iter().filter_map(|child| child.platform.clone());
        let wanted = match self.selection {
            Selection::Platform(platform) => platform.clone(),
            Selection::All | Selection::Present | Selection::RootOnly => {
                Platform { os: "any".into(), architecture: "any".into(), variant: None }
            }
        };
        TransferError::NoPlatform {
            index: index.digest(),
            wanted,
            offered: offered.filter(|platform| !platform.is_unknown()).collect(),
        }
    }
}

/// Adds what is attached to the plan's subjects, and to SBOMs and other artifacts among that.
async fn attach(source: &impl Source, room: &Room, plan: &mut Plan) -> Result<(), TransferError> {
    let mut known: BTreeMap<(Digest, Digest), ()> = BTreeMap::new();
    let mut looked_for: HashSet<Digest> = HashSet::new();
    let mut wave: Vec<Digest> = plan.nodes.iter().map(|node| node.manifest.digest()).collect();
    for _ in 0..MAX_ATTACHED_DEPTH {
        wave.retain(|subject| looked_for.insert(*subject));
        let found: Vec<_> = stream::iter(std::mem::take(&mut wave))
            .map(|subject| async move { Ok::<_, TransferError>((subject, source.attached(&subject, room).await?)) })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        for (subject, list) in found {
            if plan.looked_at.is_empty() || subject == plan.root {
                plan.looked_at.extend(list.looked_at);
            }
            for one in list.found {
                let digest = one.manifest.digest();
                if one.manifest.is_index() {
                    plan.looked_at.push(format!("{}: an index, which holds nothing itself", digest.short()));
                    continue;
                }
                if known.insert((subject, digest), ()).is_some() {
                    continue;
                }
                if plan.nodes.len() >= 2 * MAX_MANIFESTS {
                    return Err(TransferError::TooManyManifests(plan.root));
                }
                let kind = AttachedKind::of(&one.manifest);
                if matches!(kind, AttachedKind::Sbom | AttachedKind::Other) {
                    wave.push(digest);
                }
                let attached = Some(AttachedTo { subject, kind, tag: one.tag });
                plan.nodes.push(Node { manifest: one.manifest, subject: None, attached, left_out: Vec::new() });
            }
        }
    }
    Ok(())
}
