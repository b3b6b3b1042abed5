//! `larder quickstart`: the main job, end to end, on real parts.
//!
//! Two daemons with throw-away homes, an image made of the two programs themselves, a key made for the occasion; or one
//! daemon, and an image of the user's own from where it is ([`own`]). What a person would type is what runs: this program
//! calls itself, shows the command and shows its output. Only the watch, whose latency is measured, and the requests at
//! the endpoints are made in this process.

mod endpoint;
mod image;
mod own;
mod stage;

use std::fs;
use std::time::{Duration, Instant};

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::watch_event::Type;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use crate::error::{Error, FILE};
use crate::exit::Exit;
use crate::output::{Output, state, text, words};

use image::Image;
use stage::{AFTERWARDS, Machine, Stage, broken};

/// After how long the story counts as stuck; it takes a few seconds.
const STUCK: Duration = Duration::from_secs(180);
/// After how long it does with an image of the user's own, which has to be fetched first.
const STUCK_WITH_OWN: Duration = Duration::from_secs(3600);
/// How long a change of a verdict may take to arrive.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The repository of the image, as the upstream has it.
const REPOSITORY: &str = "quickstart/larder";
/// Its tag.
const TAG: &str = "v1";
/// What the key is called in the trust folder.
const KEY: &str = "quickstart";

/// See Larder's main job, end to end, in a throw-away home
#[derive(Debug, Args)]
#[command(
    after_help = "Without IMAGE it needs no network: it starts two daemons in a temporary folder, packs and signs an image, pulls and \
verifies it, takes the key away and puts it back, and removes everything at the end. With IMAGE it starts one daemon, and \
pulls that image from its registry, which is only read: the signature that is made stays in the throw-away home.

Examples:
  larder quickstart
  larder quickstart docker.io/library/alpine:3.22
  larder quickstart --output json"
)]
pub(crate) struct Arguments {
    /// An image of your own, from its registry [default: one that is made on the spot]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let mut stage = Stage::new(*output)?;
    let limit = if arguments.image.is_some() { STUCK_WITH_OWN } else { STUCK };
    let story = async {
        match &arguments.image {
            Some(image) => own::story(&mut stage, image).await,
            None => story(&mut stage).await,
        }
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, story) => {
            ended.unwrap_or_else(|_| Err(Error::new("stuck", format!("the quickstart did not end within {} s", limit.as_secs())).hint(AFTERWARDS)))
        }
        stopped = asked_to_stop() => Err(stopped.err().unwrap_or_else(|| Error::new("stopped", "stopped").hint(AFTERWARDS))),
    };
    let logs = if ended.is_err() { stage.logs() } else { String::new() };
    let removed = stage.clean_up().await;
    let told = match ended {
        Ok(told) => told,
        Err(error) => {
            output.detail(&logs);
            // What a file of a folder that is gone would need helps nobody.
            return Err(if error.reason() == FILE { error.hint(AFTERWARDS) } else { error });
        }
    };
    removed?;
    if output.is_json() {
        output.document(&json!({
            "ok": true,
            "reference": told.reference,
            "digest": told.digest,
            "seconds": stage.elapsed().as_secs_f64(),
            "rejected_after_ms": told.rejected_after.as_secs_f64() * 1e3,
            "accepted_after_ms": told.accepted_after.as_secs_f64() * 1e3,
            "steps": stage.steps(),
        }))?;
    } else {
        output.data(&format!(
            "\nThat was all of it, in {:.1} s: the daemons are stopped, the folder is gone, and your own home was not touched.\nNow: `larder pull {}`, `larder status`, `larder --help`.",
            stage.elapsed().as_secs_f64(),
            text::quoted(arguments.image.as_deref().unwrap_or("docker.io/library/alpine:3.22"))
        ))?;
    }
    Ok(Exit::Done)
}

/// Waits for Ctrl-C, a request to end, or the loss of the terminal.
///
/// By default the latter two end this process at once, and the daemons, which are in process groups of their own,
/// would outlive it together with their folder.
async fn asked_to_stop() -> Result<(), Error> {
    let failed = |error| Error::file("signals cannot be waited for", &error);
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = hang_up.recv() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What the story was about, and what it measured.
struct Told {
    reference: String,
    digest: String,
    rejected_after: Duration,
    accepted_after: Duration,
}

async fn story(stage: &mut Stage) -> Result<Told, Error> {
    stage.step("Two daemons: `upstream` plays the registry (its gate is off), `here` is this machine.")?;
    let upstream = stage.start("upstream", Some("gate = \"off\"\n")).await?;
    let here = stage.start("here", None).await?;
    let image = publish(stage, &upstream).await?;

    stage.step("A key pair in cosign's format. The private key is used by this client alone: the daemon says what to sign and stores the signature.")?;
    stage.larder(&upstream, &["key", "generate"], 0).await?;
    let local = format!("localhost/{REPOSITORY}:{TAG}");
    stage.larder(&upstream, &["sign", "--key", "cosign.key", &local], 0).await?;

    stage.step("This machine trusts the key, and pulls. The signature comes along, and everything is judged here.")?;
    let reference = format!("{}/{REPOSITORY}:{TAG}", upstream.endpoint);
    stage.larder(&here, &["trust", "add", "cosign.pub", "--name", KEY], 0).await?;
    stage.larder(&here, &["pull", "--verified", &reference], 0).await?;
    stage.larder(&here, &["verify", &reference], 0).await?;
    stage.larder(&here, &["ls"], 0).await?;
    let subject = Subject {
        reference,
        served: served(&format!("{}/{REPOSITORY}", upstream.endpoint)),
        tag: TAG.to_owned(),
        digest: image.manifest.digest,
        manifest: image.manifest.bytes,
        blobs: vec![image.config.digest, image.layer.digest],
    };
    read_back(stage, &here, &subject).await?;
    change_of_trust(stage, &here, subject).await
}

/// Packs the two programs and writes them to the upstream's endpoint, as any tool could.
async fn publish(stage: &mut Stage, upstream: &Machine) -> Result<Image, Error> {
    stage.step("A real image: the two programs that run right now, as one layer, written to the registry.")?;
    let folder = stage.folder().join("image");
    let programs = stage.programs();
    let packed = tokio::task::spawn_blocking(move || Image::pack(&folder, &programs)).await;
    let image = packed.map_err(|_| broken("packing the image was stopped"))??;
    stage.command(
        upstream,
        &format!(
            "skopeo copy --dest-tls-verify=false oci:image:{TAG} docker://{}/{REPOSITORY}:{TAG}",
            upstream.endpoint
        ),
    )?;
    endpoint::push(&upstream.endpoint, REPOSITORY, TAG, &image).await?;
    stage.told(&format!(
        "written over HTTP, which is what that command does: {}, {}",
        text::short(&image.manifest.digest),
        text::bytes(image.layer.size)
    ))?;
    Ok(image)
}

/// What the story is about, as this machine has it.
struct Subject {
    /// As a person names it.
    reference: String,
    /// Its path at this machine's endpoint.
    served: String,
    tag: String,
    digest: String,
    manifest: Vec<u8>,
    /// Its blobs that are read at the endpoint, the one last that is asked for again and again.
    blobs: Vec<String>,
}

/// Returns a repository's path at an endpoint: a registry's name is a folder there, with `_` for the colon.
fn served(repository: &str) -> String {
    match repository.split_once('/') {
        Some(("localhost", path)) => path.to_owned(),
        Some((registry, path)) => format!("{}/{path}", registry.replace(':', "_")),
        None => repository.to_owned(),
    }
}

async fn read_back(stage: &mut Stage, here: &Machine, subject: &Subject) -> Result<(), Error> {
    stage.step("Any tool reads it from this machine's endpoint now, with the registry gone or not.")?;
    let Subject { served, tag, .. } = subject;
    stage.command(
        here,
        &format!("skopeo copy --src-tls-verify=false docker://{}/{served}:{tag} dir:copy", here.endpoint),
    )?;
    let manifest = endpoint::manifest(&here.endpoint, served, tag).await?;
    if manifest != subject.manifest {
        return Err(broken("the manifest that the endpoint serves is not the one that was pulled"));
    }
    for digest in &subject.blobs {
        let answer = endpoint::blob(&here.endpoint, served, digest).await?;
        if answer.status != 200 || answer.digest != *digest {
            let message = format!("the endpoint answered {} with other bytes for {digest}", answer.status);
            return Err(broken(message));
        }
    }
    stage.told("read over HTTP: manifest, config and layer, every digest unchanged")
}

/// Takes the key away, puts it back, and shows what is on record about that.
async fn change_of_trust(stage: &mut Stage, here: &Machine, subject: Subject) -> Result<Told, Error> {
    let Subject { reference, served, digest, blobs, .. } = subject;
    let layer = blobs.last().cloned().unwrap_or_default();
    stage.step("Now the key is removed, as any editor, tool or `git pull` would: a file is deleted. Every verdict that rests on it changes at once.")?;
    let mut watch = watch(here).await?;
    let file = here.place.home.join("trust/keys").join(format!("{KEY}.pub"));
    let failed = |error| Error::file(&file.display().to_string(), &error);
    stage.command(here, "larder watch &")?;
    stage.command(here, &format!("rm $LARDER_HOME/trust/keys/{KEY}.pub"))?;
    let begun = Instant::now();
    fs::remove_file(&file).map_err(failed)?;
    let change = changed(&mut watch, &digest, false).await?;
    let rejected_after = begun.elapsed();
    stage.told(&tell(&change, rejected_after))?;
    stage.larder(here, &["status", &reference], 3).await?;
    let refused = endpoint::blob(&here.endpoint, &served, &layer).await?;
    if refused.status != 403 {
        return Err(broken(format!("the endpoint answered {} and not 403", refused.status)));
    }
    stage.told(&format!("and the endpoint refuses its layer: 403, {}", refused.message))?;

    stage.step("The key comes back, and so does the image: no check is computed again, nothing is pulled.")?;
    stage.command(here, &format!("cp cosign.pub $LARDER_HOME/trust/keys/{KEY}.pub"))?;
    let begun = Instant::now();
    fs::copy(stage.folder().join("cosign.pub"), &file).map_err(failed)?;
    let change = changed(&mut watch, &digest, true).await?;
    let accepted_after = begun.elapsed();
    stage.told(&tell(&change, accepted_after))?;
    let answer = endpoint::blob(&here.endpoint, &served, &layer).await?;
    if answer.status != 200 || answer.digest != layer {
        return Err(broken(format!("the endpoint answered {} after the key came back", answer.status)));
    }
    stage.told("and the endpoint serves its layer again: 200")?;

    stage.step("Nothing of that is forgotten: both changes, with their causes.")?;
    stage.larder(here, &["log", &reference], 0).await?;
    Ok(Told { reference, digest, rejected_after, accepted_after })
}

/// Opens a watch and reads to the end of its snapshot, after which every change is told.
async fn watch(machine: &Machine) -> Result<Streaming<v1::WatchEvent>, Error> {
    let request = v1::WatchRequest { from: None };
    let mut events = machine.client.verification().watch(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if event.r#type() == Type::Complete {
            return Ok(events);
        }
    }
    Err(broken("the watch ended before its snapshot was complete"))
}

/// Waits until a digest becomes accepted, or ceases to be.
async fn changed(
    events: &mut Streaming<v1::WatchEvent>,
    digest: &str,
    accepted: bool,
) -> Result<v1::WatchEvent, Error> {
    let find = async {
        while let Some(event) = events.message().await? {
            let fits = event.digest == digest && state::is_accepted(event.to()) == accepted;
            if event.r#type() == Type::Change && fits {
                return Ok(event);
            }
        }
        Err(broken("the watch ended"))
    };
    tokio::time::timeout(CHANGE_TIMEOUT, find)
        .await
        .unwrap_or_else(|_| Err(broken(format!("no change came within {} s", CHANGE_TIMEOUT.as_secs()))))
}

fn tell(change: &v1::WatchEvent, after: Duration) -> String {
    let cause = change.cause.as_ref().map(words::cause).unwrap_or_default();
    format!(
        "#{} on the watch {:.0} ms later: {} → {}  {}  ({cause})",
        change.seq,
        after.as_secs_f64() * 1e3,
        state::name(change.from()),
        state::coloured(change.to(), 0),
        words::because(&change.reasons)
    )
}
