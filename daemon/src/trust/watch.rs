//! The task that feeds the machine: events are hints, readings are what counts, and a slow poll sees what no event told.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::read::{Contents, FOLDERS, path_of};
use super::{Settled, Shared};

/// How often the folder is read without any event.
const POLL: Duration = Duration::from_secs(2);
/// What lies at least between two readings, so that a flood of events does not keep a core busy.
const BETWEEN_READINGS: Duration = Duration::from_millis(3);

/// Watches until cancelled.
pub(super) async fn run(shared: Arc<Shared>, offers: mpsc::Sender<Settled>, cancel: CancellationToken) {
    let mut watches = Some(Watches::new(&shared));
    let mut waiting: Option<Settled> = None;
    while !cancel.is_cancelled() {
        let began = Instant::now();
        let contents = read(&shared, &mut watches).await;
        let ended = Instant::now();
        let offer = shared.update(|machine| {
            machine.reading(began, ended, Arc::new(contents));
            machine.step(Instant::now())
        });
        waiting = offer.or(waiting);
        if !until_next_reading(&shared, &offers, &mut waiting, &cancel, ended).await {
            break;
        }
    }
    shared.update(super::machine::Machine::stop);
}

/// Reads the folder on the blocking pool, its watches renewed first, so that nothing falls between watch and reading.
async fn read(shared: &Arc<Shared>, watches: &mut Option<Watches>) -> Contents {
    let previous = shared.machine().latest();
    let mut mine = watches.take().unwrap_or_else(|| Watches::new(shared));
    let (folder, rules) = (shared.folder.clone(), shared.rules);
    let reading = tokio::task::spawn_blocking(move || {
        mine.follow(&folder);
        let contents = Contents::read(&folder, rules, previous.as_deref());
        (mine, contents)
    });
    match reading.await {
        Ok((mine, contents)) => {
            *watches = Some(mine);
            contents
        }
        Err(error) => {
            tracing::error!(folder = %shared.folder.display(), %error, "reading the trust folder failed");
            Contents::unreadable(&format!("reading it failed: {error}"))
        }
    }
}

/// Waits for what asks for a reading, handing over what settled meanwhile; false when it is time to stop.
async fn until_next_reading(
    shared: &Arc<Shared>,
    offers: &mpsc::Sender<Settled>,
    waiting: &mut Option<Settled>,
    cancel: &CancellationToken,
    last: Instant,
) -> bool {
    loop {
        let deadline = {
            let machine = shared.machine();
            waiting.take_if(|offer| !machine.still_offers(&offer.files));
            machine.deadline().map_or(last + POLL, |deadline| deadline.min(last + POLL))
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return false,
            () = shared.hint.notified() => {
                shared.update(|machine| machine.event(Instant::now()));
                break;
            }
            () = shared.poke.notified() => {
                let offer = shared.update(|machine| machine.step(Instant::now()));
                *waiting = offer.or_else(|| waiting.take());
            }
            permit = offers.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                (Ok(permit), Some(offer)) => permit.send(offer),
                // The owner is gone; what it put in force stays, and narrowing goes on.
                _ => tracing::debug!("nobody takes trust sets any more"),
            },
            () = sleep_until(deadline.into()) => break,
        }
    }
    tokio::select! {
        () = cancel.cancelled() => false,
        () = sleep_until((last + BETWEEN_READINGS).into()) => true,
    }
}

/// The system's watches on the folder, the folders in it, and its parent.
struct Watches {
    /// None where the system gives none; the poll remains.
    watcher: Option<RecommendedWatcher>,
    /// What is watched, and which folder that was: after a swap the old watch is dead.
    held: Vec<(PathBuf, (u64, u64))>,
    /// A watched folder itself was moved, removed or made: its watch may be dead though it looks the same.
    suspect: Arc<AtomicBool>,
    /// Said once.
    complained: bool,
}

impl Watches {
    fn new(shared: &Arc<Shared>) -> Self {
        let suspect = Arc::new(AtomicBool::new(false));
        let handler =
            Handler { shared: Arc::downgrade(shared), folder: shared.folder.clone(), suspect: Arc::clone(&suspect) };
        let made = notify::recommended_watcher(move |event| handler.handle(event));
        let complained = made.is_err();
        if let Err(error) = &made {
            tracing::warn!(%error, "no file events; the trust folder is read every {POLL:?}");
        }
        Self { watcher: made.ok(), held: Vec::new(), suspect, complained }
    }

    /// Makes the watches lie on what is there now. Blocking.
    fn follow(&mut self, folder: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let suspect = self.suspect.swap(false, Ordering::AcqRel);
        let wanted: Vec<(PathBuf, (u64, u64))> = watched(folder)
            .into_iter()
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
                Some((path, (metadata.dev(), metadata.ino())))
            })
            .collect();
        if wanted == self.held && !suspect {
            return;
        }
        for (path, _) in self.held.drain(..) {
            // It may be gone already: that is why we are here.
            let _ = watcher.unwatch(&path);
        }
        for (path, inode) in wanted {
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => self.held.push((path, inode)),
                Err(error) if !self.complained => {
                    self.complained = true;
                    tracing::warn!(path = %path.display(), %error, "no file events; the trust folder is read every {POLL:?}");
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns what is to be watched: the parent first.
fn watched(folder: &Path) -> Vec<PathBuf> {
    let parent = match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        parent => parent,
    };
    parent.map(Path::to_owned).into_iter().chain(FOLDERS.map(|name| path_of(folder, name))).collect()
}

/// Takes events on notify's thread.
struct Handler {
    /// Weak, for the watches are kept by the task that this wakes.
    shared: Weak<Shared>,
    folder: PathBuf,
    suspect: Arc<AtomicBool>,
}

impl Handler {
    fn handle(&self, event: notify::Result<notify::Event>) {
        let Some(shared) = self.shared.upgrade() else { return };
        match event {
            // Our own readings are such events.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) => {
                let of_itself = |path: &PathBuf| FOLDERS.iter().any(|name| *path == path_of(&self.folder, name));
                // The parent holds other things (the home: socket, configuration) that are no concern of trust.
                if !event.paths.is_empty() && !event.paths.iter().any(|path| path.starts_with(&self.folder)) {
                    return;
                }
                if event.paths.is_empty() || event.paths.iter().any(of_itself) {
                    self.suspect.store(true, Ordering::Release);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "file events");
                self.suspect.store(true, Ordering::Release);
            }
        }
        shared.hint.notify_one();
    }
}
