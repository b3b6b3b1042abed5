//! `larder load`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use larder_proto::v1;
use larder_proto::v1::load_request::Request;
use larder_proto::v1::load_response::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::pull;
use crate::archive::Archive;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::{Output, json, state, text, words};
use crate::progress::TransferProgress;

/// How many files are listed in one message.
const FILES: usize = 1000;
/// How many pieces wait to be sent.
const PIECES: usize = 4;

/// Load images with everything that is attached to them from an OCI image layout
///
/// Reads what larder, cosign, skopeo, oras and crane save as a layout, and what docker and podman save: a folder, a tar, a
/// tar.gz, or with - any of those tars on standard input. Names are those that the archive claims: --as says another.
/// Whatever is loaded is judged under this site's trust; a load brings all of it, or nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is here, whatever the verdict; with --dry-run, 0 where all would be accepted, 3
where one would not, and 4 where one cannot be judged yet; 1 where it could not be loaded.

Examples:
  larder load app.tar
  larder load layout --as registry.example.org/store/app
  larder load layout --ref 1.4 --as registry.example.org/store/app:1.4
  docker save alpine:3.22 | larder load -
  larder load --dry-run app.tar"
)]
pub(crate) struct Arguments {
    /// What to load, each an operation of its own; with --dir, the name to load it as, as cosign has it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The repository to load into, or with a tag the whole name [default: the names in the archive]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Load only this: a name in the archive, a tag, or a digest
    #[arg(long = "ref", value_name = "NAME")]
    references: Vec<String>,
    /// Say what would come and how it would be judged, and keep nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    registry: Registry,
    /// The layout, as cosign has it
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    dir: Option<PathBuf>,
}

/// What of an archive is loaded, and as what.
struct Wanted {
    name: String,
    references: Vec<String>,
    dry_run: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { mut paths, mut name, references, dry_run, dir, registry } = arguments;
    registry.tell(output);
    if let Some(dir) = dir {
        if paths.len() != 1 {
            return Err(Error::usage("with --dir, one name follows").hint("`larder load --dir PATH NAME`"));
        }
        name = paths.pop().map(|name| name.display().to_string());
        paths = vec![dir];
    }
    let wanted = Wanted { name: name.unwrap_or_default(), references, dry_run };
    let client = connect(output).await?;
    let mut documents = Vec::new();
    let mut exit = Exit::Done;
    let mut failed = None;
    for path in &paths {
        let loaded = match load(&client, path, &wanted, output).await {
            Ok(loaded) => loaded,
            Err(error) => {
                failed = Some(error.about_unless_named(&path.display().to_string()));
                break;
            }
        };
        exit = tell(path, &loaded, dry_run, output)?.or_worse(exit);
        documents.push(to_json(path, &loaded));
    }
    // What was loaded before one failed stays, and is told.
    if output.is_json() && !documents.is_empty() {
        output.document(&Value::from(documents))?;
    }
    failed.map_or(Ok(exit), Err)
}

/// Loads one archive: sends the daemon what it asks for.
async fn load(client: &Client, path: &Path, wanted: &Wanted, output: &Output) -> Result<v1::Loaded, Error> {
    let archive = Archive::open(path)?;
    let (requests, sent) = mpsc::channel(PIECES);
    let requested = stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
    let begin = v1::LoadBegin {
        name: wanted.name.clone(),
        references: wanted.references.clone(),
        dry_run: wanted.dry_run,
        place: if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() },
    };
    let mut layouts = client.layouts();
    // The daemon answers when it has the list.
    let (answer, ()) = tokio::join!(layouts.load(requested), introduce(&requests, begin, &archive));
    let mut events = answer?.into_inner();
    let mut progress = TransferProgress::new(output);
    loop {
        let event = tokio::select! {
            event = events.message() => event,
            _ = tokio::signal::ctrl_c() => {
                progress.finish();
                return Err(pull::stopped());
            }
        };
        let event = event.inspect_err(|_| progress.finish())?;
        match event.and_then(|event| event.event) {
            Some(Event::Read(read)) => answer_read(&requests, &archive, &read).await,
            Some(Event::Progress(now)) => progress.update(&now),
            Some(Event::Loaded(loaded)) => {
                progress.finish();
                return Ok(loaded);
            }
            None => {
                progress.finish();
                return Err(Error::new("incomplete", "larderd ended before it was loaded")
                    .hint("nothing is visible of it; load it again"));
            }
        }
    }
}

/// Sends something to the daemon; where it does not take it, it has said or says why.
async fn send(requests: &mpsc::Sender<v1::LoadRequest>, request: Request) -> bool {
    requests.send(v1::LoadRequest { request: Some(request) }).await.is_ok()
}

/// Says what is wanted, and which files there are.
async fn introduce(requests: &mpsc::Sender<v1::LoadRequest>, begin: v1::LoadBegin, archive: &Archive) {
    if !send(requests, Request::Begin(begin)).await {
        return;
    }
    let mut pages = archive.files().chunks(FILES).peekable();
    loop {
        let page = pages.next().unwrap_or_default();
        let files = page.iter().map(|(name, size)| v1::LayoutFile { name: name.clone(), size: *size }).collect();
        let last = pages.peek().is_none();
        if !send(requests, Request::Files(v1::LayoutFiles { files, last })).await || last {
            return;
        }
    }
}

/// Sends a part of a file.
async fn answer_read(requests: &mpsc::Sender<v1::LoadRequest>, archive: &Archive, read: &v1::LayoutRead) {
    let data = |data: Vec<u8>, last| v1::LayoutData {
        number: read.number,
        data: Bytes::from(data),
        last,
        error: String::new(),
    };
    let mut part = archive.read(&read.name, read.offset, read.length);
    loop {
        let piece = part.as_mut().map_err(|why| why.clone()).and_then(|part| part.next(larder_proto::CHUNK_BYTES));
        let (data, last) = match piece {
            Ok((bytes, last)) => (data(bytes, last), last),
            Err(error) => (v1::LayoutData { error, ..data(Vec::new(), true) }, true),
        };
        if !send(requests, Request::Data(data)).await || last {
            return;
        }
    }
}

fn reference_of(artifact: &v1::LoadedArtifact) -> String {
    if artifact.tag.is_empty() {
        format!("{}@{}", artifact.repository, text::short(&artifact.digest))
    } else {
        format!("{}:{}", artifact.repository, artifact.tag)
    }
}

fn tell(path: &Path, loaded: &v1::Loaded, dry_run: bool, output: &Output) -> Result<Exit, Error> {
    let states = loaded
        .artifacts
        .iter()
        .map(|artifact| artifact.verdict.as_ref().map_or(v1::State::Unspecified, |verdict| verdict.state()));
    let exit = if dry_run { states.map(Exit::of).fold(Exit::Done, Exit::or_worse) } else { Exit::Done };
    if output.is_json() {
        return Ok(exit);
    }
    for note in &loaded.notes {
        output.warn(&text::short_digests(note));
    }
    for artifact in &loaded.artifacts {
        tell_one(artifact, dry_run, output)?;
    }
    if output.is_quiet() {
        return Ok(exit);
    }
    let present = match loaded.bytes_present {
        0 => String::new(),
        bytes => format!(" ({} already here)", text::bytes(bytes)),
    };
    let moved = text::bytes(loaded.bytes_moved);
    output.say(&match (dry_run, loaded.bytes_moved) {
        (true, _) => format!("{}: {moved} would move{present}; nothing was changed", path.display()),
        (false, 0) => format!("loaded from {}: nothing had to move{present}", path.display()),
        (false, _) => format!("loaded from {}: {moved} moved{present}", path.display()),
    });
    Ok(exit)
}

fn tell_one(artifact: &v1::LoadedArtifact, dry_run: bool, output: &Output) -> Result<(), Error> {
    let reference = reference_of(artifact);
    if output.is_quiet() {
        let state = artifact.verdict.as_ref().map_or("", |verdict| state::name(verdict.state()));
        return output.data(&format!("{}@{}  {state}", artifact.repository, artifact.digest));
    }
    let resolved = v1::Resolved {
        digest: artifact.digest.clone(),
        media_type: artifact.media_type.clone(),
        left_out: artifact.left_out,
        ..v1::Resolved::default()
    };
    output.say(&pull::resolved_line(&reference, &resolved));
    if !artifact.entry_name.is_empty() && artifact.entry_name != artifact.tag && artifact.entry_name != reference {
        output.say(&format!("  called {} in the archive", artifact.entry_name));
    }
    if !artifact.replaced.is_empty() {
        let verb = if dry_run { "names" } else { "named" };
        output.say(&format!("  {} {verb} {} before", artifact.tag, text::short(&artifact.replaced)));
    }
    let counts = v1::Finished {
        signatures: artifact.signatures,
        attestations: artifact.attestations,
        sboms: artifact.sboms,
        others: artifact.others,
        ..v1::Finished::default()
    };
    pull::attached_line(&counts).iter().for_each(|line| output.say(line));
    if let Some(verdict) = &artifact.verdict {
        output.say(&pull::verdict_line(verdict, output.talks_on_terminal()));
        if let Some(remedy) = words::remedy(verdict) {
            output.say(&format!("  hint: {remedy}"));
        }
    }
    Ok(())
}

fn to_json(path: &Path, loaded: &v1::Loaded) -> Value {
    let artifact = |artifact: &v1::LoadedArtifact| {
        json!({
            "entry_name": json::text_of(&artifact.entry_name),
            "repository": artifact.repository,
            "tag": json::text_of(&artifact.tag),
            "digest": artifact.digest,
            "media_type": artifact.media_type,
            "left_out": artifact.left_out,
            "attached": {
                "signatures": artifact.signatures,
                "attestations": artifact.attestations,
                "sboms": artifact.sboms,
                "others": artifact.others,
            },
            "replaced": json::text_of(&artifact.replaced),
            "verdict": json::verdict_of(artifact.verdict.as_ref()),
        })
    };
    json!({
        "path": path.display().to_string(),
        "artifacts": loaded.artifacts.iter().map(artifact).collect::<Vec<_>>(),
        "moved": {
            "bytes": loaded.bytes_moved,
            "blobs": loaded.blobs_moved,
            "manifests": loaded.manifests_moved,
            "bytes_present": loaded.bytes_present,
        },
        "notes": loaded.notes,
        "seq": loaded.seq,
    })
}
