//! `larder rm`.

use clap::Args;
use larder_proto::v1;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, text};

/// Remove tags; what they named stays held, by its digest
///
/// All of them are removed, or none. The registry is not asked, and not changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder rm registry.example.org/store/app:1.3
  larder rm --dry-run localhost/team/app:dev localhost/team/app:old")]
pub(crate) struct Arguments {
    /// A tag that is held here; `latest` where none is named
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let request = v1::RemoveTagsRequest { references: arguments.references, dry_run: arguments.dry_run };
    let removed = client.artifacts().remove_tags(request).await?.into_inner();
    if output.is_json() {
        output.document(&to_json(&removed, arguments.dry_run))?;
        return Ok(Exit::Done);
    }
    for one in &removed.removed {
        output.data(&line(one, arguments.dry_run))?;
        if !arguments.dry_run {
            output.say(&back(one));
        }
    }
    if arguments.dry_run {
        output.data("nothing was changed")?;
    }
    Ok(Exit::Done)
}

fn line(one: &v1::RemovedTag, dry_run: bool) -> String {
    let name = format!("{}:{}", one.repository, one.tag);
    let digest = text::short(&one.digest);
    let stays = match one.other_tags.as_slice() {
        [] => format!("{digest} stays, without a tag"),
        tags => format!("{digest} is still {}", tags.join(", ")),
    };
    let verb = if dry_run { "would remove" } else { "removed" };
    format!("{verb} {name}  ({stays})")
}

fn back(one: &v1::RemovedTag) -> String {
    let v1::RemovedTag { repository, tag, digest, .. } = one;
    format!("  to put it back: `larder tag {repository}@{digest} {repository}:{tag}`")
}

fn to_json(removed: &v1::RemoveTagsResponse, dry_run: bool) -> Value {
    let one = |one: &v1::RemovedTag| {
        json!({
            "repository": one.repository,
            "tag": one.tag,
            "digest": one.digest,
            "other_tags": one.other_tags,
        })
    };
    json!({
        "applied": !dry_run,
        "seq": removed.seq,
        "removed": removed.removed.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_says_what_stays_and_how_to_undo_it() {
        let mut one = v1::RemovedTag {
            repository: "r.io/app".to_owned(),
            tag: "1.3".to_owned(),
            digest: "sha256:6f1c0e2b9d77aa".to_owned(),
            other_tags: vec![],
        };
        assert_eq!(line(&one, false), "removed r.io/app:1.3  (6f1c0e2b9d77 stays, without a tag)");
        assert_eq!(back(&one), "  to put it back: `larder tag r.io/app@sha256:6f1c0e2b9d77aa r.io/app:1.3`");
        one.other_tags = vec!["1".to_owned(), "stable".to_owned()];
        assert_eq!(line(&one, true), "would remove r.io/app:1.3  (6f1c0e2b9d77 is still 1, stable)");
    }
}
