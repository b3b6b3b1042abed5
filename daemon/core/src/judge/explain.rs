//! How a verdict came about: a tree for `explain`.

mod signatures;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::bench::{Bench, Counted, Demand, NoDemand, Outcome, Signer, Subject};
use super::life::Lens;
use super::support::deciding;
use super::{judge_view, reasons};
use crate::digest::Digest;
use crate::facts::Facts;
use crate::policy::{Anchor, AttestationDemand, Authority, AuthorityKind, Policy, TrustView};
use crate::reference::Repository;
use crate::signature::SignatureId;
use crate::verdict::{Code, State, Verdict};

/// The most nodes below one node; the rest are counted.
const MAX_CHILDREN: usize = 20;
/// How many indexes above each other are explained.
const MAX_DEPTH: usize = 4;
/// How many indexes that list the same thing are explained; each brings its own above it.
const MAX_INDEXES: usize = 4;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// subject, policy, authority, keys, key, signature, index, trust, note
    pub kind: &'static str,
    /// What it is called.
    pub label: String,
    /// Good, bad, pending or none.
    pub mark: Mark,
    /// What came of it, in words.
    pub outcome: String,
    /// A reason code, or empty.
    pub code: &'static str,
    /// The signature that it is about, if it is about one.
    pub signature: Option<SignatureId>,
    /// What it rests on.
    pub children: Vec<Self>,
}

/// A node's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// ✔
    Good,
    /// ✘
    Bad,
    /// …
    Pending,
    /// neither
    None,
}

impl Mark {
    fn of(state: State) -> Self {
        match state {
            State::Verified | State::Allowed => Self::Good,
            State::Pending => Self::Pending,
            _ => Self::Bad,
        }
    }
}

impl Node {
    fn new(kind: &'static str, label: impl Into<String>, mark: Mark, outcome: impl Into<String>) -> Self {
        Self {
            kind,
            label: label.into(),
            mark,
            outcome: outcome.into(),
            code: "",
            signature: None,
            children: Vec::new(),
        }
    }

    /// Tells beside each signature what else is known of it.
    pub fn annotate(&mut self, notes: &BTreeMap<SignatureId, Vec<String>>) {
        self.children.iter_mut().for_each(|child| child.annotate(notes));
        let told = self.signature.and_then(|id| notes.get(&id)).into_iter().flatten();
        let told: Vec<Self> = told.map(|words| Self::new("note", "beside it", Mark::None, words)).collect();
        *self = std::mem::replace(self, Self::new("", "", Mark::None, "")).with(told);
    }

    fn code(self, code: Code) -> Self {
        Self { code: code.name(), ..self }
    }

    fn code_if_any(self, code: Option<Code>) -> Self {
        Self { code: code.map_or("", Code::name), ..self }
    }

    /// Adds children, of which only so many are shown.
    fn with(mut self, children: Vec<Self>) -> Self {
        let more = children.len().saturating_sub(MAX_CHILDREN);
        self.children.extend(children.into_iter().take(MAX_CHILDREN));
        if more > 0 {
            self.children.push(Self::new("note", format!("{more} more"), Mark::None, ""));
        }
        self
    }
}

/// Explains a verdict: what was asked for, what of it holds, and on which signatures that rests.
pub fn explain(
    facts: &Facts,
    view: &TrustView,
    repository: &Repository,
    digest: Digest,
    now: Timestamp,
) -> (Verdict, Node) {
    let verdict = judge_view(facts, view, repository, digest, now);
    let (trust, condition) = match view {
        TrustView::Starting => (None, Some("it is not read yet, so everything is pending")),
        TrustView::Settled(set) => (Some(&**set), None),
        TrustView::Missing { settled } => (
            Some(&**settled),
            Some("it cannot be read, so what was accepted is pending; this is the last set in force"),
        ),
        TrustView::Disturbed { settled, readable } => (
            Some(deciding(facts, (settled, readable), repository, digest, now)),
            Some(
                "it is being edited or has a faulty file; this is the worse of the verdicts under the last set in force and under what can be read",
            ),
        ),
    };
    let mut children = Vec::new();
    if let Some(condition) = condition {
        let mark = if trust.is_some() { Mark::None } else { Mark::Pending };
        children.push(Node::new("trust", "trust folder", mark, condition));
    }
    if let Some(trust) = trust {
        let bench = Bench { facts, trust, now };
        children.extend(bench.explained(&bench.subject(repository, digest), MAX_DEPTH));
    }
    let label = format!("{repository}  {}", digest.short());
    let mut node = Node::new("subject", label, Mark::of(verdict.state), verdict.state.name());
    node.code = verdict.reasons.first().map_or("", |reason| reason.code.name());
    (verdict, node.with(children))
}

impl<'a> Bench<'a> {
    fn explained(&self, subject: &Subject<'a>, depth: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        if self.facts.is_corrupt(subject.digest) {
            nodes.push(Node::new("note", "its bytes", Mark::Bad, "do not have its digest").code(Code::Corrupt));
        }
        if let Some(reason) = self.trust.deny.digests.get(&subject.digest) {
            let outcome = if reason.is_empty() { "lists this digest".to_owned() } else { reason.clone() };
            nodes.push(Node::new("trust", "deny.yaml", Mark::Bad, outcome).code(Code::DeniedDigest));
        }
        let passes = subject
            .policies
            .iter()
            .any(|(_, policy)| matches!(self.policy(subject, policy, Lens::Actual), Outcome::Passes));
        if !subject.policies.is_empty() {
            let policies = subject.policies.iter().map(|(name, policy)| self.policy_node(subject, name, policy));
            let label = format!("policies for {}", subject.repository);
            nodes.push(Node::new("note", label, Mark::None, "").with(policies.collect()));
        }
        if subject.policies.is_empty() || passes {
            nodes.push(self.keys_node(subject));
        }
        nodes.extend(self.other_signatures(subject));
        nodes.extend(self.index_nodes(subject, depth));
        nodes
    }

    fn policy_node(&self, subject: &Subject<'a>, name: &str, policy: &'a Policy) -> Node {
        let globs: Vec<&str> = policy
            .globs
            .iter()
            .filter(|glob| glob.matches(subject.repository, &subject.digest))
            .map(|g| g.as_str())
            .collect();
        let label = format!("{name}.yaml ({})", globs.join(", "));
        let authorities = policy.authorities.iter().map(|authority| self.authority_node(subject, authority)).collect();
        let (mark, outcome, code) = match self.policy(subject, policy, Lens::Actual) {
            _ if policy.denies() => (Mark::Bad, "denies what it matches".to_owned(), Some(Code::StaticFail)),
            Outcome::Signed(_) => (Mark::Good, "holds by a signature".to_owned(), Some(Code::SignedBy)),
            Outcome::Passes => (Mark::Good, "holds by static: pass".to_owned(), Some(Code::StaticPass)),
            Outcome::Fails => match &policy.unsupported {
                Some(field) => {
                    (Mark::Bad, format!("{field} is not evaluated by this version"), Some(Code::Unsupported))
                }
                None if self.policy(subject, policy, Lens::Hopeful).holds() => {
                    (Mark::Pending, "a check is missing".to_owned(), Some(Code::CheckMissing))
                }
                None => (Mark::Bad, "no authority holds".to_owned(), Some(Code::PolicyFailed)),
            },
        };
        Node::new("policy", label, mark, outcome).code_if_any(code).with(authorities)
    }

    fn authority_node(&self, subject: &Subject<'a>, authority: &'a Authority) -> Node {
        let label = match &authority.kind {
            AuthorityKind::KeyFile { name, .. } => format!("key {name} ({name}.pub)"),
            AuthorityKind::KeyData { .. } => format!("key of {}", authority.name),
            AuthorityKind::Keyless(_) => format!("identities of {}", authority.name),
            AuthorityKind::StaticPass => "static: pass".to_owned(),
            AuthorityKind::StaticFail { .. } => "static: fail".to_owned(),
            AuthorityKind::Other => authority.name.clone(),
        };
        match self.demand(subject, authority) {
            Ok(demand) => self.demand_node("authority", label, subject, &demand),
            Err(why) => {
                let (mark, outcome) = match &why {
                    NoDemand::Unsupported(field) => (Mark::Bad, format!("{field} is not evaluated by this version")),
                    NoDemand::RootMissing("") => (Mark::Bad, "there is no trusted root in roots/".to_owned()),
                    NoDemand::RootMissing(name) => (Mark::Bad, format!("there is no roots/{name}.json")),
                    NoDemand::RootTooOld(which) => (Mark::Bad, format!("its trusted root is too old ({which})")),
                    NoDemand::KeyMissing(name) => (Mark::Bad, format!("there is no keys/{name}.pub")),
                    NoDemand::NotForRepository(name) => {
                        (Mark::Bad, format!("`for` in keys/{name}.yaml leaves this repository out"))
                    }
                    NoDemand::StaticPass => (Mark::Good, "lets in what nobody signed".to_owned()),
                    NoDemand::StaticFail(message) => (Mark::Bad, message.unwrap_or("never holds").to_owned()),
                };
                let code = match why {
                    NoDemand::StaticPass => Some(Code::StaticPass),
                    NoDemand::StaticFail(_) => Some(Code::StaticFail),
                    _ => reasons::of_no_demand(&why).map(|reason| reason.code),
                };
                Node::new("authority", label, mark, outcome).code_if_any(code)
            }
        }
    }

    fn keys_node(&self, subject: &Subject<'a>) -> Node {
        let is_for = |anchor: &&Anchor| anchor.alone.contains(subject.repository, &subject.digest);
        let keys: Vec<Node> = self
            .trust
            .each_anchor()
            .filter(|(_, anchor)| is_for(anchor))
            .map(|(id, anchor)| {
                let name = anchor.display_name();
                let signer = Signer::Key { id: *id, anchor, hash: None, proof: None };
                let demand = Demand { signer, name: name.into(), authority: None };
                self.demand_node("key", format!("key {name} ({name}.pub)"), subject, &demand)
            })
            .collect();
        let label = format!("keys for {}", subject.repository);
        if keys.is_empty() {
            if !subject.policies.is_empty() {
                return Node::new("keys", label, Mark::None, "there is none");
            }
            let unchecked = |&signature: &u32| {
                let label = self.signature_label(signature);
                let node = Node::new("signature", label, Mark::Bad, "no key that counts here made it");
                let id = self.facts.signature_row(signature).map(|row| row.id);
                Node { signature: id, ..node.code(Code::UnknownKey) }
            };
            let found = subject.signatures.iter().map(unchecked).collect();
            return Node::new("keys", label, Mark::Bad, "there is none, and no policy either")
                .code(Code::NoPolicy)
                .with(found);
        }
        let mark = if keys.iter().any(|key| key.mark == Mark::Good) {
            Mark::Good
        } else if keys.iter().any(|key| key.mark == Mark::Pending) {
            Mark::Pending
        } else {
            Mark::Bad
        };
        let outcome = match mark {
            Mark::Good => "one of them signed it",
            Mark::Pending => "a check is missing",
            _ => "none of them signed it",
        };
        Node::new("keys", label, mark, outcome).with(keys)
    }

    /// Says what one key makes of the subject's signatures.
    fn demand_node(&self, kind: &'static str, label: String, subject: &Subject<'a>, demand: &Demand<'a>) -> Node {
        let wanted = demand.authority.map_or(&[][..], |authority| &authority.attestations);
        let signatures: Vec<Node> = if wanted.is_empty() {
            subject.signatures.iter().map(|&signature| self.signature_node(signature, demand)).collect()
        } else {
            wanted.iter().map(|entry| self.attestation_node(subject, entry, demand)).collect()
        };
        let life = match &demand.signer {
            Signer::Key { anchor, .. } => reasons::of_life(self, anchor, &demand.name),
            Signer::Identity { .. } => None,
        };
        let counted = self.signed(subject, demand, Lens::Actual);
        let tried = match signatures.len() {
            _ if !wanted.is_empty() => "what it asks to be attested is not".to_owned(),
            0 => "no signature found".to_owned(),
            1 => "1 signature tried".to_owned(),
            count => format!("{count} signatures tried"),
        };
        let node = match (life, counted.first()) {
            (Some(reason), _) => {
                let words = reason.detail.clone().unwrap_or_default();
                Node::new(kind, label, Mark::Bad, format!("does not count ({words})")).code(reason.code)
            }
            (None, Some(Counted { .. })) => Node::new(kind, label, Mark::Good, "signed it").code(Code::SignedBy),
            (None, None) if !self.signed(subject, demand, Lens::Hopeful).is_empty() => {
                Node::new(kind, label, Mark::Pending, "a check is missing").code(Code::CheckMissing)
            }
            (None, None) => Node::new(kind, label, Mark::Bad, tried),
        };
        node.with(signatures)
    }

    /// Says what is there for one entry of an authority's `attestations`.
    fn attestation_node(&self, subject: &Subject<'a>, entry: &AttestationDemand, demand: &Demand<'a>) -> Node {
        let label = format!("attestation {} ({})", entry.name, entry.predicate_type);
        let tried: Vec<Node> =
            self.attested(subject, entry).map(|one| self.attested_node(one, entry, demand)).collect();
        let node = if !self.meeting(subject, entry, demand, Lens::Actual).is_empty() {
            Node::new("note", label, Mark::Good, "is there")
        } else if !self.meeting(subject, entry, demand, Lens::Hopeful).is_empty() {
            Node::new("note", label, Mark::Pending, "a check is missing").code(Code::CheckMissing)
        } else {
            let fails = tried.iter().any(|node| node.code == Code::ConditionFailed.name());
            let (outcome, code) = match (tried.is_empty(), fails) {
                (true, _) => ("none of this type was found", Code::AttestationMissing),
                (false, true) => ("the condition holds for none of them", Code::ConditionFailed),
                (false, false) => ("none by whom it is asked of", Code::AttestationMissing),
            };
            Node::new("note", label, Mark::Bad, outcome).code(code)
        };
        node.with(tried)
    }

    fn index_nodes(&self, subject: &Subject<'a>, depth: usize) -> Vec<Node> {
        let Some(below) = depth.checked_sub(1) else { return Vec::new() };
        let mut nodes = Vec::new();
        let parents = self.facts.parents(subject.repository, subject.digest);
        let more = parents.len().saturating_sub(MAX_INDEXES);
        for digest in parents.into_iter().take(MAX_INDEXES) {
            let verdict = self.verdict(subject.repository, digest);
            let label = format!("index {}, which lists it", digest.short());
            let node = Node::new("index", label, Mark::of(verdict.state), verdict.state.name());
            let node = if verdict.state.is_accepted() { node.code(Code::ViaIndex) } else { node };
            nodes.push(node.with(self.explained(&self.subject(subject.repository, digest), below)));
        }
        if more > 0 {
            nodes.push(Node::new("note", format!("{more} more indexes list it"), Mark::None, ""));
        }
        nodes
    }
}
