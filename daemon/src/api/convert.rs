//! What stories return, as messages of the API.

use std::path::Path;

use jiff::Timestamp;
use larder_core::judge::{Mark, Node};
use larder_core::policy::{Root, RootEnd, TrustSet};
use larder_core::verdict::{Gate, Reason, State, Verdict};
use larder_core::{Descriptor, Tag};
use larder_proto::v1;

use crate::config::GateMode;
use crate::ops::history;
use crate::ops::query::{Answer, Held};
use crate::ops::watch;
use crate::store::record::{Actor, Cause, OperationKind};
use crate::trust::{Condition, Published};

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

pub(super) fn state(state: State) -> v1::State {
    match state {
        State::Corrupt => v1::State::Corrupt,
        State::Denied => v1::State::Denied,
        State::Revoked => v1::State::Revoked,
        State::Untrusted => v1::State::Untrusted,
        State::Unsigned => v1::State::Unsigned,
        State::Pending => v1::State::Pending,
        State::Allowed => v1::State::Allowed,
        State::Verified => v1::State::Verified,
    }
}

pub(super) fn optional_state(told: Option<State>) -> i32 {
    told.map_or(v1::State::Unspecified, state).into()
}

pub(super) fn reasons(reasons: &[Reason]) -> Vec<v1::Reason> {
    let reason = |reason: &Reason| v1::Reason {
        code: reason.code.name().to_owned(),
        detail: reason.detail.clone().unwrap_or_default(),
    };
    reasons.iter().map(reason).collect()
}

pub(super) fn cause(cause: &Cause) -> v1::Reason {
    v1::Reason { code: cause.code.clone(), detail: cause.detail.clone() }
}

pub(super) fn names(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

fn gate(gate: Gate) -> v1::Gate {
    match gate {
        Gate::Serve => v1::Gate::Serve,
        Gate::Warn => v1::Gate::Warn,
        Gate::Refuse => v1::Gate::Refuse,
        Gate::Retry => v1::Gate::Retry,
    }
}

pub(super) fn gate_mode(mode: GateMode) -> &'static str {
    match mode {
        GateMode::Enforce => "enforce",
        GateMode::Warn => "warn",
        GateMode::Off => "off",
    }
}

/// Renders the verdict of a subject that is held.
pub(super) fn answer(answer: &Answer) -> v1::Verdict {
    v1::Verdict {
        tags: names(&answer.tags),
        first_seen: answer.first_seen.map(timestamp),
        held: true,
        ..offered(&answer.held, &answer.verdict)
    }
}

/// Renders the verdict of what is not held.
pub(super) fn offered(subject: &Held, verdict: &Verdict) -> v1::Verdict {
    v1::Verdict {
        repository: subject.repository.to_string(),
        digest: subject.digest.to_string(),
        state: state(verdict.state).into(),
        reasons: reasons(&verdict.reasons),
        gate: gate(verdict.gate).into(),
        tags: subject.tag.iter().map(ToString::to_string).collect(),
        first_seen: None,
        held: false,
    }
}

pub(super) fn descriptor(descriptor: &Descriptor) -> v1::Descriptor {
    v1::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
        artifact_type: descriptor.artifact_type.clone().unwrap_or_default(),
        platform: descriptor.platform.as_ref().map(|platform| v1::Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
        }),
    }
}

pub(super) fn node(tree: Node) -> v1::ExplainNode {
    use v1::explain_node::Mark as Rendered;
    let mark = match tree.mark {
        Mark::Good => Rendered::Good,
        Mark::Bad => Rendered::Bad,
        Mark::Pending => Rendered::Pending,
        Mark::None => Rendered::None,
    };
    v1::ExplainNode {
        kind: tree.kind.to_owned(),
        label: tree.label,
        mark: mark.into(),
        outcome: tree.outcome,
        code: tree.code.to_owned(),
        children: tree.children.into_iter().map(node).collect(),
    }
}

pub(super) fn roots(set: &TrustSet, now: Timestamp) -> Vec<v1::Root> {
    let root = |(name, root): (&String, &Root)| {
        let end = set.root_end(root);
        v1::Root {
            name: name.clone(),
            id: root.id.to_string(),
            as_of: root.dated().map(timestamp),
            stated: root.as_of.is_some(),
            until: match end {
                RootEnd::At(end) => Some(timestamp(end)),
                RootEnd::Never | RootEnd::Always => None,
            },
            too_old: end.is_over(now),
        }
    };
    set.roots.iter().map(root).collect()
}

pub(super) fn trust_health(published: &Published, folder: &Path, now: Timestamp) -> v1::TrustHealth {
    let condition = match published.condition {
        Condition::Starting => "starting",
        Condition::Settled => "settled",
        Condition::Unsettled => "unsettled",
        Condition::Faulty => "faulty",
        Condition::Missing => "missing",
    };
    let fault = |fault: &larder_core::policy::Fault| v1::TrustFault {
        path: fault.path.clone(),
        message: fault.message.clone(),
    };
    v1::TrustHealth {
        condition: condition.to_owned(),
        faults: published.faults.iter().map(fault).collect(),
        set: published.in_force.map(|(set, _)| set.to_string()).unwrap_or_default(),
        since: published.in_force.map(|(_, since)| timestamp(since)),
        folder: folder.display().to_string(),
        roots: published.view.sets().next().map(|set| roots(set, now)).unwrap_or_default(),
    }
}

fn actor(actor: &Actor) -> String {
    match actor.uid {
        Some(uid) => format!("uid {uid}, {}", actor.via),
        None => actor.via.clone(),
    }
}

fn operation_kind(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Pull => "pull",
        OperationKind::Push => "push",
        OperationKind::Receive => "receive",
        OperationKind::Sign => "sign",
        OperationKind::Tag => "tag",
        OperationKind::Untag => "untag",
        OperationKind::Save => "save",
        OperationKind::Load => "load",
        OperationKind::Attach => "attach",
        OperationKind::Clean => "clean",
    }
}

pub(super) fn history_entry(entry: history::Entry) -> v1::HistoryEntry {
    use v1::history_entry::What;
    let what = match entry.what {
        history::What::Verdict(told, why) => What::Verdict(v1::VerdictChange {
            repository: told.repository.to_string(),
            tags: names(&told.tags),
            digest: told.digest.to_string(),
            from: optional_state(told.from),
            to: state(told.to).into(),
            reasons: reasons(&told.reasons),
            cause: Some(cause(&why)),
            previous: told.previous,
        }),
        history::What::Tag(moved) => What::Tag(v1::TagMove {
            repository: moved.repository.to_string(),
            tag: moved.tag.to_string(),
            old: moved.old.map(|digest| digest.to_string()).unwrap_or_default(),
            new: moved.new.map(|digest| digest.to_string()).unwrap_or_default(),
        }),
        history::What::Operation { kind, reference, manifests, signatures } => What::Operation(v1::OperationEntry {
            kind: operation_kind(kind).to_owned(),
            reference,
            manifests: u32::try_from(manifests).unwrap_or(u32::MAX),
            signatures: u32::try_from(signatures).unwrap_or(u32::MAX),
        }),
        history::What::Trust(changed) => {
            What::Trust(v1::TrustChange { changes: changed.changes, set: changed.set.to_string() })
        }
        history::What::Corruption(digest, corrupt) => {
            What::Corruption(v1::Corruption { digest: digest.to_string(), corrupt })
        }
        history::What::Pruned(pruned) => {
            What::Pruned(v1::JournalPruned { until: pruned.until, state: pruned.state.to_string() })
        }
    };
    v1::HistoryEntry { seq: entry.seq, time: Some(timestamp(entry.time)), actor: actor(&entry.actor), what: Some(what) }
}

pub(super) fn watch_event(item: watch::Item) -> v1::WatchEvent {
    use v1::watch_event::Type;
    let (kind, subject, why) = match item.what {
        watch::What::State(subject, why) => (Type::State, Some(subject), Some(why)),
        watch::What::Complete => (Type::Complete, None, None),
        watch::What::Change(subject, why) => (Type::Change, Some(subject), Some(why)),
        watch::What::Trust(why) => (Type::Trust, None, Some(why)),
        watch::What::Notice(why) => (Type::Notice, None, Some(why)),
    };
    let event = v1::WatchEvent {
        r#type: kind.into(),
        seq: item.seq,
        time: Some(timestamp(item.time)),
        cause: why.as_ref().map(cause),
        ..v1::WatchEvent::default()
    };
    match subject {
        None => event,
        Some(subject) => v1::WatchEvent {
            repository: subject.repository.to_string(),
            tags: names(&subject.tags),
            digest: subject.digest.to_string(),
            from: optional_state(subject.from),
            to: state(subject.to).into(),
            reasons: reasons(&subject.reasons),
            ..event
        },
    }
}
