//! The judgement: facts and trust in, verdict out. Pure.
//!
//! [`judge`] is what everything rests on; [`judge_view`] adds what a trust folder that is being edited, is
//! broken or is gone makes of it. A subject is accepted only where something that must hold was counted
//! as holding; no error, absence or bound ever leads to an acceptance.

mod bench;
mod concern;
mod explain;
mod life;
mod proof;
#[cfg(test)]
mod proofs;
mod reasons;
mod signers;
mod support;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use self::bench::{Acceptance, Bench, Subject};
use self::life::Lens;
use crate::digest::Digest;
use crate::facts::Facts;
use crate::policy::{Mode, TrustSet, TrustView};
use crate::reference::Repository;
use crate::verdict::{Code, Gate, Reason, State, Verdict};

pub use bench::Who;
pub use concern::Concern;
pub use explain::{Mark, Node, explain};
pub use signers::{Signed, Signer, signed};
pub use support::{Support, support};

/// Judges a subject under one settled set.
pub fn judge(facts: &Facts, trust: &TrustSet, repository: &Repository, digest: Digest, now: Timestamp) -> Verdict {
    Bench { facts, trust, now }.verdict(repository, digest)
}

/// Judges a subject under what is in force and what can be read meanwhile: the worse of two verdicts.
pub fn judge_view(facts: &Facts, view: &TrustView, repository: &Repository, digest: Digest, now: Timestamp) -> Verdict {
    let under = |trust: &TrustSet| judge(facts, trust, repository, digest, now);
    match view {
        TrustView::Settled(set) => under(set),
        TrustView::Disturbed { settled, readable } => worse(under(settled), under(readable)).0,
        TrustView::Missing { settled } => without_folder(under(settled)),
        TrustView::Starting if facts.is_corrupt(digest) => {
            Verdict { state: State::Corrupt, reasons: vec![Reason::new(Code::Corrupt)], gate: Gate::Refuse }
        }
        TrustView::Starting => Verdict::pending(Reason::new(Code::Starting)),
    }
}

/// Which of the two sets of a disturbed folder decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Settled,
    Readable,
}

/// Picks the worse of two verdicts: of state, else of gate.
///
/// The gate is the stricter of the two, whichever state is the worse: while a folder is disturbed nothing may be served that
/// its settled set refuses, not even with a warning.
fn worse(settled: Verdict, readable: Verdict) -> (Verdict, Decided) {
    let gate = settled.gate.max(readable.gate);
    let by_state = readable.state.cmp(&settled.state);
    let (verdict, decided) = match by_state.then(settled.gate.cmp(&readable.gate)) {
        std::cmp::Ordering::Less => (readable, Decided::Readable),
        _ => (settled, Decided::Settled),
    };
    (Verdict { gate, ..verdict }, decided)
}

fn without_folder(verdict: Verdict) -> Verdict {
    if verdict.state.is_accepted() { Verdict::pending(Reason::new(Code::TrustMissing)) } else { verdict }
}

impl Verdict {
    fn pending(reason: Reason) -> Self {
        Self { state: State::Pending, reasons: vec![reason], gate: Gate::Retry }
    }
}

impl Bench<'_> {
    /// Goes through the table of states, the first that applies.
    fn verdict(&self, repository: &Repository, digest: Digest) -> Verdict {
        let subject = self.subject(repository, digest);
        if self.facts.is_corrupt(digest) {
            return Verdict { state: State::Corrupt, reasons: vec![Reason::new(Code::Corrupt)], gate: Gate::Refuse };
        }
        if let Some(reason) = self.denial(&subject) {
            return Verdict { state: State::Denied, reasons: vec![reason], gate: Gate::Refuse };
        }
        let ancestors = self.ancestors(&subject);
        let accepted = |lens| self.acceptance(&subject, &ancestors, lens);
        if let Some(acceptance) = accepted(Lens::Actual) {
            let reasons = reasons::of_acceptance(&acceptance);
            return Verdict { state: acceptance.basis.state, reasons, gate: Gate::Serve };
        }
        if let Some(hope) = accepted(Lens::Hopeful) {
            let reasons = reasons::of_hope(self, &hope);
            return Verdict { state: State::Pending, reasons, gate: Gate::Retry };
        }
        let gate = self.gate_of_rejected(&subject);
        if let Some(past) = accepted(Lens::Amnesty) {
            let reasons = reasons::of_revocation(self, &subject, &past);
            return Verdict { state: State::Revoked, reasons, gate };
        }
        let state = if self.has_signatures(&subject) { State::Untrusted } else { State::Unsigned };
        Verdict { state, reasons: reasons::of_rejection(self, &subject), gate }
    }

    fn has_signatures(&self, subject: &Subject<'_>) -> bool {
        let (facts, digest) = (self.facts, subject.digest);
        facts.named_numbers(digest).next().is_some()
            || facts.found_numbers(digest).next().is_some()
            || facts.uncounted(digest) > 0
    }

    /// Serves with a warning where policies match and those that fail only warn.
    fn gate_of_rejected(&self, subject: &Subject<'_>) -> Gate {
        let fails = |policy: &&&crate::policy::Policy| !self.policy(subject, policy, Lens::Actual).holds();
        let mut failing = subject.policies.iter().map(|(_, policy)| policy).filter(fails);
        let only_warn = !subject.policies.is_empty() && failing.all(|policy| policy.mode == Mode::Warn);
        if only_warn { Gate::Warn } else { Gate::Refuse }
    }

    /// Says how a subject is accepted: by itself, or through the nearest index of its repository that is, where that is better.
    fn acceptance<'a>(
        &'a self,
        subject: &'a Subject<'a>,
        ancestors: &'a [Subject<'a>],
        lens: Lens,
    ) -> Option<Acceptance<'a>> {
        let mut best: Option<Acceptance<'a>> = self.own(subject, lens).map(|basis| Acceptance { through: None, basis });
        for index in ancestors {
            if best.as_ref().is_some_and(|best| best.basis.state == State::Verified) {
                break;
            }
            if let Some(basis) = self.own(index, lens)
                && best.as_ref().is_none_or(|best| best.basis.state < basis.state)
            {
                best = Some(Acceptance { through: Some(index), basis });
            }
        }
        best
    }
}
