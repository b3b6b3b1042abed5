//! Holds an artifact's signatures against what one caller asks for, beside all stored trust.

use std::collections::HashSet;
use std::sync::Arc;

use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::asked::{Asked, Held as Matched, said};
use larder_core::keyless::{Check, Finding};
use larder_core::signature::found::{self, Beside};
use larder_core::signature::{FoundSignature, SignatureId};
use larder_core::{Digest, Reference, Tag};

use super::Ctx;
use super::checks::read_signature;
use super::offered::small;
use super::pull::PullError;
use super::query::{Held, QueryError, Question, find};
use super::verify::VerifyError;
use crate::remote::{Access, Look};
use crate::store::StoreError;
use crate::transfer::{RemoteSource, Selection, TransferError, plan};

/// The most refused signatures that are named.
const MAX_REFUSED: usize = 100;

/// Whose signatures are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those of what is named.
    Image,
    /// Those of the SBOM that is attached to it under `sha256-<hex>.sbom`.
    AttachedSbom,
}

/// What came of it.
#[derive(Debug)]
pub struct Answered {
    /// What was looked at.
    pub subject: Held,
    /// Whether it is held, or its registry was asked.
    pub held: bool,
    /// The signatures that are as asked for.
    pub accepted: Vec<Accepted>,
    /// The first of the others, and why not.
    pub refused: Vec<Refused>,
    /// How many others there are.
    pub refused_total: u32,
    /// How many were found that say something else than is asked for.
    pub others: u32,
    /// Where signatures were looked for; empty for what is held.
    pub looked_at: Vec<String>,
}

/// A signature that is as asked for.
#[derive(Debug)]
pub struct Accepted {
    /// The signature.
    pub found: FoundSignature,
    /// What was checked.
    pub matched: Matched,
    /// What it says beside the digest.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Where it was found.
    pub found_at: String,
}

/// A signature that is not.
#[derive(Debug)]
pub struct Refused {
    /// Its format.
    pub format: &'static str,
    /// Where it was found.
    pub found_at: String,
    /// The first check that failed.
    pub finding: Finding,
}

/// The signatures of one digest as they are gone through.
struct Trial<'a> {
    ctx: &'a Ctx,
    asked: Arc<Asked>,
    digest: Digest,
    seen: HashSet<SignatureId>,
    answered: Answered,
}

/// Goes through every signature of what is held; of what is not, fetches manifests and signatures, and keeps nothing.
///
/// # Errors
/// Fails where it is neither held nor to be had.
#[tracing::instrument(level = "info", skip_all, fields(%question))]
pub async fn verify(ctx: &Ctx, question: &Question, of: Of, asked: Asked) -> Result<Answered, VerifyError> {
    match (find(ctx, question).await, question) {
        (Ok(subject), _) => held(ctx, subject, of, asked).await,
        (Err(QueryError::NotHeld(_)), Question::Of(reference)) if !reference.repository.is_local() => {
            Ok(offered(ctx, reference, of, asked).await?)
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn held(ctx: &Ctx, mut subject: Held, of: Of, asked: Asked) -> Result<Answered, VerifyError> {
    if of == Of::AttachedSbom {
        let tag = sbom_tag(subject.digest);
        let row = match &tag {
            Some(tag) => ctx.store.tag(&subject.repository, tag).await?,
            None => None,
        };
        let none = || QueryError::NotHeld(format!("the SBOM of {}@{}", subject.repository, subject.digest));
        subject.digest = row.ok_or_else(none)?.digest;
        subject.tag = tag;
    }
    let mut trial = Trial::new(ctx, asked, subject, true);
    trial.known().await?;
    Ok(trial.answered)
}

fn sbom_tag(digest: Digest) -> Option<Tag> {
    DigestTag { digest, suffix: TagSuffix::Sbom }.tag()
}

async fn offered(ctx: &Ctx, reference: &Reference, of: Of, asked: Asked) -> Result<Answered, PullError> {
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
    let (tag, digest, root) = match (of, sbom_tag(digest)) {
        (Of::Image, _) => (tag, digest, root),
        (Of::AttachedSbom, Some(tag)) => {
            let there = look.resolve(&tag, false).await?;
            let there = there.ok_or_else(|| PullError::NotThere { reference: reference.clone(), what: "SBOM" })?;
            (Some(tag), there.digest, there.manifest)
        }
        (Of::AttachedSbom, None) => return Err(PullError::NotThere { reference: reference.clone(), what: "SBOM" }),
    };
    let source = RemoteSource { name: &reference.repository, look: &look, store: &ctx.store, root };
    let planned = plan(&source, digest, &Selection::RootOnly).await.map_err(|error| match error {
        TransferError::MissingRoot(_) => PullError::NotThere { reference: reference.clone(), what: "manifest" },
        error => error.into(),
    })?;
    let subject = Held { repository: reference.repository.clone(), tag, digest };
    let mut trial = Trial::new(ctx, asked, subject, false);
    for node in &planned.nodes {
        let Some(attached) = node.attached.as_ref().filter(|attached| attached.subject == digest) else { continue };
        let found_at = match &attached.tag {
            Some(tag) => format!("{}:{tag}", reference.repository),
            None => format!("{}@{}", reference.repository, node.manifest.digest()),
        };
        for layer in found::layers(&node.manifest) {
            let bytes = match layer.is_read() {
                true => Some(small(&source, layer.descriptor).await?),
                false => None,
            };
            trial.take(layer.read(bytes), &found_at).await?;
        }
        trial.take(found::bare(&node.manifest).into_iter().collect(), &found_at).await?;
    }
    trial.known().await?;
    trial.answered.looked_at = planned.looked_at;
    Ok(trial.answered)
}

impl<'a> Trial<'a> {
    fn new(ctx: &'a Ctx, asked: Asked, subject: Held, held: bool) -> Self {
        let digest = subject.digest;
        let answered = Answered {
            subject,
            held,
            accepted: Vec::new(),
            refused: Vec::new(),
            refused_total: 0,
            others: 0,
            looked_at: Vec::new(),
        };
        Self { ctx, asked: Arc::new(asked), digest, seen: HashSet::new(), answered }
    }

    /// Goes through what is known here of the digest, in any repository.
    async fn known(&mut self) -> Result<(), StoreError> {
        let rows: Vec<_> = {
            let facts = self.ctx.store.facts();
            let ids = facts.signatures_of(self.digest);
            let rows = ids.into_iter().filter_map(|id| {
                let (repository, _) = facts.found_at(id).into_iter().next()?;
                Some((facts.signature(id)?, repository))
            });
            rows.collect()
        };
        for (row, repository) in rows {
            if self.seen.contains(&row.id) {
                continue;
            }
            if let Some(found) = read_signature(&self.ctx.store, &row).await? {
                self.take(vec![found], &format!("{repository}@{}", row.manifest)).await?;
            }
        }
        Ok(())
    }

    /// Takes what one layer holds: one signature, as often as it names digests.
    async fn take(&mut self, rows: Vec<FoundSignature>, found_at: &str) -> Result<(), StoreError> {
        // The row about this digest says all; where none is, the first says that it is about another.
        let about = rows.iter().position(|row| row.names == Some(self.digest)).unwrap_or(0);
        let Some(found) = rows.into_iter().nth(about).filter(|found| self.seen.insert(found.id)) else {
            return Ok(());
        };
        if !self.asked.concerns(&found) {
            self.answered.others += 1;
            return Ok(());
        }
        let (asked, digest, format) = (Arc::clone(&self.asked), self.digest, found.format.name());
        let tried = move || match asked.holds(&found, digest) {
            Ok(matched) => Ok((found, matched)),
            Err(finding) => Err(finding),
        };
        match self.ctx.checks.run(tried).await.ok_or(StoreError::Stopping)? {
            Ok((found, matched)) => {
                let annotations = said(&found, digest);
                let found_at = found_at.to_owned();
                self.answered.accepted.push(Accepted { found, matched, annotations, found_at });
            }
            Err(finding) => {
                self.answered.refused_total += 1;
                if self.answered.refused.len() < MAX_REFUSED {
                    self.answered.refused.push(Refused { format, found_at: found_at.to_owned(), finding });
                }
            }
        }
        Ok(())
    }
}

impl Accepted {
    /// Returns the names of the checks that ran.
    pub fn checks(&self, asked_annotations: bool) -> Vec<&'static str> {
        let Matched { key, certificate, accepted, names_digest, broken: _ } = &self.matched;
        let is_keyless = key.is_none() && certificate.is_some();
        let ran = [
            (true, Check::Signature.name()),
            (*names_digest, "digest"),
            (asked_annotations, "annotations"),
            (!accepted.entries.is_empty(), Check::LogEntry.name()),
            (!accepted.timestamps.is_empty(), Check::Timestamp.name()),
            (accepted.chain.is_some(), Check::CertificateChain.name()),
            (accepted.sct, Check::Sct.name()),
            (is_keyless, Check::Identity.name()),
        ];
        ran.into_iter().filter(|(ran, _)| *ran).map(|(_, name)| name).collect()
    }

    /// Returns a classic layer's log entry and timestamp as they are written, where they were checked.
    pub fn written(&self) -> (String, String) {
        let Beside::Annotations(annotations) = &self.found.beside else { return Default::default() };
        let keep = |checked: bool, text: &String| if checked { text.clone() } else { String::new() };
        let accepted = &self.matched.accepted;
        (
            keep(!accepted.entries.is_empty(), &annotations.log_entry),
            keep(!accepted.timestamps.is_empty(), &annotations.timestamp),
        )
    }
}
