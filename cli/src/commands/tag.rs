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
  larder tag quay.io/store/app@sha256:… quay.io/store/app:1.4    # undoes `larder rm`")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "SRC")]
    source: String,
    /// Its new name, REPOSITORY or REPOSITORY:TAG
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
    output.data(&line(&tagged))?;
    if let Some(before) = before(&tagged) {
        output.say(&before);
    }
    Ok(Exit::Done)
}

fn line(tagged: &v1::SetTagResponse) -> String {
    let name = format!("{}:{}", tagged.repository, tagged.tag);
    let digest = text::short(&tagged.digest);
    if tagged.seq == 0 {
        return format!("{name} names {digest} already; nothing was changed");
    }
    format!("{name} → {digest}")
}

/// Says what a tag named that moved, and how it names that again.
fn before(tagged: &v1::SetTagResponse) -> Option<String> {
    let v1::SetTagResponse { repository, tag, digest, old, .. } = tagged;
    if old.is_empty() || old == digest {
        return None;
    }
    Some(format!(
        "  it named {} before; to put it back: `larder tag {repository}@{old} {repository}:{tag}`",
        text::short(old)
    ))
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
        assert_eq!(line(&tagged), "localhost/team/app:dev → 6f1c0e2b9d77");
        let back = "`larder tag localhost/team/app@sha256:4bcff63911fcb4 localhost/team/app:dev`";
        assert_eq!(before(&tagged), Some(format!("  it named 4bcff63911fc before; to put it back: {back}")));
        tagged.seq = 0;
        assert_eq!(line(&tagged), "localhost/team/app:dev names 6f1c0e2b9d77 already; nothing was changed");
        tagged.old.clear();
        assert_eq!(before(&tagged), None);
    }
}
