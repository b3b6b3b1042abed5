//! What the endpoint reads: a request for a manifest, a blob, tags or referrers, through the gate.

pub mod gate;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_core::artifact::evidence_layers;
use larder_core::digest::Algorithm;
use larder_core::manifest::Manifest;
use larder_core::verdict::{State, Verdict};
use larder_core::{Descriptor, Digest, Reference, Repository, Tag};

use super::Ctx;
use crate::config::GateMode;
use crate::store::StoreError;
use crate::store::record::ManifestAdded;
use gate::{Decision, Inline, Opener, Part, Standing};

/// The most tags that one page lists.
pub const MAX_TAGS: usize = 10_000;
/// The most referrers that one page lists.
pub const MAX_REFERRERS: usize = 500;
/// The most bytes of manifests that one page of referrers is made from: their annotations are copied.
const MAX_REFERRERS_BYTES: usize = 4 << 20;

/// How a manifest is named in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By a tag.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl Named {
    /// Returns the reference to it in `repository`.
    pub fn within(&self, repository: &Repository) -> Reference {
        match self {
            Self::Tag(tag) => Reference::by_tag(repository.clone(), tag.clone()),
            Self::Digest(digest) => Reference::by_digest(repository.clone(), *digest),
        }
    }
}

/// Something that passed the gate.
#[derive(Debug)]
pub struct Served<T> {
    /// What it is.
    pub value: T,
    /// What its reader should be told.
    pub warning: Option<String>,
}

/// A blob that may be read.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub file: tokio::fs::File,
    /// How many there are.
    pub length: u64,
}

/// A page of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// In lexical order.
    pub tags: Vec<Tag>,
    /// There are more behind them.
    pub more: bool,
}

/// A referrer as lists show it (distribution-spec, "Listing Referrers").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// What it is: media type, digest, length, artifact type, annotations.
    pub descriptor: Descriptor,
}

/// A page of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrers {
    /// In the order of their digests.
    pub referrers: Vec<Referrer>,
    /// The digest behind which the next page begins, if there is one.
    pub next: Option<Digest>,
}

/// Says why something is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The repository has no manifests.
    #[error("{0} is not held here")]
    RepositoryUnknown(Repository),
    /// There is no such manifest in the repository.
    #[error("{0} is not held here")]
    ManifestUnknown(Reference),
    /// The manifest was left out on purpose when its index was brought here.
    #[error("{0} was left out when its index was pulled; larder pull --platform all brings it")]
    LeftOut(Reference),
    /// No manifest of the repository lists the blob, or its bytes are not here.
    #[error("the blob {digest} is not held in {repository}")]
    BlobUnknown {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
    },
    /// The gate holds it back.
    #[error("{}", refusal(.subject, .verdict))]
    Refused {
        /// The subject that is not accepted.
        subject: Reference,
        /// What was judged.
        verdict: Box<Verdict>,
    },
    /// What lists the blob is attached, and is not such that it may open it.
    #[error(
        "the blob {digest} is held back: in {repository} only an attached artifact lists it, and that opens only signatures, attestations, bundles, SBOMs and reports that are no part of an image held here"
    )]
    NotEvidence {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
    },
    /// A check is missing that may still make it accepted.
    #[error("{subject} is pending ({}); ask again", reasons(.verdict))]
    Pending {
        /// The subject.
        subject: Reference,
        /// What was judged.
        verdict: Box<Verdict>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(Box<StoreError>),
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Serves a manifest by tag or digest.
///
/// # Errors
/// Fails where it is not in the repository, and where the gate holds it back.
pub async fn manifest(ctx: &Ctx, repository: &Repository, named: &Named) -> Result<Served<Manifest>, ServeError> {
    let digest = match named {
        Named::Digest(digest) => *digest,
        Named::Tag(tag) => match ctx.store.tag(repository, tag).await? {
            Some(row) => row.digest,
            None => return Err(ServeError::ManifestUnknown(named.within(repository))),
        },
    };
    let Some(row) = ctx.store.manifest_row(repository, digest).await? else {
        return Err(unknown_manifest(ctx, repository, named, digest).await?);
    };
    if !ctx.store.has(&digest) {
        return Err(ServeError::ManifestUnknown(named.within(repository)));
    }
    let verdict = ctx.verdict(repository, digest);
    // Corrupt bytes must not reach the parser, which would only say that the digest differs.
    if verdict.state == State::Corrupt {
        return Err(refused(repository, digest, verdict));
    }
    let manifest = match ctx.store.manifest(&digest).await {
        // It went to quarantine as it was read, or its file is gone: a fault of this side, and it is not held any more.
        Err(StoreError::DigestMismatch { .. } | StoreError::NotHeld { .. }) => {
            return Err(ServeError::ManifestUnknown(named.within(repository)));
        }
        read => read?,
    };
    let part = if row.subject.is_some() { Part::Subject } else { Part::Attached };
    let embedded = Embedded::of(&manifest);
    for digest in &embedded.digests {
        let verdict = ctx.verdict(repository, *digest);
        if verdict.state == State::Denied && ctx.gate != GateMode::Off {
            return Err(refused(repository, *digest, verdict));
        }
    }
    let inline = inline(ctx, &manifest, &embedded, part).await?;
    let decision = gate::manifest(ctx.gate, part, Standing::from(&verdict), inline);
    passed(decision, repository, digest, verdict, manifest)
}

/// Serves a blob.
///
/// # Errors
/// Fails where no manifest of the repository lists it, and where none of those opens it.
pub async fn blob(ctx: &Ctx, repository: &Repository, digest: Digest) -> Result<Served<Blob>, ServeError> {
    let warning = open(ctx, repository, digest).await?;
    let (file, length) = ctx.store.open_blob(&digest).await?;
    Ok(Served { value: Blob { file, length }, warning })
}

/// Passes a blob through the gate: the warning that it is served with, if any.
///
/// # Errors
/// Fails as [`blob`] does.
pub async fn open(ctx: &Ctx, repository: &Repository, digest: Digest) -> Result<Option<String>, ServeError> {
    let listed_by = ctx.store.listed_by(repository, digest).await?;
    if listed_by.is_empty() || !ctx.store.has(&digest) {
        return Err(ServeError::BlobUnknown { repository: repository.clone(), digest });
    }
    let own = ctx.verdict(repository, digest);
    let mut best: Option<(Decision, Digest, Verdict, Part)> = None;
    let mut reached = None;
    for manifest in listed_by {
        let Some(row) = ctx.store.manifest_row(repository, manifest).await? else { continue };
        let verdict = ctx.verdict(repository, manifest);
        let standing = Standing::from(&verdict);
        let (opener, part) = if row.subject.is_some() {
            (Opener::Subject(standing), Part::Subject)
        } else {
            let reached = match reached {
                Some(reached) => reached,
                None => *reached.insert(is_reached(ctx, digest).await?),
            };
            let evidence = is_evidence(ctx, &row).await?;
            (Opener::Attached { standing, evidence, reached }, Part::Attached)
        };
        let decision = gate::blob(ctx.gate, Standing::from(&own), opener);
        if best.as_ref().is_none_or(|(best, ..)| *best < decision) {
            best = Some((decision, manifest, verdict, part));
        }
        if decision == Decision::Serve {
            break;
        }
    }
    let Some((decision, manifest, verdict, part)) = best else {
        return Err(ServeError::BlobUnknown { repository: repository.clone(), digest });
    };
    if decision == Decision::Refuse && part == Part::Attached {
        return Err(ServeError::NotEvidence { repository: repository.clone(), digest });
    }
    let (named, verdict) = match own.state {
        State::Corrupt | State::Denied => (digest, own),
        _ => (manifest, verdict),
    };
    passed(decision, repository, named, verdict, ()).map(|served| served.warning)
}

/// Lists a page of tags, at most `limit`, behind `after`.
///
/// # Errors
/// Fails where the repository has no manifest at all.
pub async fn tags(
    ctx: &Ctx,
    repository: &Repository,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Tags, ServeError> {
    let limit = limit.unwrap_or(MAX_TAGS).min(MAX_TAGS);
    let mut rows = ctx.store.tags(repository, after, limit + 1).await?;
    if rows.is_empty() && !ctx.store.has_repository(repository).await? {
        return Err(ServeError::RepositoryUnknown(repository.clone()));
    }
    // A page of none is the answer to `n=0`, and nothing follows it.
    let more = limit > 0 && rows.len() > limit;
    rows.truncate(limit);
    Ok(Tags { tags: rows.into_iter().map(|(tag, _)| tag).collect(), more })
}

/// Lists a page of what refers to `subject` in the repository, behind `after`; of one artifact type, if one is asked for.
///
/// # Errors
/// Fails where the store does; a subject that is not here has referrers all the same.
pub async fn referrers(
    ctx: &Ctx,
    repository: &Repository,
    subject: Digest,
    artifact_type: Option<&str>,
    after: Option<Digest>,
) -> Result<Referrers, ServeError> {
    let attached = ctx.store.attached(subject).await?;
    let wanted = |row: &ManifestAdded| {
        row.repository == *repository
            && after.is_none_or(|after| row.digest > after)
            && artifact_type.is_none_or(|wanted| row.artifact_type.as_deref() == Some(wanted))
    };
    let digests: BTreeSet<Digest> = attached.iter().filter(|row| wanted(row)).map(|row| row.digest).collect();
    let mut page = Referrers { referrers: Vec::new(), next: None };
    let (mut bytes, mut last) = (0, None);
    for digest in digests {
        if page.referrers.len() >= MAX_REFERRERS || bytes >= MAX_REFERRERS_BYTES {
            page.next = last;
            break;
        }
        last = Some(digest);
        let standing = Standing::from(&ctx.verdict(repository, digest));
        if gate::manifest(ctx.gate, Part::Attached, standing, Inline::None) == Decision::Refuse {
            continue;
        }
        let manifest = match ctx.store.manifest(&digest).await {
            // One that is damaged or gone hides none of the others.
            Err(StoreError::DigestMismatch { .. } | StoreError::NotHeld { .. }) => continue,
            read => read?,
        };
        bytes += manifest.raw().len();
        // A signature tag makes a thing attached, its `subject` makes it a referrer.
        if manifest.subject().is_some_and(|descriptor| descriptor.digest == subject) {
            page.referrers.push(Referrer { descriptor: described(&manifest) });
        }
    }
    Ok(page)
}

fn described(manifest: &Manifest) -> Descriptor {
    let mut descriptor = manifest.descriptor();
    descriptor.artifact_type = manifest.artifact_type().filter(|text| !text.is_empty()).map(str::to_owned);
    descriptor.annotations = manifest.annotations().clone();
    descriptor
}

async fn unknown_manifest(
    ctx: &Ctx,
    repository: &Repository,
    named: &Named,
    digest: Digest,
) -> Result<ServeError, StoreError> {
    for parent in ctx.store.listed_by(repository, digest).await? {
        let row = ctx.store.manifest_row(repository, parent).await?;
        if row.is_some_and(|row| row.left_out.contains(&digest)) {
            return Ok(ServeError::LeftOut(named.within(repository)));
        }
    }
    Ok(ServeError::ManifestUnknown(named.within(repository)))
}

/// Says whether a subject that is held, in whatever repository, lists the blob; the empty `{}` belongs to nobody.
async fn is_reached(ctx: &Ctx, blob: Digest) -> Result<bool, StoreError> {
    if blob == empty() {
        return Ok(false);
    }
    for (repository, manifest) in ctx.store.listed_anywhere(blob).await? {
        let row = ctx.store.manifest_row(&repository, manifest).await?;
        if row.is_some_and(|row| row.subject.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The digest of `{}`, which stands for "no config" (image-spec, "Guidance for an Empty Descriptor").
fn empty() -> Digest {
    Digest::of(b"{}")
}

async fn is_evidence(ctx: &Ctx, row: &ManifestAdded) -> Result<bool, StoreError> {
    if row.attached.is_none() || !ctx.store.has(&row.digest) {
        return Ok(false);
    }
    Ok(evidence_layers(&ctx.store.manifest(&row.digest).await?).is_some())
}

/// The content that a manifest embeds (`data`), the empty `{}` aside.
struct Embedded {
    /// The digests that descriptors name, and those that the bytes have.
    digests: BTreeSet<Digest>,
    /// All of it has the digest that its descriptor names.
    is_whole: bool,
}

impl Embedded {
    fn of(manifest: &Manifest) -> Self {
        let mut embedded = Self { digests: BTreeSet::new(), is_whole: true };
        for descriptor in manifest.successors().chain(manifest.subject()) {
            let Some(data) = descriptor.data.as_deref().filter(|data| !is_empty_object(descriptor, data)) else {
                continue;
            };
            embedded.digests.insert(descriptor.digest);
            // Nobody verified these bytes: they may be others than their descriptor says.
            let Ok(bytes) = STANDARD.decode(data) else {
                embedded.is_whole = false;
                continue;
            };
            embedded.is_whole &= Digest::with(descriptor.digest.algorithm(), &bytes) == descriptor.digest;
            // An image may list the same bytes by another algorithm.
            embedded.digests.extend(Algorithm::ALL.map(|algorithm| Digest::with(algorithm, &bytes)));
        }
        embedded
    }
}

/// Says what content a manifest embeds; for an attached one, whether it might open it as blobs.
async fn inline(ctx: &Ctx, manifest: &Manifest, embedded: &Embedded, part: Part) -> Result<Inline, StoreError> {
    if embedded.digests.is_empty() {
        return Ok(Inline::None);
    }
    if part == Part::Subject || !embedded.is_whole || evidence_layers(manifest).is_none() {
        return Ok(Inline::Closed);
    }
    for digest in &embedded.digests {
        if is_reached(ctx, *digest).await? {
            return Ok(Inline::Closed);
        }
    }
    Ok(Inline::Open)
}

/// Says whether a descriptor embeds nothing but `{}`; its digest alone would not say so, for nobody
/// verified that the embedded bytes have it.
fn is_empty_object(descriptor: &Descriptor, data: &str) -> bool {
    descriptor.digest == empty() && data == "e30="
}

pub(super) fn passed<T>(
    decision: Decision,
    repository: &Repository,
    digest: Digest,
    verdict: Verdict,
    value: T,
) -> Result<Served<T>, ServeError> {
    match decision {
        Decision::Serve => Ok(Served { value, warning: None }),
        Decision::Warn => {
            let warning = format!("{repository}@{digest} is {} ({})", verdict.state.name(), reasons(&verdict));
            Ok(Served { value, warning: Some(warning) })
        }
        Decision::Retry => Err(ServeError::Pending {
            subject: Reference::by_digest(repository.clone(), digest),
            verdict: Box::new(verdict),
        }),
        Decision::Refuse => Err(refused(repository, digest, verdict)),
    }
}

fn refused(repository: &Repository, digest: Digest, verdict: Verdict) -> ServeError {
    ServeError::Refused { subject: Reference::by_digest(repository.clone(), digest), verdict: Box::new(verdict) }
}

fn reasons(verdict: &Verdict) -> String {
    let reasons: Vec<String> = verdict.reasons.iter().take(3).map(ToString::to_string).collect();
    if reasons.is_empty() { "no reason given".to_owned() } else { reasons.join("; ") }
}

/// Says what is refused and why, and ends in the remedy.
fn refusal(subject: &Reference, verdict: &Verdict) -> String {
    let glob = &subject.repository;
    let remedy = match verdict.state {
        State::Corrupt => format!("bring it again: larder pull {subject}"),
        State::Denied => format!("nothing rescues what is denied; see why: larder explain {subject}"),
        State::Unsigned => {
            format!(
                "accept it without a signature: larder trust allow '{glob}'; or sign it and trust the key: larder trust add KEY.pub --for '{glob}'"
            )
        }
        _ => format!(
            "trust its signer: larder trust add KEY.pub --for '{glob}'; or accept it whoever signed it: larder trust allow '{glob}'; see why: larder explain {subject}"
        ),
    };
    format!("{subject} is {} ({}): {remedy}", verdict.state.name(), reasons(verdict))
}

#[cfg(test)]
mod tests {
    use larder_core::verdict::Gate;

    use super::*;

    #[test]
    fn a_refusal_ends_in_the_remedy() {
        let subject = Reference::by_digest("docker.io/acme/app".parse().expect("repository"), Digest::of(b"x"));
        for (state, remedy) in [
            (State::Unsigned, "larder trust allow 'docker.io/acme/app'"),
            (State::Untrusted, "larder trust add KEY.pub --for 'docker.io/acme/app'"),
            (State::Revoked, "larder explain docker.io/acme/app@sha256:"),
            (State::Corrupt, "larder pull docker.io/acme/app@sha256:"),
            (State::Denied, "larder explain docker.io/acme/app@sha256:"),
        ] {
            let verdict = Verdict { state, reasons: Vec::new(), gate: Gate::Refuse };
            let text = refusal(&subject, &verdict);
            assert!(text.contains(remedy) && text.contains(state.name()), "{text}");
        }
    }

    #[test]
    fn only_the_empty_object_embeds_nothing() {
        let descriptor = |digest| Descriptor::new("application/json", digest, 2);
        assert!(is_empty_object(&descriptor(Digest::of(b"{}")), "e30="));
        assert!(!is_empty_object(&descriptor(Digest::of(b"{}")), "c2VjcmV0"));
        assert!(!is_empty_object(&descriptor(Digest::of(b"x")), "e30="));
    }
}
