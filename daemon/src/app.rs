//! Config → app → running: opens everything in order, runs it under one token, closes it in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use larder_core::policy::TrustFiles;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::peer::Listener;
use crate::clock::Clock;
use crate::config::Config;
use crate::ops::status::Process;
use crate::ops::{Ctx, Teller, checks, corruption, prune, trust_change};
use crate::registry;
use crate::remote::Remotes;
use crate::store::Store;
use crate::telemetry::Counters;
use crate::transfer::Flights;
use crate::trust::{Condition, Folder};

/// How long what is under way may take to end when the daemon stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long the store may take to write its last snapshot.
const CLOSING: Duration = Duration::from_secs(20);
/// How long a start waits for the trust folder, for missing checks and for the look-up index.
const READY: Duration = Duration::from_secs(2);
/// How often it looks whether the index is there.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The longest that a trust set may be as one blob.
const MAX_TRUST_BYTES: u64 = 1 << 30;

/// A daemon that holds its home and its sockets, and does not serve yet.
pub struct App {
    ctx: Ctx,
    process: Arc<Process>,
    peers: Listener,
    grpc: Option<api::tls::Listener>,
    endpoint: Option<(TcpListener, registry::access::Access)>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Opens the home, begins to watch the trust folder, and binds the sockets.
    ///
    /// # Errors
    /// Fails where the home is held by another daemon or cannot be read, or an address is taken; nothing is damaged.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let clock = Arc::new(Clock::default());
        let started = clock.now();
        let (home, opening, segment) = (config.home.clone(), Arc::clone(&clock), config.journal.segment_bytes);
        let (store, recovered) = tokio::task::spawn_blocking(move || Store::open_with(&home, opening, segment))
            .await
            .context("opening the home")??;
        for line in &recovered {
            tracing::warn!("{line}");
        }
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let last = last_trust(&store).await;
        let (trust, settled) =
            Folder::watch(config.trust_folder.clone(), config.trust_rules, last, cancel.clone(), &tasks);
        let remotes = Remotes::new(config.registries.clone()).context("setting up the registry client")?;
        let ctx = Ctx {
            store,
            clock,
            trust,
            remotes,
            gate: config.gate,
            push_to: config.endpoint.push_to.into(),
            concurrency: config.concurrency,
            flights: Flights::default(),
            counters: Counters::new(started),
            checks: checks::Pool::start().context("starting the threads that check signatures")?,
            teller: Teller::default(),
            signing: Arc::default(),
            tasks: tasks.clone(),
        };
        tasks.spawn(trust_change::follow(ctx.clone(), settled, cancel.clone()));
        if let Some(corrupt) = ctx.store.corrupt() {
            tasks.spawn(corruption::follow(ctx.clone(), corrupt, cancel.clone()));
        }
        tasks.spawn(prune::follow(ctx.clone(), config.journal.keep, cancel.clone()));
        ready(&ctx).await;
        let peers = Listener::bind(&config.socket)?;
        let grpc = match config.grpc {
            Some(grpc) => Some(api::tls::Listener::bind(grpc).await?),
            None => None,
        };
        let endpoint = match config.endpoint.address {
            Some(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| {
                    format!("the endpoint cannot listen on {address}; LARDER_ENDPOINT=off or =127.0.0.1:0 goes without")
                })?;
                ctx.remotes.set_own(listener.local_addr()?);
                let access = registry::access::Access::open(&config.home, &config.endpoint.hosts)?;
                Some((listener, access))
            }
            None => None,
        };
        let process = Process {
            home: config.home,
            socket: config.socket,
            endpoint: endpoint.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?,
            grpc: grpc.as_ref().map(api::tls::Listener::address).transpose()?,
            trust_folder: config.trust_folder,
            started,
            keep: config.journal.keep,
            recovered,
        };
        Ok(Self { ctx, process: Arc::new(process), peers, grpc, endpoint, cancel, tasks })
    }

    /// Serves until a signal or a client stops it, then ends what is under way and writes a snapshot, within a bound:
    /// what does not end in time is left behind. A second signal ends it at once. The journal has everything either way.
    ///
    /// # Errors
    /// Fails where a server fails, or the last snapshot cannot be written.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { ctx, process, peers, grpc, endpoint, cancel, tasks } = self;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tasks.spawn(api::serve(peers, grpc, ctx.clone(), Arc::clone(&process), cancel.clone()));
        if let Some((listener, access)) = endpoint {
            tasks.spawn(registry::serve(listener, ctx.clone(), access, cancel.clone()));
        }
        tracing::info!(
            home = %process.home.display(),
            socket = %process.socket.display(),
            endpoint = process.endpoint.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            "larderd {} serves",
            env!("CARGO_PKG_VERSION")
        );
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = cancel.cancelled() => {}
        }
        tracing::info!("stopping");
        cancel.cancel();
        tasks.close();
        let ending = async {
            if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
                tracing::warn!("something did not end within {} s; it is left behind", GRACE.as_secs());
            }
            let closing = tokio::task::spawn_blocking(move || ctx.store.close());
            let closed = tokio::time::timeout(CLOSING, closing).await;
            anyhow::Ok(closed.context("the last snapshot is not written in time; the next start takes longer")???)
        };
        tokio::select! {
            closed = ending => closed.context("closing the store")?,
            _ = terminate.recv() => anyhow::bail!("ended by a second signal; the next start takes longer"),
            _ = interrupt.recv() => anyhow::bail!("ended by a second signal; the next start takes longer"),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Waits a moment until the trust folder is known, and the checks and the index are there: what a small daemon says
/// first is no *pending*.
async fn ready(ctx: &Ctx) {
    let known = async {
        let mut published = ctx.trust.published();
        let is_known = |condition| !matches!(condition, Condition::Starting | Condition::Unsettled);
        // The sender lives as long as the folder, which the context holds.
        let _ = published.wait_for(|published| is_known(published.condition)).await;
        checks::compute_all(ctx, &checks::anchors_of(&ctx.view())).await;
        while ctx.store.rebuilding().is_some() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(READY, known).await.is_err() {
        tracing::info!("serving before everything is there; what rests on it is pending meanwhile");
    }
}

/// Reads the set last put in force; a restart judges under it until the folder has been read.
async fn last_trust(store: &Store) -> Option<(TrustFiles, larder_core::Digest, jiff::Timestamp)> {
    let (set, since, _) = store.trust_in_force()?;
    let files = match store.read(&set, MAX_TRUST_BYTES).await {
        Ok(blob) => TrustFiles::from_blob(&blob).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match files {
        Ok(files) => Some((files, set, since)),
        Err(error) => {
            tracing::error!(%set, error, "the trust set last in force cannot be read; everything is pending until the folder has been");
            None
        }
    }
}
