//! `larder show`.

use clap::Args;
use larder_proto::v1;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::{indented, section};
use crate::output::{Output, json, state, text, time, words};

/// Show what an artifact is made of, and what is attached to it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder show docker.io/library/alpine:3.22
  larder show registry.example.org/store/app:1.4 --output json | jq .attached")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let request = v1::GetArtifactRequest { reference: arguments.reference, config: false };
    let artifact = client.artifacts().get_artifact(request).await?.into_inner();
    if output.is_json() {
        output.document(&to_json(&artifact))?;
    } else {
        output.data(&lines(&artifact, output.columns()).join("\n"))?;
    }
    Ok(Exit::Done)
}

fn to_json(artifact: &v1::GetArtifactResponse) -> Value {
    let mut object = artifact.summary.as_ref().map_or_else(|| json!({}), json::summary);
    let successors: Vec<Value> = artifact
        .successors
        .iter()
        .map(|one| {
            json!({
                "descriptor": one.descriptor.as_ref().map_or(Value::Null, json::descriptor),
                "held": one.held,
                "left_out": one.left_out,
                "verdict": json::verdict_of(one.verdict.as_ref()),
            })
        })
        .collect();
    let attached: Vec<Value> = artifact
        .attached
        .iter()
        .map(|one| {
            json!({
                "kind": one.kind,
                "descriptor": one.descriptor.as_ref().map_or(Value::Null, json::descriptor),
                "found_at": one.found_at,
                "signatures": one.signatures,
                "verdict": json::verdict_of(one.verdict.as_ref()),
            })
        })
        .collect();
    object["tags"] = json!(artifact.tags);
    object["parents"] = json!(artifact.parents);
    object["verdict"] = json::verdict_of(artifact.summary.as_ref().and_then(|summary| summary.verdict.as_ref()));
    object["successors"] = json!(successors);
    object["attached"] = json!(attached);
    // Its own bytes are at the endpoint; this is for reading.
    object["manifest"] = serde_json::from_slice(&artifact.manifest).unwrap_or(Value::Null);
    object
}

fn lines(artifact: &v1::GetArtifactResponse, columns: Option<usize>) -> Vec<String> {
    let for_a_person = columns.is_some();
    let mut lines = Vec::new();
    if let Some(summary) = &artifact.summary {
        let judged = summary.verdict.clone().unwrap_or_default();
        let mut rows = vec![
            vec!["digest".to_owned(), summary.digest.clone()],
            vec!["type".to_owned(), summary.media_type.clone()],
            vec!["size".to_owned(), text::bytes(summary.size)],
            vec![
                "state".to_owned(),
                format!("{}  {}", state::marked(judged.state(), 0, for_a_person), words::because(&judged.reasons)),
            ],
        ];
        if !summary.artifact_type.is_empty() {
            rows.insert(2, vec!["artifact type".to_owned(), summary.artifact_type.clone()]);
        }
        if !artifact.tags.is_empty() {
            rows.push(vec!["tags".to_owned(), artifact.tags.join(", ")]);
        }
        if let Some(seen) = time::read(judged.first_seen.as_ref()) {
            rows.push(vec!["first seen".to_owned(), time::ago(seen, jiff::Timestamp::now())]);
        }
        lines.push(match summary.tag.as_str() {
            "" => summary.repository.clone(),
            tag => format!("{}:{tag}", summary.repository),
        });
        lines.extend(indented(&rows, columns));
    }
    let sections: [(&str, Vec<Vec<String>>); 3] = [
        ("made of", artifact.successors.iter().map(|one| successor(one, for_a_person)).collect()),
        ("attached", artifact.attached.iter().map(|one| attached(one, for_a_person)).collect()),
        ("listed by the indexes", artifact.parents.iter().map(|parent| vec![text::short(parent)]).collect()),
    ];
    lines.extend(sections.iter().flat_map(|(title, rows)| section(title, rows, columns)));
    lines
}

fn successor(one: &v1::Successor, for_a_person: bool) -> Vec<String> {
    let descriptor = one.descriptor.clone().unwrap_or_default();
    let platform = descriptor.platform.as_ref().map(json::platform_name);
    let held = match (&one.verdict, one.held, one.left_out) {
        (Some(verdict), true, _) => state::marked(verdict.state(), 0, for_a_person),
        (None, true, _) => "held".to_owned(),
        (_, false, true) => "left out".to_owned(),
        (_, false, false) => "not held".to_owned(),
    };
    vec![
        text::short(&descriptor.digest),
        text::bytes(descriptor.size),
        platform.unwrap_or_else(|| descriptor.media_type.clone()),
        held,
    ]
}

fn attached(one: &v1::Attached, for_a_person: bool) -> Vec<String> {
    let descriptor = one.descriptor.clone().unwrap_or_default();
    let signatures =
        if one.signatures > 0 { text::count(u64::from(one.signatures), "signature") } else { String::new() };
    let judged = one.verdict.as_ref().map(|verdict| state::marked(verdict.state(), 0, for_a_person));
    vec![
        one.kind.clone(),
        text::short(&descriptor.digest),
        text::bytes(descriptor.size),
        text::short_digests(&one.found_at),
        signatures,
        judged.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_shows_what_is_held_and_what_is_left_out() {
        let child = |digest: &str, architecture: &str, held: bool| v1::Successor {
            descriptor: Some(v1::Descriptor {
                digest: format!("sha256:{digest}"),
                size: 1024,
                platform: Some(v1::Platform {
                    os: "linux".to_owned(),
                    architecture: architecture.to_owned(),
                    variant: String::new(),
                }),
                ..v1::Descriptor::default()
            }),
            held,
            left_out: !held,
            verdict: held.then(|| v1::Verdict { state: v1::State::Verified.into(), ..v1::Verdict::default() }),
        };
        let artifact = v1::GetArtifactResponse {
            summary: None,
            successors: vec![child("aa", "amd64", true), child("bb", "arm64", false)],
            manifest: "not JSON".into(),
            parents: vec!["sha256:cc".to_owned()],
            ..v1::GetArtifactResponse::default()
        };
        assert_eq!(
            lines(&artifact, None),
            [
                "made of",
                "  aa  1.0 KiB  linux/amd64  verified",
                "  bb  1.0 KiB  linux/arm64  left out",
                "listed by the indexes",
                "  cc",
            ]
        );
        let json = to_json(&artifact);
        assert_eq!(json["manifest"], Value::Null);
        assert_eq!(json["successors"][1]["left_out"], json!(true));
    }
}
