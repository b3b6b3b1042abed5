//! What a set of trust says of each key: names, scope and life, united over all files that hold it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{AuthorityKind, Deny, KeyFile, Policy};
use crate::digest::Digest;
use crate::glob::Glob;
use crate::key::{AnchorId, PublicKey};
use crate::reference::Repository;

/// What is known of one key, by the hash of its SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The key.
    pub key: PublicKey,
    /// Its names: files first, then the authorities that it is written into.
    pub names: Vec<String>,
    /// Its files, each with whether a policy names it.
    pub files: Vec<(String, Named)>,
    /// How long it counts.
    pub life: Life,
    /// What all its files are for: what confines it inside policies.
    pub scope: Scope,
    /// What those of its files are for that stand by themselves.
    pub alone: Scope,
}

/// Whether a policy names a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It counts only through policies.
    ByPolicy,
    /// It stands by itself.
    ByNone,
}

/// Which repositories a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those that any of the globs matches; none where there is no glob.
    Globs(BTreeSet<Glob>),
}

impl Scope {
    fn none() -> Self {
        Self::Globs(BTreeSet::new())
    }

    /// Adds what one file is for; no globs mean all.
    fn unite(&mut self, globs: &[Glob]) {
        match self {
            Self::All => {}
            Self::Globs(_) if globs.is_empty() => *self = Self::All,
            Self::Globs(united) => united.extend(globs.iter().cloned()),
        }
    }

    /// Says whether an image is among them.
    pub fn contains(&self, repository: &Repository, digest: &Digest) -> bool {
        match self {
            Self::All => true,
            Self::Globs(globs) => globs.iter().any(|glob| glob.matches(repository, digest)),
        }
    }
}

/// How long a key counts: the strictest of what its files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// From when on, this instant included.
    pub valid_from: Option<Timestamp>,
    /// Until when, this instant excluded.
    pub valid_until: Option<Timestamp>,
    /// Why it is revoked, retired or denied.
    pub revoked: Option<String>,
    /// What of it counts no more.
    pub ends: Ends,
}

/// From when on what a key signed counts no more; the default is a key in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// `retired.at`: what was proven, or first seen here, before counts.
    pub retired: Option<Timestamp>,
    /// `revoked.since`: what was proven before counts.
    pub revoked: Option<Timestamp>,
    /// Revoked, retired or denied without a time: nothing counts.
    pub for_ever: bool,
}

impl Ends {
    /// Returns the instant before which a signature must have been made, if the key has such an end and no worse one.
    pub fn before(&self) -> Option<Timestamp> {
        let ends = [self.retired, self.revoked].into_iter().flatten().min();
        ends.filter(|_| !self.for_ever)
    }

    /// Takes the stricter of both.
    fn tighten(&mut self, other: Self) {
        let earlier = |one: Option<Timestamp>, other| [one, other].into_iter().flatten().min();
        self.retired = earlier(self.retired, other.retired);
        self.revoked = earlier(self.revoked, other.revoked);
        self.for_ever |= other.for_ever;
    }
}

/// Whether a key counts at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Usable,
    /// Only what it signed before its end counts.
    Ended,
    /// It is revoked, retired or denied.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
}

impl Life {
    /// Says whether the key counts at `now`, whenever its signatures were made.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.ends.for_ever {
            Standing::Revoked
        } else if self.valid_until.is_some_and(|end| now >= end) {
            Standing::Expired
        } else if self.valid_from.is_some_and(|start| now < start) {
            Standing::NotYetValid
        } else if self.ends.before().is_some() {
            Standing::Ended
        } else {
            Standing::Usable
        }
    }

    fn tighten(&mut self, file: &KeyFile) {
        // `None < Some(_)`, so `max` is the later start; the earlier end has to skip the `None`s.
        self.valid_from = self.valid_from.max(file.valid_from);
        self.valid_until = [self.valid_until, file.valid_until].into_iter().flatten().min();
        // The words of what is worse.
        if self.revoked.is_none() || (file.ends.for_ever && !self.ends.for_ever) {
            self.revoked.clone_from(&file.revoked);
        }
        self.ends.tighten(file.ends);
    }
}

/// Derives what follows for each key.
pub(super) fn derive(
    keys: &BTreeMap<String, KeyFile>,
    policies: &BTreeMap<String, Policy>,
    deny: &Deny,
) -> BTreeMap<AnchorId, Anchor> {
    let authorities = || policies.iter().flat_map(|(name, policy)| policy.authorities.iter().map(move |a| (name, a)));
    // A policy that holds for nobody still confines the keys that it names: confining is the stricter reading.
    let named: BTreeSet<&str> = authorities()
        .filter_map(|(_, authority)| match &authority.kind {
            AuthorityKind::KeyFile { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut anchors = BTreeMap::new();
    for (name, file) in keys {
        let anchor = anchors.entry(file.key.id()).or_insert_with(|| Anchor::new(&file.key));
        anchor.names.push(name.clone());
        anchor.scope.unite(&file.scope);
        anchor.life.tighten(file);
        if named.contains(name.as_str()) {
            anchor.files.push((name.clone(), Named::ByPolicy));
        } else {
            anchor.files.push((name.clone(), Named::ByNone));
            anchor.alone.unite(&file.scope);
        }
        if let Some(reason) = deny.keys.get(name) {
            let words = if reason.is_empty() { "denied".to_owned() } else { format!("denied: {reason}") };
            if !anchor.life.ends.for_ever {
                anchor.life.revoked = Some(words);
            }
            anchor.life.ends.for_ever = true;
        }
    }
    for (policy, authority) in authorities() {
        if let AuthorityKind::KeyData { key, .. } = &authority.kind {
            let anchor = anchors.entry(key.id()).or_insert_with(|| Anchor::new(key));
            anchor.names.push(format!("policy {policy}, {}", authority.name));
        }
    }
    anchors
}

impl Anchor {
    fn new(key: &PublicKey) -> Self {
        Self {
            key: key.clone(),
            names: Vec::new(),
            files: Vec::new(),
            life: Life::default(),
            scope: Scope::none(),
            alone: Scope::none(),
        }
    }

    /// Returns the name to show: of a file that stands by itself, else of any.
    pub fn display_name(&self) -> &str {
        let alone = self.files.iter().find(|(_, named)| *named == Named::ByNone).map(|(name, _)| name);
        alone.or_else(|| self.names.first()).map_or("", String::as_str)
    }
}
