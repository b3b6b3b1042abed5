//! `larder save`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::save_response::Event;
use serde_json::{Value, json};

use super::pull;
use crate::archive::Writer;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::{Output, OutputArgument, json, text};
use crate::progress::TransferProgress;

/// Save images with everything that is attached to them as an OCI image layout
///
/// A layout holds what cosign, skopeo, oras, crane, podman and larder read. What is not accepted is not saved. Into a
/// folder that is a layout already, images are added.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder save registry.example.org/store/app:1.4 --output app.tar
  larder save registry.example.org/store/app:1.4 registry.example.org/store/db:2 --output layout
  larder save docker.io/library/alpine:3.22 -o - | ssh host larder load -
  skopeo copy oci:layout:1.4 docker://mirror.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    /// What to save: something that is held here
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
    /// Where to: a tar where it ends in .tar, `-` for a tar on standard output, else a folder; or json, with --dir
    #[arg(short, long, value_name = "PATH", value_parser = OutputArgument::place_or_format)]
    output: Option<OutputArgument>,
    #[command(flatten)]
    registry: Registry,
    /// Where to, as cosign has it
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { references, output: place, dir, registry } = arguments;
    registry.tell(output);
    let path = match (place, dir) {
        (Some(OutputArgument::Place(_)), Some(_)) => {
            return Err(Error::usage("--output and --dir say two places").hint("name one"));
        }
        (Some(OutputArgument::Place(path)), None) | (_, Some(path)) => path,
        (_, None) => {
            return Err(Error::usage("nothing says where to save").hint("`--output PATH`, as in --output app.tar"));
        }
    };
    let is_stream = path == Path::new("-");
    if is_stream && std::io::stdout().is_terminal() {
        return Err(
            Error::usage("a tar is not written to a terminal").hint("redirect it, or name a file: --output app.tar")
        );
    }
    let client = connect(output).await?;
    let (writer, index) = Writer::open(&path)?;
    let place = if is_stream { "standard output".to_owned() } else { path.display().to_string() };
    let request = v1::SaveRequest { references, index: index.into(), place: place.clone() };
    let mut events = client.layouts().save(request).await.map_err(|status| refused(status.into()))?.into_inner();
    let mut progress = TransferProgress::new(output);
    let saved = receive(&mut events, writer, &mut progress, output).await;
    progress.finish();
    tell(&place, &saved?, is_stream, output)?;
    Ok(Exit::Done)
}

/// Writes what comes; the layout is whole when this returns.
async fn receive(
    events: &mut tonic::Streaming<v1::SaveResponse>,
    mut writer: Writer,
    progress: &mut TransferProgress<'_>,
    output: &Output,
) -> Result<v1::Saved, Error> {
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| refused(status.into()))?,
            _ = tokio::signal::ctrl_c() => return Err(Error::new("stopped", "stopped").hint("no layout was left; what was there is as it was")),
        };
        match event.and_then(|event| event.event) {
            Some(Event::File(file)) => writer.begin(&file.name, file.size)?,
            Some(Event::Data(bytes)) => writer.data(&bytes)?,
            Some(Event::Progress(now)) => progress.update(&now),
            Some(Event::Warning(line)) => progress.aside(|| output.warn(&line)),
            Some(Event::Saved(saved)) => {
                writer.finish()?;
                return Ok(saved);
            }
            None => {
                return Err(Error::new("incomplete", "larderd ended before the layout was whole")
                    .hint("nothing was saved; try again"));
            }
        }
    }
}

/// Gives what the gate holds back the exit code that says so.
fn refused(error: Error) -> Error {
    let exit = match error.reason() {
        "not-accepted" => Exit::NotAccepted,
        "pending" => Exit::Pending,
        _ => return error,
    };
    error.exits(exit)
}

fn tell(place: &str, saved: &v1::Saved, is_stream: bool, output: &Output) -> Result<(), Error> {
    if output.is_json() && !is_stream {
        return output.document(&json!({
            "place": place,
            "bytes": saved.bytes,
            "artifacts": saved.artifacts.iter().map(to_json).collect::<Vec<_>>(),
            "seq": saved.seq,
        }));
    }
    for artifact in &saved.artifacts {
        output.say(&format!("{}  {}", artifact.reference, text::short(&artifact.digest)));
        let counts = v1::Finished {
            signatures: artifact.signatures,
            attestations: artifact.attestations,
            sboms: artifact.sboms,
            others: artifact.others,
            ..v1::Finished::default()
        };
        pull::attached_line(&counts).iter().for_each(|line| output.say(line));
        let asked_for = artifact.reference.rsplit(':').next().unwrap_or_default();
        if !artifact.entry_name.is_empty() && artifact.entry_name != asked_for {
            output.say(&format!("  called {} in the layout, for another image has the tag", artifact.entry_name));
        }
    }
    output.say(&format!("saved to {place}, {}", text::bytes(saved.bytes)));
    Ok(())
}

fn to_json(artifact: &v1::SavedArtifact) -> Value {
    json!({
        "reference": artifact.reference,
        "repository": artifact.repository,
        "tag": json::text_of(&artifact.tag),
        "digest": artifact.digest,
        "media_type": artifact.media_type,
        "entry_name": json::text_of(&artifact.entry_name),
        "attached": {
            "signatures": artifact.signatures,
            "attestations": artifact.attestations,
            "sboms": artifact.sboms,
            "others": artifact.others,
        },
    })
}
