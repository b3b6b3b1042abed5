//! `larder tag`.

use clap::Args;
use larder_proto::v1;
use serde_json::json;

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, json, text};

/// Give what is held another name
///
/// The name is local: nothing is sent to a registry. In another repository the artifact is judged under that name, by the
/// keys and policies that are for it. Under a registry's name a tag says what the registry said: only a name that it gave
/// before can be put back, unless `endpoint.push_to` in config.toml lists the repository.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder tag registry.example.org/store/app:1.4 localhost/team/app:dev
  larder tag localhost/team/app:dev localhost/team/app:stable
  larder tag registry.example.org/store/app@sha256:… registry.example.org/store/app:1.4   # undoes `larder rm`")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "SRC")]
    source: String,
    /// Its new name, REPOSITORY[:TAG]
    #[arg(value_name = "DST")]
    target: String,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let request = v1::SetTagRequest { source: arguments.source, target: arguments.target };
    let tagged = client.artifacts().set_tag(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({
            "repository": tagged.repository,
            "tag": tagged.tag,
            "digest": tagged.digest,
            "old": json::text_of(&tagged.old),
            "seq": tagged.seq,
            "verdict": json::verdict_of(tagged.verdict.as_ref()),
        }))?;
        return Ok(Exit::Done);
    }
    lines(&tagged).iter().for_each(|line| output.say(line));
    Ok(Exit::Done)
}

fn lines(tagged: &v1::SetTagResponse) -> Vec<String> {
    let name = format!("{}:{}", tagged.repository, tagged.tag);
    let digest = text::short(&tagged.digest);
    if tagged.seq == 0 {
        return vec![format!("{name} names {digest} already; nothing was changed")];
    }
    let mut lines = vec![format!("{name} → {digest}")];
    if !tagged.old.is_empty() && tagged.old != tagged.digest {
        let old = text::short(&tagged.old);
        lines.push(format!("  it named {old} before: `larder tag {}@{} {name}`", tagged.repository, tagged.old));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tag_named_before_can_be_put_back() {
        let mut tagged = v1::SetTagResponse {
            repository: "localhost/team/app".to_owned(),
            tag: "dev".to_owned(),
            digest: "sha256:6f1c0e2b9d77aa".to_owned(),
            old: "sha256:4bcff63911fcb4".to_owned(),
            seq: 7,
            verdict: None,
        };
        assert_eq!(
            lines(&tagged),
            [
                "localhost/team/app:dev → 6f1c0e2b9d77",
                "  it named 4bcff63911fc before: `larder tag localhost/team/app@sha256:4bcff63911fcb4 localhost/team/app:dev`",
            ]
        );
        tagged.seq = 0;
        assert_eq!(lines(&tagged), ["localhost/team/app:dev names 6f1c0e2b9d77 already; nothing was changed"]);
    }
}
