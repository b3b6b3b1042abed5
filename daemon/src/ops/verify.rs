//! Judges a reference and returns the signatures that count.

use bytes::Bytes;
use larder_core::judge::support;
use larder_core::key::AnchorId;
use larder_core::policy::TrustView;
use larder_core::verdict::Verdict;
use larder_core::{Digest, Reference, Tag};

use super::Ctx;
use super::checks::read_signature;
use super::offered;
use super::pull::PullError;
use super::query::{Held, QueryError, Question, find};
use crate::remote::{Access, Look};
use crate::store::StoreError;
use crate::transfer::{RemoteSource, Selection, TransferError, plan};

/// A verification.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was verified.
    pub subject: Held,
    /// Whether it is held, or was judged from what its registry offers.
    pub held: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// The signatures that the acceptance rests on.
    pub signatures: Vec<VerifiedSignature>,
    /// The checks that really ran, as lines for people.
    pub checks: Vec<String>,
    /// Where signatures were looked for; empty for what is held.
    pub looked_at: Vec<String>,
}

/// A signature that an acceptance rests on.
#[derive(Clone, Debug)]
pub struct VerifiedSignature {
    /// The signed bytes.
    pub payload: Bytes,
    /// The name of the key.
    pub key: String,
    /// The key.
    pub anchor: AnchorId,
    /// Where the signature was found.
    pub found_at: String,
}

/// Says why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not held, and cannot be asked for.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// Its registry could not say.
    #[error("{0}")]
    Pull(#[from] PullError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl VerifyError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Query(error) => error.reason(),
            Self::Pull(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Query(error) => error.hint(),
            Self::Pull(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Verifies what is held; of what is not, fetches manifests and signatures, judges them, and keeps nothing.
///
/// # Errors
/// Fails where it is neither held nor to be had.
#[tracing::instrument(level = "info", skip_all, fields(%question))]
pub async fn verify(ctx: &Ctx, question: &Question) -> Result<Verified, VerifyError> {
    match (find(ctx, question).await, question) {
        (Ok(subject), _) => Ok(verify_held(ctx, subject).await?),
        (Err(QueryError::NotHeld(_)), Question::Of(reference)) if !reference.repository.is_local() => {
            Ok(verify_offered(ctx, reference).await?)
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn verify_held(ctx: &Ctx, subject: Held) -> Result<Verified, StoreError> {
    let (view, now) = (ctx.view(), ctx.clock.now());
    let verdict = ctx.verdict(&subject.repository, subject.digest);
    let supports = {
        let facts = ctx.store.facts();
        let supports = support(&facts, &view, &subject.repository, subject.digest, now);
        supports.into_iter().filter_map(|one| Some((facts.signature(one.signature)?, one))).collect::<Vec<_>>()
    };
    let mut signatures = Vec::new();
    for (row, one) in supports {
        if let Some(found) = read_signature(&ctx.store, &row).await? {
            signatures.push(VerifiedSignature {
                payload: found.payload,
                key: one.key,
                anchor: one.anchor,
                found_at: format!("{}@{}", subject.repository, row.manifest),
            });
        }
    }
    let checks = checks_of(&view, &verdict, subject.digest, &signatures, true);
    Ok(Verified { subject, held: true, verdict, signatures, checks, looked_at: Vec::new() })
}

async fn verify_offered(ctx: &Ctx, reference: &Reference) -> Result<Verified, PullError> {
    let look = Look::new(ctx.remotes.repository(&reference.repository, Access::Pull)?, 1);
    let tag = reference.tag_or_latest();
    let (digest, root) = match (reference.digest, &tag) {
        (Some(digest), _) => (digest, None),
        (None, tag) => {
            let tag = tag.clone().unwrap_or_else(Tag::latest);
            let there = look.resolve(&tag, false).await?;
            let there = there.ok_or_else(|| PullError::NotThere { reference: reference.clone(), what: "tag" })?;
            (there.digest, there.manifest)
        }
    };
    let source = RemoteSource { name: &reference.repository, look: &look, store: &ctx.store, root };
    let planned = plan(&source, digest, &Selection::RootOnly).await.map_err(|error| match error {
        TransferError::MissingRoot(_) => PullError::NotThere { reference: reference.clone(), what: "manifest" },
        error => error.into(),
    })?;
    let judged = offered::judge(ctx, &reference.repository, &source, &planned).await?;
    let signatures: Vec<VerifiedSignature> = judged
        .support
        .iter()
        .filter_map(|one| {
            let (found, manifest) = judged.found.get(&one.signature)?;
            Some(VerifiedSignature {
                payload: found.payload.clone(),
                key: one.key.clone(),
                anchor: one.anchor,
                found_at: format!("{}@{manifest}", reference.repository),
            })
        })
        .collect();
    let subject = Held { repository: reference.repository.clone(), tag, digest };
    let checks = checks_of(&ctx.view(), &judged.verdict, digest, &signatures, false);
    let looked_at = planned.looked_at;
    Ok(Verified { subject, held: false, verdict: judged.verdict, signatures, checks, looked_at })
}

/// Says what was really checked, as cosign says it.
fn checks_of(
    view: &TrustView,
    verdict: &Verdict,
    digest: Digest,
    signatures: &[VerifiedSignature],
    held: bool,
) -> Vec<String> {
    let mut checks = Vec::new();
    if !signatures.is_empty() {
        checks.push(format!("the payload names a digest: {}, or an index that lists it", digest.short()));
        let by_key = |one: &VerifiedSignature| view.sets().any(|set| set.anchor(&one.anchor).is_some());
        // What is said is said of each of them.
        checks.push(match (signatures.iter().all(by_key), signatures.iter().any(by_key)) {
            (true, _) => "the signature was made by a key of the trust folder".to_owned(),
            (false, true) => "the signature was made by a key or an identity that the trust folder asks for".to_owned(),
            (false, false) => {
                "the signature was made by an identity that a policy asks for, under a trusted root".to_owned()
            }
        });
    }
    if verdict.state.is_accepted() {
        checks.push("every policy that matches the repository holds".to_owned());
    }
    if held {
        checks.push("the manifest is held here under its digest".to_owned());
    }
    checks
}
