//! The JSON that scripts read: names and shapes are kept.

use larder_proto::v1;
use serde_json::{Map, Value, json};

use super::{state, time};

/// Returns an array of `{code, detail?}`.
pub(crate) fn reasons(reasons: &[v1::Reason]) -> Value {
    reasons.iter().map(reason).collect()
}

/// Returns `{code, detail?}`.
pub(crate) fn reason(reason: &v1::Reason) -> Value {
    let mut object = Map::new();
    object.insert("code".to_owned(), json!(reason.code));
    if !reason.detail.is_empty() {
        object.insert("detail".to_owned(), json!(reason.detail));
    }
    Value::Object(object)
}

/// Returns a state's name, or null where there is none.
pub(crate) fn state_of(number: i32) -> Value {
    match v1::State::try_from(number) {
        Ok(v1::State::Unspecified) => Value::Null,
        Ok(known) => json!(state::name(known)),
        Err(_) => json!("unknown"),
    }
}

/// Returns an RFC 3339 time, or null.
pub(crate) fn time_of(time: Option<&prost_types::Timestamp>) -> Value {
    time::read(time).map_or(Value::Null, |time| json!(time.to_string()))
}

/// Returns null for an empty text.
pub(crate) fn text_of(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// Returns a verdict: `repository`, `digest`, `state`, `reasons` and what else is known.
pub(crate) fn verdict(verdict: &v1::Verdict) -> Value {
    json!({
        "repository": verdict.repository,
        "digest": verdict.digest,
        "state": state_of(verdict.state),
        "reasons": reasons(&verdict.reasons),
        "gate": gate(verdict.gate()),
        "tags": verdict.tags,
        "first_seen": time_of(verdict.first_seen.as_ref()),
        "held": verdict.held,
    })
}

/// Returns a verdict, or null.
pub(crate) fn verdict_of(judged: Option<&v1::Verdict>) -> Value {
    judged.map_or(Value::Null, verdict)
}

fn gate(gate: v1::Gate) -> &'static str {
    match gate {
        v1::Gate::Serve => "serve",
        v1::Gate::Warn => "warn",
        v1::Gate::Refuse => "refuse",
        v1::Gate::Retry => "retry",
        v1::Gate::Unspecified => "unknown",
    }
}

/// Returns a descriptor as OCI writes it.
pub(crate) fn descriptor(descriptor: &v1::Descriptor) -> Value {
    let mut object = Map::new();
    object.insert("mediaType".to_owned(), json!(descriptor.media_type));
    object.insert("digest".to_owned(), json!(descriptor.digest));
    object.insert("size".to_owned(), json!(descriptor.size));
    if !descriptor.artifact_type.is_empty() {
        object.insert("artifactType".to_owned(), json!(descriptor.artifact_type));
    }
    if let Some(platform) = &descriptor.platform {
        object.insert("platform".to_owned(), json!(platform_name(platform)));
    }
    Value::Object(object)
}

/// Writes `os/architecture[/variant]`.
pub(crate) fn platform_name(platform: &v1::Platform) -> String {
    let v1::Platform { os, architecture, variant } = platform;
    if variant.is_empty() { format!("{os}/{architecture}") } else { format!("{os}/{architecture}/{variant}") }
}

/// Returns one line of a list.
pub(crate) fn summary(summary: &v1::ArtifactSummary) -> Value {
    let judged = summary.verdict.as_ref();
    json!({
        "repository": summary.repository,
        "tag": text_of(&summary.tag),
        "digest": summary.digest,
        "media_type": summary.media_type,
        "artifact_type": text_of(&summary.artifact_type),
        "size": summary.size,
        "seq": summary.seq,
        "state": judged.map_or(Value::Null, |judged| state_of(judged.state)),
        "reasons": judged.map_or(json!([]), |judged| reasons(&judged.reasons)),
    })
}

/// Returns how the trust folder is.
pub(crate) fn trust_health(health: Option<&v1::TrustHealth>) -> Value {
    let Some(health) = health else { return Value::Null };
    let faults: Vec<Value> =
        health.faults.iter().map(|fault| json!({"path": fault.path, "message": fault.message})).collect();
    json!({
        "condition": health.condition,
        "folder": health.folder,
        "set": text_of(&health.set),
        "since": time_of(health.since.as_ref()),
        "faults": faults,
        "roots": health.roots.iter().map(root).collect::<Vec<_>>(),
    })
}

/// Returns a trusted root and its age.
pub(crate) fn root(root: &v1::Root) -> Value {
    json!({
        "name": root.name,
        "id": root.id,
        "as_of": time_of(root.as_of.as_ref()),
        "stated": root.stated,
        "until": time_of(root.until.as_ref()),
        "too_old": root.too_old,
    })
}

/// Returns a node of a judgement's tree.
pub(crate) fn node(of: &v1::ExplainNode) -> Value {
    use v1::explain_node::Mark;
    let mark = match of.mark() {
        Mark::Good => json!("good"),
        Mark::Bad => json!("bad"),
        Mark::Pending => json!("pending"),
        Mark::None | Mark::Unspecified => Value::Null,
    };
    json!({
        "kind": of.kind,
        "label": of.label,
        "mark": mark,
        "outcome": of.outcome,
        "code": text_of(&of.code),
        "children": of.children.iter().map(node).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_what_scripts_rely_on() {
        let judged = v1::Verdict {
            repository: "docker.io/library/alpine".to_owned(),
            digest: "sha256:00".to_owned(),
            state: v1::State::Untrusted.into(),
            reasons: vec![
                v1::Reason { code: "no-policy".to_owned(), detail: String::new() },
                v1::Reason { code: "unknown-key".to_owned(), detail: "2".to_owned() },
            ],
            gate: v1::Gate::Refuse.into(),
            tags: vec!["3.22".to_owned()],
            first_seen: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            held: true,
        };
        assert_eq!(
            verdict(&judged).to_string(),
            r#"{"repository":"docker.io/library/alpine","digest":"sha256:00","state":"untrusted","reasons":[{"code":"no-policy"},{"code":"unknown-key","detail":"2"}],"gate":"refuse","tags":["3.22"],"first_seen":"1970-01-01T00:00:01.5Z","held":true}"#
        );
    }

    #[test]
    fn what_is_unknown_or_absent_is_said_so() {
        assert_eq!(state_of(0), Value::Null);
        assert_eq!(state_of(99), json!("unknown"));
        assert_eq!(time_of(None), Value::Null);
        assert_eq!(text_of(""), Value::Null);
    }
}
