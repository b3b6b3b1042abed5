//! `larder.v1.Sync`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_core::manifest::is_index;
use larder_core::{Digest, Platform, Reference, Repository, Tag};
use larder_proto::v1;
use larder_proto::v1::sync_event::Event;
use larder_proto::v1::sync_server::Sync;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{actor, convert, stopping};
use crate::ops::Ctx;
use crate::ops::pull::{
    AttachedCounts, Keep, Looks, Moved, Outcome, Progress, PullOptions, Pulled, Selection, Step, all_tags, pull,
};
use crate::ops::push::{Pushed, Scope, Step as PushStep, push};
use crate::store::record::Actor;

/// How often a transfer says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How many events may wait for a slow client.
const EVENTS: usize = 64;
/// How many pulls may be under way for each request that may be under way at a registry: while one waits for its
/// answer, another reads what is held, and a third is being committed.
const PULLS_A_REQUEST: usize = 2;
/// The most references of one pull.
const MAX_REFERENCES: usize = 10_000;

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) cancel: CancellationToken,
}

type Events = mpsc::Sender<Result<v1::SyncEvent, Status>>;

#[tonic::async_trait]
impl Sync for Service {
    type PullStream = ReceiverStream<Result<v1::SyncEvent, Status>>;
    type PushStream = ReceiverStream<Result<v1::SyncEvent, Status>>;

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let actor = actor(&request, "pull");
        let request = request.into_inner();
        let options = options(&request)?;
        if request.references.is_empty() || request.references.len() > MAX_REFERENCES {
            let message = format!("a pull takes 1 to {MAX_REFERENCES} references");
            return Err(ApiError::invalid("invalid-argument", message).into());
        }
        let (events, stream) = mpsc::channel(EVENTS);
        let (ctx, cancel) = (self.ctx.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let all = async {
                let v1::PullRequest { references, all_tags, .. } = request;
                let references = if all_tags { expand(&ctx, references, &events).await } else { references };
                pull_all(&ctx, &actor, references, &options, &events).await;
            };
            tokio::select! {
                () = all => {}
                // The client left: what was under way is dropped, and the store is as it was.
                () = events.closed() => {}
                () = cancel.cancelled() => stopping(&events).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn push(&self, request: Request<v1::PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        let actor = actor(&request, "push");
        let request = request.into_inner();
        let source: Reference = request.source.parse().map_err(ApiError::from)?;
        let destination: Option<Reference> = match request.destination.as_str() {
            "" => None,
            text => Some(text.parse().map_err(ApiError::from)?),
        };
        let scope = match v1::PushScope::try_from(request.scope) {
            Ok(v1::PushScope::Unspecified | v1::PushScope::Whole) => Scope::Whole,
            Ok(v1::PushScope::Attached) => Scope::Attached,
            Err(_) => return Err(ApiError::invalid("invalid-argument", "this scope of a push is not known").into()),
        };
        let (events, stream) = mpsc::channel(EVENTS);
        let (ctx, cancel) = (self.ctx.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let reporter = Reporter::new(&request.source, &events);
            let on_step = |step| reporter.push_step(step);
            let pushed = reporter.during(push(&ctx, actor, &source, destination.as_ref(), scope, &on_step));
            tokio::select! {
                pushed = pushed => match pushed {
                    Ok(pushed) => reporter.send(Event::Finished(pushed_event(pushed))).await,
                    Err(error) => reporter.fail(error).await,
                },
                () = events.closed() => {}
                () = cancel.cancelled() => stopping(&events).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn options(request: &v1::PullRequest) -> Result<PullOptions, Status> {
    let selection = match request.platform.as_str() {
        "all" => Selection::All,
        "" => Selection::Platform(host_platform()),
        text => Selection::Platform(text.parse().map_err(|error: larder_core::descriptor::PlatformError| {
            ApiError::invalid("invalid-platform", error.to_string())
                .hint("as in linux/arm64; `all` takes every platform")
        })?),
    };
    Ok(PullOptions { selection, keep: if request.verified { Keep::Accepted } else { Keep::All } })
}

/// Returns what images for this machine are called: containers run Linux, whatever the host does.
fn host_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
}

/// Replaces repositories by the references of all their tags. What is no repository, or has no list, is told so.
async fn expand(ctx: &Ctx, repositories: Vec<String>, events: &Events) -> Vec<String> {
    let mut references = Vec::new();
    for name in repositories {
        let reporter = Reporter::new(&name, events);
        let listed = match name.parse::<Repository>() {
            Ok(repository) => all_tags(ctx, &repository, MAX_REFERENCES.saturating_sub(references.len()))
                .await
                .map_err(ApiError::from),
            Err(error) => Err(ApiError::from(error)),
        };
        match listed {
            Ok(tags) => {
                let listed: Vec<String> = tags.iter().map(|tag| format!("{name}:{tag}")).collect();
                reporter.send(Event::Listed(v1::Listed { references: listed.clone() })).await;
                references.extend(listed);
            }
            Err(error) => reporter.send(failed(error)).await,
        }
    }
    references
}

/// What is to be pulled once: a reference, and how it was written, more than once perhaps.
struct Wanted {
    reference: Reference,
    names: Vec<String>,
}

/// Pulls all, several at a time; each is an operation of its own.
async fn pull_all(ctx: &Ctx, actor: &Actor, references: Vec<String>, options: &PullOptions, events: &Events) {
    let wanted = parse(references, events).await;
    let looks = Arc::new(Looks::new(wanted.iter().map(|wanted| &wanted.reference)));
    // Dropped with this future, when the client leaves: what is under way ends then.
    let mut under_way = JoinSet::new();
    for wanted in wanted {
        if under_way.len() >= ctx.concurrency.max(1).saturating_mul(PULLS_A_REQUEST) {
            landed(under_way.join_next().await);
        }
        let (ctx, actor, options) = (ctx.clone(), actor.clone(), options.clone());
        let (looks, events, tasks) = (Arc::clone(&looks), events.clone(), ctx.tasks.clone());
        let one = async move { pull_one(&ctx, actor, &wanted, &options, &looks, &events).await };
        under_way.spawn(tasks.track_future(one));
    }
    while !under_way.is_empty() {
        landed(under_way.join_next().await);
    }
}

/// Reads references; those that mean the same are one. What is no reference is told so.
async fn parse(references: Vec<String>, events: &Events) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for name in references {
        match name.parse::<Reference>() {
            Ok(reference) => match places.entry(key(&reference)) {
                Entry::Occupied(place) => {
                    if let Some(same) = wanted.get_mut(*place.get()) {
                        same.names.push(name);
                    }
                }
                Entry::Vacant(place) => {
                    place.insert(wanted.len());
                    wanted.push(Wanted { reference, names: vec![name] });
                }
            },
            Err(error) => Reporter::new(&name, events).send(failed(ApiError::from(error))).await,
        }
    }
    wanted
}

/// Returns what is equal for references that mean the same: what is pulled by digest is the digest.
fn key(reference: &Reference) -> (Repository, Option<Tag>, Option<Digest>) {
    let tag = if reference.digest.is_some() { None } else { reference.tag_or_latest() };
    (reference.repository.clone(), tag, reference.digest)
}

async fn pull_one(ctx: &Ctx, actor: Actor, wanted: &Wanted, options: &PullOptions, looks: &Looks, events: &Events) {
    let Some(name) = wanted.names.first() else { return };
    let reporter = Reporter::new(name, events);
    let on_step = |step| reporter.pull_step(step);
    let pulled = reporter.during(pull(ctx, actor, &wanted.reference, options, looks, &on_step)).await;
    let ended = match pulled {
        Ok(pulled) => Event::Finished(pulled_event(pulled)),
        Err(error) => failed(error.into()),
    };
    for name in &wanted.names {
        Reporter::new(name, events).send(ended.clone()).await;
    }
}

/// Notes a pull that ended by a fault of the program; its reference has no last event then, and the client says so.
fn landed(ended: Option<Result<(), JoinError>>) {
    if let Some(Err(error)) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a pull broke off");
    }
}

/// Reports on one reference.
struct Reporter<'a> {
    reference: &'a str,
    events: &'a Events,
    /// Set when blobs begin to move; read by the ticks.
    progress: Mutex<Option<Arc<Progress>>>,
    /// Set by steps, sent before the next tick: a step itself cannot wait.
    resolved: Mutex<Option<v1::Resolved>>,
    stepped: tokio::sync::Notify,
}

impl<'a> Reporter<'a> {
    fn new(reference: &'a str, events: &'a Events) -> Self {
        let stepped = tokio::sync::Notify::new();
        Self { reference, events, progress: Mutex::default(), resolved: Mutex::default(), stepped }
    }

    async fn send(&self, event: Event) {
        // Where the client has gone, the caller notices by itself.
        let _ = self.events.send(Ok(v1::SyncEvent { reference: self.reference.to_owned(), event: Some(event) })).await;
    }

    async fn fail(&self, error: impl Into<ApiError>) {
        self.send(failed(error.into())).await;
    }

    /// Runs a transfer and reports how far it is meanwhile.
    async fn during<T>(&self, transfer: impl Future<Output = T>) -> T {
        tokio::pin!(transfer);
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        loop {
            let done = tokio::select! {
                done = &mut transfer => Some(done),
                () = self.stepped.notified() => None,
                _ = ticks.tick() => None,
            };
            self.report().await;
            if let Some(done) = done {
                return done;
            }
        }
    }

    async fn report(&self) {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(resolved) = resolved {
            self.send(Event::Resolved(resolved)).await;
        }
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(progress) = progress {
            self.send(Event::Progress(v1::Progress {
                bytes_done: progress.done.load(Ordering::Relaxed),
                bytes_total: progress.total.load(Ordering::Relaxed),
                bytes_present: progress.present.load(Ordering::Relaxed),
            }))
            .await;
        }
    }

    fn resolved(&self, resolved: v1::Resolved) {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved);
        self.stepped.notify_one();
    }

    fn copying(&self, progress: Arc<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    fn pull_step(&self, step: Step) {
        match step {
            Step::Copying(progress) => self.copying(progress),
            Step::Resolved { repository, tag, digest, media_type, platforms, left_out } => {
                let platforms = if is_index(media_type) { platforms } else { Vec::new() };
                self.resolved(v1::Resolved {
                    repository: repository.to_string(),
                    tag: tag.map(|tag| tag.to_string()).unwrap_or_default(),
                    digest: digest.to_string(),
                    media_type: media_type.to_owned(),
                    platforms: platforms.iter().map(ToString::to_string).collect(),
                    left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
                });
            }
        }
    }

    fn push_step(&self, step: PushStep) {
        match step {
            PushStep::Copying(progress) => self.copying(progress),
            PushStep::Resolved { repository, tag, digest, media_type } => self.resolved(v1::Resolved {
                repository: repository.to_string(),
                tag: tag.map(|tag| tag.to_string()).unwrap_or_default(),
                digest: digest.to_string(),
                media_type: media_type.to_owned(),
                platforms: Vec::new(),
                left_out: 0,
            }),
        }
    }
}

fn failed(error: ApiError) -> Event {
    let ApiError { reason, message, hint, .. } = error;
    Event::Failed(v1::Failed { reason: reason.to_owned(), message, hint: hint.unwrap_or_default() })
}

fn finished(moved: Moved, manifests: u32, attached: AttachedCounts) -> v1::Finished {
    v1::Finished {
        bytes_moved: moved.bytes,
        blobs_moved: moved.blobs,
        manifests_moved: manifests,
        bytes_present: moved.present,
        signatures: attached.signatures,
        attestations: attached.attestations,
        sboms: attached.sboms,
        others: attached.others,
        looked_at: Vec::new(),
        verdict: None,
        seq: 0,
    }
}

fn pulled_event(pulled: Pulled) -> v1::Finished {
    let (verdict, seq) = match &pulled.outcome {
        Outcome::Held { answer, seq } => (convert::answer(answer), *seq),
        Outcome::Rejected(held, verdict) => (convert::offered(held, verdict), 0),
    };
    let finished = finished(pulled.moved, pulled.manifests, pulled.attached);
    v1::Finished { looked_at: pulled.looked_at, verdict: Some(verdict), seq, ..finished }
}

fn pushed_event(pushed: Pushed) -> v1::Finished {
    v1::Finished { seq: pushed.seq, ..finished(pushed.moved, pushed.manifests, pushed.attached) }
}
