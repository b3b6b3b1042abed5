//! `larder ls`.

use clap::Args;
use larder_proto::v1;
use serde_json::json;

use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::fit;
use crate::output::{Output, json, state, text};

/// How many lines a person sees unless they ask for all.
const TOLD: usize = 100;
/// How many are asked for at once.
const PAGE: u32 = 1000;

/// List what is held, or the tags that a registry offers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder ls
  larder ls 'registry.example.org/store/**'
  larder ls --remote docker.io/library/alpine")]
pub(crate) struct Arguments {
    /// A repository, or a glob over repositories
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Ask this repository's registry for its tags
    #[arg(long, value_name = "REPO", conflicts_with = "filter")]
    remote: Option<String>,
    /// List all, on a terminal too
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    if let Some(repository) = arguments.remote {
        return list_remote(&client, repository, output).await;
    }
    let filter = arguments.filter.unwrap_or_default();
    let artifacts = list(&client, &filter, false).await?;
    if output.is_json() {
        output.document(&artifacts.iter().map(json::summary).collect())?;
        return Ok(Exit::Done);
    }
    if artifacts.is_empty() {
        output.say(&match filter.as_str() {
            "" => "nothing is held yet; `larder pull REF` brings something".to_owned(),
            filter => format!("nothing that is held fits {}; `larder ls` lists everything", text::quoted(filter)),
        });
        return Ok(Exit::Done);
    }
    let person = output.is_read_by_a_person();
    let shown = if person && !arguments.all { TOLD } else { usize::MAX };
    let rows: Vec<Vec<String>> = artifacts.iter().take(shown).map(|one| row(one, person)).collect();
    output.data(&fit(&rows, output.columns()).join("\n"))?;
    if artifacts.len() > rows.len() {
        let more = text::number((artifacts.len() - rows.len()) as u64);
        output.data(&format!("… {more} more: `larder ls --all`"))?;
    }
    Ok(Exit::Done)
}

/// Lists everything that fits, page after page.
pub(super) async fn list(client: &Client, filter: &str, not_accepted: bool) -> Result<Vec<v1::ArtifactSummary>, Error> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListArtifactsRequest {
            filter: filter.to_owned(),
            page_size: PAGE,
            page_token: std::mem::take(&mut page_token),
            not_accepted,
        };
        let page = client.artifacts().list_artifacts(request).await?.into_inner();
        all.extend(page.artifacts);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

fn row(artifact: &v1::ArtifactSummary, for_a_person: bool) -> Vec<String> {
    let name = match artifact.tag.as_str() {
        "" => artifact.repository.clone(),
        tag => format!("{}:{tag}", artifact.repository),
    };
    let judged = artifact.verdict.as_ref().map_or(v1::State::Unspecified, v1::Verdict::state);
    vec![name, text::short(&artifact.digest), text::bytes(artifact.size), state::marked(judged, 0, for_a_person)]
}

async fn list_remote(client: &Client, repository: String, output: &Output) -> Result<Exit, Error> {
    let request = v1::ListRemoteTagsRequest { repository: repository.clone() };
    let v1::ListRemoteTagsResponse { tags, cut } = client.artifacts().list_remote_tags(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({"repository": repository, "tags": tags, "cut": cut}))?;
        return Ok(Exit::Done);
    }
    if !tags.is_empty() {
        output.data(&tags.join("\n"))?;
    } else if !cut {
        output.say(&format!("{repository} has no tags"));
    }
    if cut {
        let count = text::number(tags.len() as u64);
        output.warn(&format!("these are the first {count} tags; {repository} has more"));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_short_digest() {
        let artifact = v1::ArtifactSummary {
            repository: "docker.io/library/alpine".to_owned(),
            tag: "3.22".to_owned(),
            digest: "sha256:4bcff63911fcb4448bd4fdacec207030".to_owned(),
            size: 3_774_874,
            verdict: Some(v1::Verdict { state: v1::State::Unsigned.into(), ..v1::Verdict::default() }),
            ..v1::ArtifactSummary::default()
        };
        assert_eq!(
            fit(&[row(&artifact, false)], None),
            ["docker.io/library/alpine:3.22  4bcff63911fc  3.6 MiB  unsigned"]
        );
    }
}
