//! The gate as a function (DESIGN section 5): what is served, by what was judged.

use larder_core::verdict::{Gate, State, Verdict};

use crate::config::GateMode;

/// What the gate needs of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// What `gate: enforce` makes of it.
    pub gate: Gate,
}

impl From<&Verdict> for Standing {
    fn from(verdict: &Verdict) -> Self {
        Self { state: verdict.state, gate: verdict.gate }
    }
}

/// What is done with a request for content. The derived order is from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// It is held back.
    Refuse,
    /// It may be served later.
    Retry,
    /// It is served with a warning.
    Warn,
    /// It is served.
    Serve,
}

/// What lists a blob, and so may open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A subject of the repository.
    Subject(Standing),
    /// An attached manifest of the repository.
    Attached {
        /// Its own verdict; it is shown and not counted, but what is denied or corrupt opens nothing.
        standing: Standing,
        /// All its layers are evidence.
        evidence: bool,
        /// A subject that is held, in whatever repository, reaches the blob.
        reached: bool,
    },
}

/// What a manifest is in its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A subject, whatever else.
    Subject,
    /// Attached, and no subject; or kept for its tag alone.
    Attached,
}

/// Content that a manifest embeds (`data`), the empty `{}` aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inline {
    /// None.
    None,
    /// Some; an attached manifest that would open blobs of these digests may show it.
    Open,
    /// Some, which is held back as the blobs would be.
    Closed,
}

/// Says what is done with content whose bytes are denied or corrupt, for nothing rescues it; `None` for all other.
///
/// With the gate off, denied content is served; corrupt content never is, for it is not what was asked for.
fn barred(mode: GateMode, standing: Standing) -> Option<Decision> {
    match (standing.state, mode) {
        (State::Corrupt, _) | (State::Denied, GateMode::Enforce | GateMode::Warn) => Some(Decision::Refuse),
        _ => None,
    }
}

/// Decides about a subject's content.
pub fn subject(mode: GateMode, standing: Standing) -> Decision {
    if let Some(decision) = barred(mode, standing) {
        return decision;
    }
    match (mode, standing.gate) {
        (GateMode::Off, _) | (_, Gate::Serve) => Decision::Serve,
        (GateMode::Warn, _) | (GateMode::Enforce, Gate::Warn) => Decision::Warn,
        (GateMode::Enforce, Gate::Retry) => Decision::Retry,
        (GateMode::Enforce, Gate::Refuse) => Decision::Refuse,
    }
}

/// Decides about a manifest's bytes: readable even where its subject is not accepted, so that a
/// signer can sign it, unless they embed content.
pub fn manifest(mode: GateMode, part: Part, standing: Standing, inline: Inline) -> Decision {
    if let Some(decision) = barred(mode, standing) {
        return decision;
    }
    match (part, inline, subject(mode, standing)) {
        (Part::Subject, Inline::None, decision) => match decision {
            Decision::Warn => Decision::Warn,
            _ => Decision::Serve,
        },
        (Part::Subject, Inline::Open | Inline::Closed, decision) => decision,
        (Part::Attached, Inline::None | Inline::Open, _) => Decision::Serve,
        (Part::Attached, Inline::Closed, _) => match mode {
            GateMode::Enforce => Decision::Refuse,
            GateMode::Warn => Decision::Warn,
            GateMode::Off => Decision::Serve,
        },
    }
}

/// Decides about a blob by one of the manifests that list it; the best of them counts.
///
/// `own` is the verdict on the blob's own digest, which may be corrupt or denied.
pub fn blob(mode: GateMode, own: Standing, opener: Opener) -> Decision {
    if let Some(decision) = barred(mode, own) {
        return decision;
    }
    match opener {
        Opener::Subject(standing) => subject(mode, standing),
        Opener::Attached { standing, evidence, reached } => match (barred(mode, standing), mode) {
            (Some(decision), _) => decision,
            (None, GateMode::Off) => Decision::Serve,
            (None, _) if evidence && !reached => Decision::Serve,
            (None, GateMode::Warn) => Decision::Warn,
            (None, GateMode::Enforce) => Decision::Refuse,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [GateMode; 3] = [GateMode::Enforce, GateMode::Warn, GateMode::Off];
    const VERIFIED: Standing = Standing { state: State::Verified, gate: Gate::Serve };
    const UNSIGNED: Standing = Standing { state: State::Unsigned, gate: Gate::Refuse };
    const WARNED: Standing = Standing { state: State::Untrusted, gate: Gate::Warn };
    const PENDING: Standing = Standing { state: State::Pending, gate: Gate::Retry };
    const DENIED: Standing = Standing { state: State::Denied, gate: Gate::Refuse };
    const CORRUPT: Standing = Standing { state: State::Corrupt, gate: Gate::Refuse };

    #[test]
    fn subjects_by_mode() {
        use Decision::{Refuse, Retry, Serve, Warn};
        for (standing, decisions) in [
            (VERIFIED, [Serve, Serve, Serve]),
            (UNSIGNED, [Refuse, Warn, Serve]),
            (WARNED, [Warn, Warn, Serve]),
            (PENDING, [Retry, Warn, Serve]),
            (DENIED, [Refuse, Refuse, Serve]),
            (CORRUPT, [Refuse, Refuse, Refuse]),
        ] {
            assert_eq!(MODES.map(|mode| subject(mode, standing)), decisions, "{standing:?}");
            assert_eq!(MODES.map(|mode| blob(mode, UNSIGNED, Opener::Subject(standing))), decisions, "{standing:?}");
        }
    }

    #[test]
    fn a_manifest_stays_readable_for_signers() {
        let read = |standing, inline| manifest(GateMode::Enforce, Part::Subject, standing, inline);
        assert_eq!(read(UNSIGNED, Inline::None), Decision::Serve);
        assert_eq!(read(PENDING, Inline::None), Decision::Serve);
        assert_eq!(read(WARNED, Inline::None), Decision::Warn);
        assert_eq!(read(DENIED, Inline::None), Decision::Refuse);
        assert_eq!(read(CORRUPT, Inline::None), Decision::Refuse);
        assert_eq!(read(UNSIGNED, Inline::Open), Decision::Refuse);
        assert_eq!(read(UNSIGNED, Inline::Closed), Decision::Refuse);
        assert_eq!(read(PENDING, Inline::Closed), Decision::Retry);
        assert_eq!(read(VERIFIED, Inline::Closed), Decision::Serve);
    }

    #[test]
    fn an_attached_manifest_shows_what_it_would_open() {
        let read = |standing, inline| manifest(GateMode::Enforce, Part::Attached, standing, inline);
        assert_eq!(read(UNSIGNED, Inline::None), Decision::Serve);
        assert_eq!(read(UNSIGNED, Inline::Open), Decision::Serve);
        assert_eq!(read(UNSIGNED, Inline::Closed), Decision::Refuse);
        assert_eq!(read(VERIFIED, Inline::Closed), Decision::Refuse, "its own verdict is never counted");
        assert_eq!(read(DENIED, Inline::None), Decision::Refuse);
    }

    #[test]
    fn a_strangers_referrer_unlocks_no_layers() {
        let open = |evidence, reached, standing| {
            blob(GateMode::Enforce, UNSIGNED, Opener::Attached { standing, evidence, reached })
        };
        assert_eq!(open(true, false, UNSIGNED), Decision::Serve);
        assert_eq!(open(true, true, VERIFIED), Decision::Refuse);
        assert_eq!(open(false, false, VERIFIED), Decision::Refuse);
        assert_eq!(open(true, false, DENIED), Decision::Refuse);
    }

    #[test]
    fn nothing_opens_a_blob_that_is_corrupt_itself() {
        for mode in MODES {
            assert_eq!(blob(mode, CORRUPT, Opener::Subject(VERIFIED)), Decision::Refuse);
        }
        assert_eq!(blob(GateMode::Enforce, DENIED, Opener::Subject(VERIFIED)), Decision::Refuse);
    }

    #[test]
    fn the_best_counts() {
        assert_eq!([Decision::Refuse, Decision::Serve, Decision::Retry].into_iter().max(), Some(Decision::Serve));
        assert_eq!([Decision::Refuse, Decision::Warn, Decision::Retry].into_iter().max(), Some(Decision::Warn));
    }
}
