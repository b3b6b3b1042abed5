//! `larder.v1.Layouts`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_core::Reference;
use larder_proto::v1;
use larder_proto::v1::layouts_server::Layouts;
use larder_proto::v1::load_request::Request as Asked;
use larder_proto::v1::load_response::Event as LoadEvent;
use larder_proto::v1::save_response::Event as SaveEvent;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::calls::too_large;
use super::status::ApiError;
use super::{actor, convert, stopping};
use crate::ops::Ctx;
use crate::ops::load::{self, Ask, Carrier, Files, Judged, LoadOptions, Loaded, LoadedImage, Progress, load};
use crate::ops::save::{Index, LayoutSink, Piece, SaveError, SavedArtifact, Step, save};

/// The most references of one save or load.
const MAX_REFERENCES: usize = 1000;
/// The longest name of a place that is put on record.
const MAX_PLACE: usize = 4096;
/// How often a transfer says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How many events may wait for a slow client: pieces of 256 KiB.
const EVENTS: usize = 8;
/// How long a client may be silent that was asked for something.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) cancel: CancellationToken,
}

type SaveEvents = mpsc::Sender<Result<v1::SaveResponse, Status>>;
type LoadEvents = mpsc::Sender<Result<v1::LoadResponse, Status>>;

#[tonic::async_trait]
impl Layouts for Service {
    type SaveStream = ReceiverStream<Result<v1::SaveResponse, Status>>;
    type LoadStream = ReceiverStream<Result<v1::LoadResponse, Status>>;

    async fn save(&self, request: Request<v1::SaveRequest>) -> Result<Response<Self::SaveStream>, Status> {
        let actor = actor(&request, "save");
        let v1::SaveRequest { references: names, index, place } = request.into_inner();
        if names.is_empty() || names.len() > MAX_REFERENCES {
            let message = format!("a save takes 1 to {MAX_REFERENCES} references");
            return Err(ApiError::invalid("invalid-argument", message).into());
        }
        let references: Vec<Reference> =
            names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(ApiError::from)?;
        let index = if index.is_empty() { Index::new() } else { Index::parse(&index).map_err(ApiError::from)? };
        let place = checked_place(place)?;
        let (events, stream) = mpsc::channel(EVENTS);
        let (ctx, cancel) = (self.ctx.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let all = async {
                let (pieces, written) = mpsc::channel(EVENTS);
                let sink = LayoutSink::new(pieces);
                let steps = Steps::default();
                let saving = async {
                    let on_step = |step| steps.take(step);
                    let saved = save(&ctx, actor, &references, index, &place, &sink, &on_step).await;
                    let bytes = sink.bytes();
                    // The end of the pieces is the end of the layout.
                    drop(sink);
                    (saved, bytes)
                };
                let ((saved, bytes), ()) = tokio::join!(saving, forward(written, &steps, &events));
                steps.warn(&events).await;
                finish(saved, bytes, &names, &events).await;
            };
            tokio::select! {
                () = all => {}
                () = events.closed() => {}
                () = cancel.cancelled() => stopping(&events).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn load(&self, request: Request<Streaming<v1::LoadRequest>>) -> Result<Response<Self::LoadStream>, Status> {
        let actor = actor(&request, "load");
        let mut requests = request.into_inner();
        let (options, dry_run) = begin(&mut requests).await?;
        let files = files(&mut requests).await?;
        let (events, stream) = mpsc::channel(EVENTS);
        let (ctx, cancel) = (self.ctx.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let (carrier, asked) = Carrier::new(files);
            let progress: Mutex<Option<Arc<Progress>>> = Mutex::default();
            let loading = async {
                if dry_run {
                    return load::dry_run(&ctx, carrier, &options).await;
                }
                let copying = |now| *progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                load(&ctx, actor, carrier, &options, &copying).await
            };
            tokio::select! {
                loaded = loading => match loaded {
                    Ok(loaded) => {
                        let event = LoadEvent::Loaded(loaded_event(loaded));
                        let _ = events.send(Ok(v1::LoadResponse { event: Some(event) })).await;
                    }
                    Err(error) => fail(&events, error.into()).await,
                },
                error = hand_over(&mut requests, asked, &events) => fail(&events, error).await,
                () = tick(&progress, &events) => {}
                // The client left: what was under way is dropped, and the store is as it was.
                () = events.closed() => {}
                () = cancel.cancelled() => stopping(&events).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn checked_place(place: String) -> Result<String, ApiError> {
    if place.len() > MAX_PLACE || place.chars().any(char::is_control) {
        return Err(ApiError::invalid("invalid-argument", "the place's name is too long, or has control characters"));
    }
    Ok(if place.is_empty() { "a client".to_owned() } else { place })
}

async fn fail<T>(events: &mpsc::Sender<Result<T, Status>>, error: ApiError) {
    // A client that has gone needs no answer.
    let _ = events.send(Err(error.into())).await;
}

/// What a save says on its way, until it is sent: a step itself cannot wait.
#[derive(Default)]
struct Steps {
    progress: Mutex<Option<Arc<Progress>>>,
    warnings: Mutex<Vec<String>>,
}

impl Steps {
    fn take(&self, step: Step) {
        match step {
            Step::Copying(progress) => *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress),
            Step::Warning(line) => self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(line),
        }
    }

    async fn warn(&self, events: &SaveEvents) {
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        for warning in warnings {
            send(events, SaveEvent::Warning(warning)).await;
        }
    }

    async fn report(&self, events: &SaveEvents) {
        self.warn(events).await;
        if let Some(event) = progress_event(&self.progress) {
            send(events, SaveEvent::Progress(event)).await;
        }
    }
}

fn progress_event(progress: &Mutex<Option<Arc<Progress>>>) -> Option<v1::Progress> {
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
    Some(v1::Progress {
        bytes_done: progress.done.load(Ordering::Relaxed),
        bytes_total: progress.total.load(Ordering::Relaxed),
        bytes_present: progress.present.load(Ordering::Relaxed),
    })
}

async fn send(events: &SaveEvents, event: SaveEvent) {
    // Where the client has gone, the caller notices by itself.
    let _ = events.send(Ok(v1::SaveResponse { event: Some(event) })).await;
}

/// Sends the pieces of a layout, and now and then how far it is.
async fn forward(mut pieces: mpsc::Receiver<Piece>, steps: &Steps, events: &SaveEvents) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                None => return,
                Some(Piece::File { name, size }) => {
                    send(events, SaveEvent::File(v1::LayoutFile { name, size })).await;
                }
                Some(Piece::Data(mut bytes)) => while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(larder_proto::CHUNK_BYTES));
                    send(events, SaveEvent::Data(piece)).await;
                },
            },
            _ = ticks.tick() => steps.report(events).await,
        }
    }
}

async fn finish(
    saved: Result<(Vec<SavedArtifact>, u64), SaveError>,
    bytes: u64,
    names: &[String],
    events: &SaveEvents,
) {
    match saved {
        Ok((saved, seq)) => {
            let artifacts = saved.iter().zip(names).map(|(saved, name)| saved_artifact(saved, name)).collect();
            send(events, SaveEvent::Saved(v1::Saved { artifacts, bytes, seq })).await;
        }
        Err(error) => fail(events, error.into()).await,
    }
}

fn saved_artifact(saved: &SavedArtifact, name: &str) -> v1::SavedArtifact {
    let SavedArtifact { held, media_type, entry_name, attached } = saved;
    v1::SavedArtifact {
        reference: name.to_owned(),
        repository: held.repository.to_string(),
        tag: held.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest: held.digest.to_string(),
        media_type: (*media_type).to_owned(),
        entry_name: entry_name.clone().unwrap_or_default(),
        signatures: attached.signatures,
        attestations: attached.attestations,
        sboms: attached.sboms,
        others: attached.others,
    }
}

/// Waits for the client's next request.
async fn next(requests: &mut Streaming<v1::LoadRequest>) -> Result<Asked, ApiError> {
    let broken = |why: String| ApiError::unavailable("interrupted", why);
    match tokio::time::timeout(SILENCE, requests.message()).await {
        Ok(Ok(Some(v1::LoadRequest { request: Some(request) }))) => Ok(request),
        Ok(Ok(Some(_))) => Err(ApiError::invalid("invalid-argument", "a request is none of this version")),
        Ok(Ok(None)) => Err(broken("the client ended before all was said".to_owned())),
        Ok(Err(status)) => {
            let message = format!("the stream broke off: {}", status.message());
            Err(too_large(status).unwrap_or_else(|| broken(message)))
        }
        Err(_) => Err(broken(format!("nothing came for {} seconds", SILENCE.as_secs()))),
    }
}

async fn begin(requests: &mut Streaming<v1::LoadRequest>) -> Result<(LoadOptions, bool), ApiError> {
    let Asked::Begin(v1::LoadBegin { name, references, dry_run, place }) = next(requests).await? else {
        return Err(ApiError::invalid("invalid-argument", "the first request is a `begin`"));
    };
    if references.len() > MAX_REFERENCES {
        let message = format!("at most {MAX_REFERENCES} references are chosen");
        return Err(ApiError::invalid("invalid-argument", message));
    }
    let name = match name.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    Ok((LoadOptions { name, references, place: checked_place(place)? }, dry_run))
}

async fn files(requests: &mut Streaming<v1::LoadRequest>) -> Result<Files, ApiError> {
    let mut files = Files::default();
    loop {
        let Asked::Files(v1::LayoutFiles { files: more, last }) = next(requests).await? else {
            return Err(ApiError::invalid("invalid-argument", "the list of files follows the `begin`"));
        };
        for v1::LayoutFile { name, size } in more {
            files.add(&name, size)?;
        }
        if last {
            return Ok(files);
        }
    }
}

/// Asks the client for files and hands over what comes; returns only where that ends.
async fn hand_over(
    requests: &mut Streaming<v1::LoadRequest>,
    mut asked: mpsc::Receiver<Ask>,
    events: &LoadEvents,
) -> ApiError {
    let mut number: u32 = 0;
    loop {
        let Some(Ask { name, from, length, answer }) = asked.recv().await else {
            // The story is over, or about to end.
            return std::future::pending().await;
        };
        number = number.wrapping_add(1);
        let read = LoadEvent::Read(v1::LayoutRead { number, name, offset: from, length });
        let _ = events.send(Ok(v1::LoadResponse { event: Some(read) })).await;
        loop {
            let data = match next(requests).await {
                Ok(Asked::Data(data)) => data,
                Ok(_) => return ApiError::invalid("invalid-argument", "only data follows the list of files"),
                Err(error) => return error,
            };
            if data.number != number {
                continue; // what is left of a file that nobody wants any more
            }
            let piece = if data.error.is_empty() { Ok(data.data) } else { Err(data.error.chars().take(300).collect()) };
            let ends = data.last || piece.is_err();
            if answer.send(piece).await.is_err() || ends {
                break;
            }
        }
    }
}

/// Says now and then how far a load is; returns never.
async fn tick(progress: &Mutex<Option<Arc<Progress>>>, events: &LoadEvents) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        ticks.tick().await;
        if let Some(event) = progress_event(progress) {
            let _ = events.send(Ok(v1::LoadResponse { event: Some(LoadEvent::Progress(event)) })).await;
        }
    }
}

fn loaded_event(loaded: Loaded) -> v1::Loaded {
    let Loaded { images, moved, manifests, notes, seq } = loaded;
    v1::Loaded {
        artifacts: images.iter().map(loaded_artifact).collect(),
        bytes_moved: moved.bytes,
        blobs_moved: moved.blobs,
        manifests_moved: manifests,
        bytes_present: moved.present,
        notes,
        seq,
    }
}

fn loaded_artifact(loaded: &LoadedImage) -> v1::LoadedArtifact {
    let LoadedImage { entry_name, media_type, left_out, attached, replaced, judged } = loaded;
    let (held, verdict) = match judged {
        Judged::Held(answer) => (&answer.held, convert::answer(answer)),
        Judged::Offered(held, verdict) => (held, convert::offered(held, verdict)),
    };
    v1::LoadedArtifact {
        entry_name: entry_name.clone().unwrap_or_default(),
        repository: held.repository.to_string(),
        tag: held.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest: held.digest.to_string(),
        media_type: (*media_type).to_owned(),
        left_out: u32::try_from(*left_out).unwrap_or(u32::MAX),
        signatures: attached.signatures,
        attestations: attached.attestations,
        sboms: attached.sboms,
        others: attached.others,
        verdict: Some(verdict),
        replaced: replaced.map(|digest| digest.to_string()).unwrap_or_default(),
    }
}
