//! Lists and edits the trust folder, and says what an edit changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::judge::judge_view;
use larder_core::key::{AnchorId, PublicKey};
use larder_core::policy::{TrustSet, TrustView};
use larder_core::verdict::{Reason, State};
use larder_core::{Digest, Repository, Tag};

use super::{Ctx, checks};
use crate::trust::edit::{Edit, EditError, Replace};
use crate::trust::{Condition, InForceError, Published};

/// The most changes that an effect lists.
const MAX_CHANGES: usize = 1000;

/// Whether an edit is made, or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is made.
    Apply,
    /// What it would change is said, and nothing is changed.
    DryRun,
}

/// What an edit changes, or would.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// All subjects that are held.
    pub subjects: u64,
    /// How many change.
    pub changed: u64,
    /// Counts by from and to.
    pub transitions: BTreeMap<(State, State), u64>,
    /// The first of them.
    pub changes: Vec<Change>,
    /// Whether the edit was made.
    pub applied: bool,
}

/// One subject that changes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its repository.
    pub repository: Repository,
    /// Its digest.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its state before.
    pub from: State,
    /// Its state after.
    pub to: State,
    /// Why it is in that.
    pub reasons: Vec<Reason>,
}

/// What came of an edit.
#[derive(Clone, Debug)]
pub struct Edited {
    /// The name of the key or policy.
    pub name: String,
    /// Nothing was to be done.
    pub unchanged: bool,
    /// What it changes.
    pub effect: Effect,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// Says why an edit was not made, or is not in force.
#[derive(Debug, thiserror::Error)]
pub enum TrustEditError {
    /// It cannot be made; nothing was changed.
    #[error("{0}")]
    Edit(#[from] EditError),
    /// It was written, and is not in force.
    #[error("{0}")]
    NotInForce(#[from] InForceError),
    /// Something that is rejected would become accepted, and nobody said yes to that.
    #[error("{0} subjects that are revoked or untrusted would become accepted; nothing was changed")]
    NeedsConsent(u64),
}

impl TrustEditError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Edit(error) => error.reason(),
            Self::NotInForce(error) => error.reason(),
            Self::NeedsConsent(_) => "needs-consent",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Edit(error) => error.hint(),
            Self::NotInForce(error) => error.hint(),
            Self::NeedsConsent(_) => Some("`--dry-run` lists them, `--yes` accepts them".to_owned()),
        }
    }
}

/// What the folder holds, as far as it can be read.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What can be read now.
    pub set: Arc<TrustSet>,
    /// What is odd and harmless: path and message.
    pub warnings: Vec<(String, String)>,
    /// How the folder is.
    pub published: Published,
    /// How many signatures that are held are valid under each key.
    pub signatures: BTreeMap<AnchorId, u64>,
}

/// Lists what the folder holds.
pub async fn list(ctx: &Ctx) -> Listed {
    let contents = ctx.trust.current().await;
    let mut published = ctx.trust.published().borrow().clone();
    // The watcher may not have seen yet what lies there by now: "settled" is said of what is listed, and in force.
    if published.condition == Condition::Settled && contents.files != ctx.trust.files_in_force() {
        published.condition = Condition::Unsettled;
    }
    let signatures = {
        let facts = ctx.store.facts();
        let anchors = contents.reading.set.anchors();
        anchors.iter().map(PublicKey::id).map(|anchor| (anchor, facts.valid_under(anchor))).collect()
    };
    let set = Arc::clone(&contents.reading.set);
    Listed { set, warnings: contents.reading.warnings.clone(), published, signatures }
}

/// Counts the keys and policies of what is in force.
pub fn counts(view: &TrustView) -> (usize, usize) {
    match view {
        TrustView::Starting => (0, 0),
        TrustView::Settled(set) | TrustView::Missing { settled: set } | TrustView::Disturbed { settled: set, .. } => {
            (set.keys.len(), set.policies.len())
        }
    }
}

/// Puts a key into the folder.
///
/// # Errors
/// Fails where the name holds another key, or the folder is faulty; what was written stays then.
pub async fn add_key(
    ctx: &Ctx,
    name: Option<&str>,
    pem: &[u8],
    globs: &[String],
    mode: Mode,
) -> Result<Edited, TrustEditError> {
    let contents = ctx.trust.current().await;
    let edit = Edit::add_key(&contents, name, pem, globs)?;
    let mut edited = perform(ctx, &edit, mode, Consent::NotAsked).await?;
    let after = ctx.trust.read(&edit.preview(&contents.files)).set;
    edited.warnings = idle(ctx, &after, edit.name());
    Ok(edited)
}

/// Removes a key's files.
///
/// # Errors
/// Fails where there is no such key, or the folder is faulty; what was removed stays removed then.
pub async fn remove_key(ctx: &Ctx, name: &str, mode: Mode) -> Result<Edited, TrustEditError> {
    let contents = ctx.trust.current().await;
    let edit = Edit::remove_key(&contents, name)?;
    perform(ctx, &edit, mode, Consent::NotAsked).await
}

/// Puts a trusted root into the folder.
///
/// # Errors
/// Fails where the name holds another root that is not to be replaced, or the folder is faulty; what was written stays then.
pub async fn add_root(ctx: &Ctx, name: &str, root: &NewRoot, mode: Mode) -> Result<Edited, TrustEditError> {
    let contents = ctx.trust.current().await;
    let NewRoot { json, as_of, replace } = root;
    let edit = Edit::add_root(&contents, name, json, *as_of, *replace, ctx.clock.now())?;
    let mut edited = perform(ctx, &edit, mode, Consent::NotAsked).await?;
    let after = ctx.trust.read(&edit.preview(&contents.files)).set;
    edited.warnings = of_root(&after, name, ctx.clock.now());
    Ok(edited)
}

/// A root that is to be put into the folder.
#[derive(Clone, Debug)]
pub struct NewRoot {
    /// The file.
    pub json: Bytes,
    /// When it was last known to be the current one.
    pub as_of: Option<Timestamp>,
    /// Whether it may take the place of another one.
    pub replace: Replace,
}

/// Removes a trusted root's files.
///
/// # Errors
/// Fails where there is no such root, or the folder is faulty; what was removed stays removed then.
pub async fn remove_root(ctx: &Ctx, name: &str, mode: Mode) -> Result<Edited, TrustEditError> {
    let contents = ctx.trust.current().await;
    let edit = Edit::remove_root(&contents, name)?;
    perform(ctx, &edit, mode, Consent::NotAsked).await
}

/// Says what is odd about a root that was added.
fn of_root(set: &TrustSet, name: &str, now: Timestamp) -> Vec<String> {
    let Some(root) = set.roots.get(name) else { return Vec::new() };
    let mut warnings = Vec::new();
    if set.root_end(root).is_over(now) {
        warnings.push(format!(
            "the root {name} is older than root_max_age_days lets it be, so nothing that leans on it is accepted"
        ));
    }
    if !set.asks_for_roots() {
        warnings.push("no policy asks for identities yet, so this root accepts nothing".to_owned());
    }
    warnings
}

/// Whether somebody has to say yes, and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nobody has to.
    NotAsked,
    /// Somebody has to and has not.
    Missing,
    /// Somebody has.
    Given,
}

/// Writes a policy that accepts what a glob matches, signed or not.
///
/// # Errors
/// Fails where a revoked or untrusted subject would become accepted and nobody consented to that.
pub async fn allow(ctx: &Ctx, glob: &str, mode: Mode, consent: Consent) -> Result<Edited, TrustEditError> {
    let contents = ctx.trust.current().await;
    let edit = Edit::allow(&contents, glob)?;
    perform(ctx, &edit, mode, consent).await
}

async fn perform(ctx: &Ctx, edit: &Edit, mode: Mode, consent: Consent) -> Result<Edited, TrustEditError> {
    let mut effect = effect(ctx, edit).await;
    let rescued: u64 = effect
        .transitions
        .iter()
        .filter(|((from, to), _)| matches!(from, State::Revoked | State::Untrusted) && to.is_accepted())
        .map(|(_, count)| count)
        .sum();
    if mode == Mode::Apply && consent == Consent::Missing && rescued > 0 {
        return Err(TrustEditError::NeedsConsent(rescued));
    }
    if mode == Mode::Apply {
        ctx.trust.apply(edit).await?;
        ctx.trust.await_in_force(edit).await?;
        effect.applied = true;
    }
    Ok(Edited { name: edit.name().to_owned(), unchanged: edit.is_unchanged(), effect, warnings: Vec::new() })
}

/// Judges every subject before and after an edit. Checks that it would make missing are computed: they are facts, whatever is trusted.
async fn effect(ctx: &Ctx, edit: &Edit) -> Effect {
    let after = ctx.trust.read(&edit.preview(&ctx.trust.files_in_force())).set;
    checks::compute_all(ctx, &after.check_anchors()).await;
    let judging = ctx.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let (before, after) = (judging.view(), TrustView::Settled(after));
        let now = judging.clock.now();
        let facts = judging.store.facts();
        let mut effect = Effect { subjects: facts.len() as u64, ..Effect::default() };
        let mut changes = Vec::new();
        for (repository, digest) in facts.subjects() {
            let from = judge_view(&facts, &before, repository, digest, now).state;
            let to = judge_view(&facts, &after, repository, digest, now);
            if from == to.state {
                continue;
            }
            effect.changed += 1;
            *effect.transitions.entry((from, to.state)).or_default() += 1;
            changes.push((repository.clone(), digest, from, to));
        }
        (effect, changes)
    });
    // The blocking pool refuses only while the daemon stops.
    let Ok((mut effect, mut changes)) = judged.await else { return Effect::default() };
    changes.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for (repository, digest, from, to) in changes.into_iter().take(MAX_CHANGES) {
        let tags = ctx.store.tags_of(&repository, digest).await.unwrap_or_default();
        effect.changes.push(Change { repository, digest, tags, from, to: to.state, reasons: to.reasons });
    }
    effect
}

/// Says where policies leave a key idle.
fn idle(ctx: &Ctx, set: &TrustSet, name: &str) -> Vec<String> {
    let Some(key) = set.keys.get(name) else { return Vec::new() };
    let mut warnings = Vec::new();
    let naming = set.policies_naming(name);
    if !naming.is_empty() {
        warnings.push(format!("the key counts only through the policies that name it: {}", naming.join(", ")));
        return warnings;
    }
    let facts = ctx.store.facts();
    for (policy, is) in &set.policies {
        let covered = is.globs.iter().any(|glob| {
            glob.as_str() == "**"
                || facts.subjects().any(|(repository, digest)| {
                    glob.matches(repository, &digest)
                        && (key.scope.is_empty() || key.scope.iter().any(|scope| scope.matches(repository, &digest)))
                })
        });
        if covered {
            warnings.push(format!(
                "the policy {policy} decides for what it matches and does not name this key, which is idle there"
            ));
        }
    }
    warnings
}
