//! Loads artifacts from what somebody carried here: a layout, or an archive of docker's, as one operation.

mod unite;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use larder_core::artifact::DigestTag;
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::verdict::Verdict;
use larder_core::{Digest, Reference, Repository, Tag};

use super::pull::{AttachedCounts, news};
use super::query::{Answer, Held, answer};
use super::{Ctx, offered};
use crate::bundle::{Contents, Image};
use crate::store::StoreError;
use crate::store::record::{Actor, Operation, OperationKind, TagMoved};
use crate::transfer::{
    LayoutSource, Plan, Selection, Sink as _, StoreSink, TransferError, copy_blobs, plan as plan_copy,
};

pub use crate::bundle::{Ask, BundleError, Carrier, Files};
pub use crate::transfer::{Moved, Progress};

/// How many names an error lists.
const MAX_NAMED: usize = 10;

/// What to load, and as what.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The repository, or with a tag the whole name, under which everything is loaded.
    pub name: Option<Reference>,
    /// Which images, by their names; none for all.
    pub references: Vec<String>,
    /// Where from, for the record.
    pub place: String,
}

/// An image that was loaded, or would be.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// What the archive calls it.
    pub entry_name: Option<String>,
    /// The media type of its manifest.
    pub media_type: &'static str,
    /// How many manifests of an index the archive lacks.
    pub left_out: usize,
    /// What is attached.
    pub attached: AttachedCounts,
    /// What the tag named before, where that was something else.
    pub replaced: Option<Digest>,
    /// How it is judged.
    pub judged: Judged,
}

/// How an image is judged.
#[derive(Clone, Debug)]
pub enum Judged {
    /// It is here.
    Held(Answer),
    /// It would be here.
    Offered(Held, Verdict),
}

/// What was loaded, or would be.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images, in the archive's order.
    pub images: Vec<LoadedImage>,
    /// What moved.
    pub moved: Moved,
    /// Manifests that moved.
    pub manifests: u32,
    /// What a person should know of the archive, as lines.
    pub notes: Vec<String>,
    /// The operation; 0 where nothing changed.
    pub seq: u64,
}

/// Says why a load failed. Nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive is not what it should be.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// It does not say what its images are called.
    #[error("{} has no name in the archive that says which repository it is of{}", .digest, tag_text(.tag.as_ref()))]
    NoName {
        /// The image.
        digest: Digest,
        /// What is known of its name.
        tag: Option<Tag>,
    },
    /// A name has a digest, or a tag that holds what is attached to digests.
    #[error("{0} is no name for what is loaded: {1}")]
    Name(Reference, &'static str),
    /// Several images would get one name.
    #[error("{reference} would name both {} and {}", .first.short(), .second.short())]
    Ambiguous {
        /// The name.
        reference: Reference,
        /// One image.
        first: Digest,
        /// Another.
        second: Digest,
    },
    /// The archive has no such image.
    #[error("{wanted:?} is not in the archive; it has {}", list(.there))]
    NotThere {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Signature images could not be united.
    #[error("{tag}: {source}")]
    Merge {
        /// The signature tag.
        tag: Tag,
        /// What is wrong with the manifest.
        source: ManifestError,
    },
    /// The copy failed.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

fn tag_text(tag: Option<&Tag>) -> String {
    tag.map_or_else(String::new, |tag| format!(", only the tag {tag}"))
}

/// Lists names for people, the first of them where there are many.
pub(super) fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl LoadError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.reason(),
            Self::NoName { .. } => "no-name",
            Self::Name(..) | Self::Ambiguous { .. } => "invalid-reference",
            Self::NotThere { .. } => "not-found",
            Self::Merge { .. } => "invalid-manifest",
            Self::Transfer(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::NoName { .. } => Some(
                "`--as REGISTRY/REPOSITORY` says it, as in --as registry.example.org/store/app; nothing was changed"
                    .to_owned(),
            ),
            Self::Name(..) => Some("as in --as registry.example.org/store/app:1.4; nothing was changed".to_owned()),
            Self::Ambiguous { .. } => Some(
                "`--ref NAME` takes one of them, by its name in the archive or its digest; nothing was changed"
                    .to_owned(),
            ),
            Self::NotThere { .. } => {
                Some("`larder load --dry-run` shows what is in it; nothing was changed".to_owned())
            }
            Self::Merge { .. } => Some("nothing was changed; `larder tree` shows what lies under this tag".to_owned()),
            Self::Transfer(TransferError::MissingRoot(_) | TransferError::NoPlatform { .. }) => {
                Some("the archive is not whole: nothing was changed; save it anew".to_owned())
            }
            Self::Transfer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// An image, what it becomes here, and all that belongs to it.
struct Loading {
    image: Image,
    repository: Repository,
    tag: Option<Tag>,
    plan: Plan,
}

impl Loading {
    fn held(&self) -> Held {
        Held { repository: self.repository.clone(), tag: self.tag.clone(), digest: self.image.digest }
    }
}

/// Loads an archive's images with everything that is attached to them.
///
/// Names are those that the archive claims, unless `options` says another; what is loaded is judged under this site's
/// trust like everything else. Bytes are verified as they pass, and nothing is visible before all of it is here.
///
/// # Errors
/// Fails where any of it is not what it should be, or has no name.
#[tracing::instrument(level = "info", skip_all, fields(place = options.place))]
pub async fn load(
    ctx: &Ctx,
    actor: Actor,
    carrier: Carrier,
    options: &LoadOptions,
    copying: &(dyn Fn(Arc<Progress>) + Send + Sync),
) -> Result<Loaded, LoadError> {
    ctx.store.check_writable()?;
    let contents = Contents::open(carrier).await?;
    let source = LayoutSource { contents: &contents };
    let mut all = prepare(&contents, &source, options).await?;
    let sink = StoreSink { store: &ctx.store };
    let progress = Arc::new(Progress::default());
    copying(Arc::clone(&progress));
    let mut blobs: Vec<_> = all.iter().flat_map(|loading| loading.plan.blobs()).collect();
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    // One at a time: the archive's files come over one stream.
    let copied = copy_blobs(&source, &sink, &blobs, &ctx.flights, 1, &progress).await;
    let moved = copied.map_err(|error| naming_the_file(&contents, error))?;
    let replaced = replaced(ctx, &all).await?;
    let (manifests, seq) = record(ctx, actor, &mut all, &options.place).await?;
    let mut images = Vec::new();
    for (loading, replaced) in all.iter().zip(replaced) {
        images.push(loaded(loading, replaced, Judged::Held(answer(ctx, loading.held()).await)));
    }
    let bytes = manifests.iter().fold(moved.bytes, |sum, manifest| sum.saturating_add(manifest.raw().len() as u64));
    Ok(Loaded {
        images,
        moved: Moved { bytes, ..moved },
        manifests: u32::try_from(manifests.len()).unwrap_or(u32::MAX),
        notes: notes(&contents, &all, options),
        seq,
    })
}

/// Takes in the manifests, whose blobs are here, and makes all of it visible at once. Returns the manifests that were not
/// here, and the operation; 0 where nothing changed.
async fn record(ctx: &Ctx, actor: Actor, all: &mut [Loading], place: &str) -> Result<(Vec<Manifest>, u64), LoadError> {
    let sink = StoreSink { store: &ctx.store };
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut added = Vec::new();
    let mut tags = Vec::new();
    // Until it is on record: whoever signs meanwhile appends to the same tags.
    let _signing = ctx.signing.lock().await;
    for loading in all.iter_mut() {
        let united = unite::signatures(ctx, &loading.repository, &mut loading.plan).await?;
        let nodes: Vec<&Manifest> = loading.plan.nodes.iter().map(|node| &node.manifest).collect();
        manifests.extend(sink.put_manifests(&nodes).await?.into_iter().cloned());
        added.extend(news(ctx, &loading.repository, &loading.plan).await?.0);
        let named = loading.tag.iter().map(|tag| (tag.clone(), loading.image.digest)).chain(united);
        for (tag, new) in named {
            if ctx.store.tag(&loading.repository, &tag).await?.is_none_or(|row| row.digest != new) {
                tags.push(TagMoved { repository: loading.repository.clone(), tag, old: None, new: Some(new) });
            }
        }
    }
    if added.is_empty() && tags.is_empty() {
        return Ok((manifests, 0));
    }
    let names: Vec<String> = all.iter().map(|loading| named(&loading.held())).collect();
    let reference = format!("{} from {place}", list(&names));
    let operation = Operation { kind: OperationKind::Load, reference, manifests: added, tags, detached: Vec::new() };
    let seq = ctx.perform(actor, operation).await?;
    Ok((manifests, seq))
}

/// Returns what a person should know of the archive: also what hangs on nothing in it.
fn notes(contents: &Contents, all: &[Loading], options: &LoadOptions) -> Vec<String> {
    let mut notes = contents.notes.clone();
    let taken: HashSet<Digest> =
        all.iter().flat_map(|loading| loading.plan.nodes.iter().map(|node| node.manifest.digest())).collect();
    let strays = contents.subjects().filter(|subject| !taken.contains(subject)).count();
    if strays > 0 && options.references.is_empty() {
        notes.push(format!("what is attached to {strays} digests that are not in the archive was left"));
    }
    notes
}

/// Says what a load would bring, and how it would be judged; keeps nothing.
///
/// # Errors
/// Fails as [`load`] does, but for blobs that are no manifests and no payloads: their bytes are not read.
pub async fn dry_run(ctx: &Ctx, carrier: Carrier, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let contents = Contents::open(carrier).await?;
    let source = LayoutSource { contents: &contents };
    let all = prepare(&contents, &source, options).await?;
    let replaced = replaced(ctx, &all).await?;
    let mut moved = Moved::default();
    let mut manifests = 0;
    let mut seen = HashSet::new();
    let mut images = Vec::new();
    for (loading, replaced) in all.iter().zip(replaced) {
        for blob in loading.plan.blobs().iter().filter(|blob| seen.insert(blob.digest)) {
            if ctx.store.has(&blob.digest) {
                moved.present = moved.present.saturating_add(blob.size);
            } else {
                let name = contents.place(&blob.digest);
                if contents.carrier().length(&name) != Some(blob.size) {
                    return Err(BundleError::Missing(name).into());
                }
                moved.blobs = moved.blobs.saturating_add(1);
                moved.bytes = moved.bytes.saturating_add(blob.size);
            }
        }
        for node in &loading.plan.nodes {
            let digest = node.manifest.digest();
            if seen.insert(digest) && !ctx.store.has(&digest) {
                manifests += 1;
                moved.bytes = moved.bytes.saturating_add(node.manifest.raw().len() as u64);
            }
        }
        let verdict = offered::judge(ctx, &loading.repository, &source, &loading.plan).await?.verdict;
        images.push(loaded(loading, replaced, Judged::Offered(loading.held(), verdict)));
    }
    Ok(Loaded { images, moved, manifests, notes: notes(&contents, &all, options), seq: 0 })
}

/// Chooses the images, decides under which names they go, and plans each.
async fn prepare(
    contents: &Contents,
    source: &LayoutSource<'_>,
    options: &LoadOptions,
) -> Result<Vec<Loading>, LoadError> {
    let chosen = choose(&contents.images, &options.references)?;
    let mut all: Vec<Loading> = Vec::new();
    let mut named: BTreeMap<(Repository, Tag), Digest> = BTreeMap::new();
    for image in chosen {
        let (repository, tag) = target(image, options.name.as_ref())?;
        if let Some(tag) = &tag
            && let Some(first) = named.insert((repository.clone(), tag.clone()), image.digest)
        {
            if first == image.digest {
                continue;
            }
            let reference = Reference::by_tag(repository, tag.clone());
            return Err(LoadError::Ambiguous { reference, first, second: image.digest });
        }
        let plan = plan_copy(source, image.digest, &Selection::Present).await?;
        all.push(Loading { image: image.clone(), repository, tag, plan });
    }
    Ok(all)
}

/// Chooses the images that are wanted: all, or those that go by these names.
fn choose<'a>(images: &'a [Image], wanted: &[String]) -> Result<Vec<&'a Image>, LoadError> {
    if wanted.is_empty() {
        return Ok(images.iter().collect());
    }
    let mut chosen: Vec<&Image> = Vec::new();
    for name in wanted {
        let before = chosen.len();
        let found: Vec<&Image> = images.iter().filter(|image| image.goes_by(name)).collect();
        chosen.extend(found.iter().filter(|image| !chosen.contains(image)).copied().collect::<Vec<_>>());
        if found.is_empty() && chosen.len() == before {
            let there = images.iter().map(|image| image.entry_name.clone().unwrap_or_else(|| image.digest.to_string()));
            return Err(LoadError::NotThere { wanted: name.clone(), there: there.collect() });
        }
    }
    Ok(chosen)
}

/// Decides under which name an image goes.
fn target(image: &Image, name: Option<&Reference>) -> Result<(Repository, Option<Tag>), LoadError> {
    let (repository, tag) = match (name, &image.reference) {
        (Some(name), _) if name.digest.is_some() => {
            return Err(LoadError::Name(name.clone(), "the digest is the image's own"));
        }
        (Some(name), _) => (name.repository.clone(), name.tag.clone().or_else(|| image.tag.clone())),
        // A name without a tag is `latest`, as everywhere; one with a digest is that digest.
        (None, Some(reference)) => (reference.repository.clone(), reference.tag_or_latest()),
        (None, None) => return Err(LoadError::NoName { digest: image.digest, tag: image.tag.clone() }),
    };
    if let Some(tag) = tag.as_ref().filter(|tag| DigestTag::is_reserved(tag)) {
        let reference = Reference::by_tag(repository, tag.clone());
        return Err(LoadError::Name(reference, "such a tag holds what is attached to a digest"));
    }
    Ok((repository, tag))
}

/// Says what each image's tag names now, where that is something else.
async fn replaced(ctx: &Ctx, all: &[Loading]) -> Result<Vec<Option<Digest>>, StoreError> {
    let mut replaced = Vec::new();
    for loading in all {
        let row = match &loading.tag {
            Some(tag) => ctx.store.tag(&loading.repository, tag).await?,
            None => None,
        };
        replaced.push(row.map(|row| row.digest).filter(|digest| *digest != loading.image.digest));
    }
    Ok(replaced)
}

fn loaded(loading: &Loading, replaced: Option<Digest>, judged: Judged) -> LoadedImage {
    LoadedImage {
        entry_name: loading.image.entry_name.clone(),
        media_type: loading.plan.root_node().map_or("", |node| node.manifest.media_type()),
        left_out: loading.plan.left_out(),
        attached: AttachedCounts::of(&loading.plan, &[]),
        replaced,
        judged,
    }
}

fn named(held: &Held) -> String {
    let Held { repository, tag, digest } = held;
    match tag {
        Some(tag) => Reference::by_tag(repository.clone(), tag.clone()).to_string(),
        None => Reference::by_digest(repository.clone(), *digest).to_string(),
    }
}

/// Names the file whose bytes are wrong: the store knows only the digest.
fn naming_the_file(contents: &Contents, error: TransferError) -> LoadError {
    match error {
        TransferError::Store(StoreError::DigestMismatch { expected, actual }) => {
            BundleError::Digest { name: contents.place(&expected), expected, actual }.into()
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str, name: Option<&str>) -> Image {
        let reference = name.filter(|name| name.contains('/')).map(|name| name.parse().expect("a reference"));
        let tag = name.and_then(|name| name.rsplit([':', '/']).next()).map(|tag| tag.parse().expect("a tag"));
        Image { digest: Digest::of(text.as_bytes()), entry_name: name.map(str::to_owned), reference, tag }
    }

    fn text(target: Result<(Repository, Option<Tag>), LoadError>) -> String {
        match target {
            Ok((repository, tag)) => format!("{repository} {}", tag.map(|tag| tag.to_string()).unwrap_or_default()),
            Err(error) => error.reason().to_owned(),
        }
    }

    #[test]
    fn names_are_the_archives_unless_another_is_said() {
        let named: Reference = "r.example.org/b".parse().expect("a name");
        let whole: Reference = "r.example.org/b:2".parse().expect("a name");
        let (full, tagged, nameless) = (image("a", Some("localhost/a:1")), image("a", Some("1")), image("a", None));
        assert_eq!(text(target(&full, None)), "localhost/a 1");
        assert_eq!(text(target(&full, Some(&named))), "r.example.org/b 1");
        assert_eq!(text(target(&full, Some(&whole))), "r.example.org/b 2");
        assert_eq!(text(target(&tagged, None)), "no-name");
        assert_eq!(text(target(&tagged, Some(&named))), "r.example.org/b 1");
        assert_eq!(text(target(&nameless, Some(&named))), "r.example.org/b ");
        let digest = Reference::by_digest(named.repository.clone(), full.digest);
        assert_eq!(text(target(&full, Some(&digest))), "invalid-reference");
        let reserved = format!("r.example.org/b:sha256-{}.sig", full.digest.hex()).parse().expect("a name");
        assert_eq!(text(target(&full, Some(&reserved))), "invalid-reference");
    }

    #[test]
    fn wanted_images_are_found_or_missed_loudly() {
        let images = [image("a", Some("localhost/a:1")), image("b", Some("localhost/b:1")), image("c", None)];
        let chosen = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            choose(&images, &wanted).map(|chosen| chosen.len()).map_err(|error| error.reason())
        };
        assert_eq!(chosen(&[]), Ok(3));
        assert_eq!(chosen(&["localhost/b:1", "localhost/b:1"]), Ok(1));
        assert_eq!(chosen(&["1"]), Ok(2));
        assert_eq!(chosen(&[&images[2].digest.to_string()]), Ok(1));
        assert_eq!(chosen(&["localhost/a:1", "2"]), Err("not-found"));
    }
}
