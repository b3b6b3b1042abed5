//! `larder push`.

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::sync_event::Event;
use serde_json::json;

use super::pull;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, json};
use crate::progress::TransferProgress;

/// Push an image with everything that is attached to it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder push registry.example.org/store/app:1.4
  larder push registry.example.org/store/app:1.4 mirror.example.org/store/app:1.4
  larder push localhost/team/app:dev registry.example.org/team/app:dev
  larder push --signatures registry.example.org/store/app:1.4    # the image is there already")]
pub(crate) struct Arguments {
    /// What to push: something that is held here
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to [default: the source's own repository and tag]
    #[arg(value_name = "DEST")]
    destination: Option<String>,
    /// Push only what is attached: signatures, attestations, SBOMs
    #[arg(long)]
    signatures: bool,
}

impl Arguments {
    /// Asks for all of what is held to go somewhere.
    pub(super) fn of(source: String, destination: String) -> Self {
        Self { source, destination: Some(destination), signatures: false }
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { source, destination, signatures } = arguments;
    let client = connect(output).await?;
    let scope = if signatures { v1::PushScope::Attached } else { v1::PushScope::Whole };
    push(&client, source, destination.unwrap_or_default(), scope, output).await
}

/// Pushes what is attached to an artifact to where it came from.
///
/// # Errors
/// Fails where the registry refuses it, or does not hold the artifact.
pub(super) async fn attached(client: &Client, reference: &str, output: &Output) -> Result<Exit, Error> {
    push(client, reference.to_owned(), String::new(), v1::PushScope::Attached, output).await
}

async fn push(
    client: &Client,
    source: String,
    destination: String,
    scope: v1::PushScope,
    output: &Output,
) -> Result<Exit, Error> {
    let target = if destination.is_empty() { source.clone() } else { destination.clone() };
    let request = v1::PushRequest { source: source.clone(), destination, scope: scope.into() };
    let mut events = client.sync().push(request).await?.into_inner();
    let mut progress = TransferProgress::new(output);
    let mut resolved = None;
    loop {
        let event = tokio::select! {
            event = events.message() => event?,
            _ = tokio::signal::ctrl_c() => {
                progress.finish();
                return Err(pull::stopped());
            }
        };
        let Some(v1::SyncEvent { event: Some(event), .. }) = event else {
            return Err(Error::new("incomplete", format!("larderd ended the push of {source} before it was done"))
                .hint("push it again; what arrived need not move twice"));
        };
        match event {
            Event::Resolved(now) => {
                output.say(&pull::resolved_line(&source, &now));
                resolved = Some(now);
            }
            Event::Progress(now) => progress.update(&now),
            // Only pulls list.
            Event::Listed(_) => {}
            Event::Failed(failed) => {
                progress.finish();
                let told = pull::told(failed);
                let named = told.message.contains(&source) || told.message.contains(&target);
                let error = Error::Told(Box::new(told));
                return Err(if named { error } else { error.about(&source) });
            }
            Event::Finished(finished) => {
                progress.finish();
                tell(&source, &target, resolved.as_ref(), &finished, output)?;
                return Ok(Exit::Done);
            }
        }
    }
}

fn tell(
    source: &str,
    target: &str,
    resolved: Option<&v1::Resolved>,
    finished: &v1::Finished,
    output: &Output,
) -> Result<(), Error> {
    if output.is_json() {
        return output.document(&json!({
            "source": source,
            "destination": target,
            "digest": resolved.map_or(json!(null), |resolved| json::text_of(&resolved.digest)),
            "moved": pull::moved(finished),
            "attached": pull::attached(finished),
            "seq": finished.seq,
        }));
    }
    for line in pull::lines(finished, output.talks_on_terminal()) {
        output.say(&line.replace("already here", "already there"));
    }
    output.say(&format!("pushed to {target}"));
    Ok(())
}
