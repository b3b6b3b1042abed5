//! The trust folder: read, watched, edited (DESIGN section 6; docs/trust.md is its manual).
//!
//! What comes in: a folder of files that anything may write: an editor, `git pull`, a mounted ConfigMap, `larder trust add`.
//! What goes out: one [`Published`] value that everybody judges under, and a [`Settled`] reading for the owner to journal.
//!
//! The invariant: nothing becomes accepted before the folder was quiet and faultless and its set was put in force by the owner;
//! whatever narrows acts with the first reading that shows it.
//!
//! ```text
//!   read      what lies in the folder now, bounded and distrustful
//!   machine   what follows from events and readings as time passes; pure
//!   watch     the task that feeds the machine: notify's hints and a slow poll
//!   edit      plans of edits: previewed, or written to the folder
//! ```

pub mod edit;
mod machine;
mod read;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the user and the crash")]
mod tests;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::policy::{Fault, Reading, Rules, TrustFiles, TrustSet, TrustView};
use tokio::sync::{Notify, mpsc, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use edit::{Edit, EditError};
use machine::{InForce, Machine};
pub use read::{Contents, MissingFolder};

/// How long an edit may take to come in force before its caller is told that it has not.
pub const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the watcher publishes: under what is judged, and how the folder is.
#[derive(Clone, Debug)]
pub struct Published {
    /// Under what is judged.
    pub view: TrustView,
    /// settled, unsettled, faulty, missing, starting.
    pub condition: Condition,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What is odd and harmless (path, message).
    pub warnings: Vec<(String, String)>,
    /// The set in force and since when.
    pub in_force: Option<(Digest, Timestamp)>,
}

/// How the folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Before the first settled set.
    Starting,
    /// Settled, no fault.
    Settled,
    /// It changed within the last 20 ms, or its set is not yet in force.
    Unsettled,
    /// A file cannot be read as what it should be.
    Faulty,
    /// The folder, or a folder in it, is missing or unreadable.
    Missing,
}

impl Condition {
    /// Returns the lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Settled => "settled",
            Self::Unsettled => "unsettled",
            Self::Faulty => "faulty",
            Self::Missing => "missing",
        }
    }
}

/// Tells the watcher's owner that a settled reading differs from the set in force. The owner (ops) makes the trust record
/// durable and then calls back `Folder::put_in_force`, or, where the journal cannot be written, decides by itself.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The files.
    pub files: TrustFiles,
    /// Their reading (no faults).
    pub reading: Arc<Reading>,
    /// As in `keys/release.pub removed`.
    pub changes: Vec<String>,
}

/// Says why an edit that was written is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InForceError {
    /// The folder is faulty, so nothing new comes in force. What was written stays.
    #[error("the trust folder is faulty, so the edit is written but not in force: {}", list(.0))]
    Faulty(Vec<Fault>),
    /// The folder, or a folder in it, is missing. What was written stays.
    #[error("the trust folder is incomplete, so the edit is written but not in force: {}", list(.0))]
    Missing(Vec<Fault>),
    /// It took too long.
    #[error("the edit is written but was not in force after {} seconds", IN_FORCE_TIMEOUT.as_secs())]
    Timeout,
    /// The daemon stops.
    #[error("the edit is written; the daemon stops before it comes in force")]
    Stopped,
}

fn list(faults: &[Fault]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> =
        faults.iter().take(SHOWN).map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    if faults.len() > SHOWN {
        text.push(format!("{} more", faults.len() - SHOWN));
    }
    text.join("; ")
}

impl InForceError {
    /// Returns the stable machine reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Faulty(_) => "trust-faulty",
            Self::Missing(_) => "trust-missing",
            Self::Timeout => "trust-unsettled",
            Self::Stopped => "stopping",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Faulty(_) => "mend or remove the named file; the edit then comes in force by itself".into(),
            Self::Missing(_) => {
                "put the named folder back (it may be empty); the edit then comes in force by itself".into()
            }
            Self::Timeout => {
                "`larder daemon status` says whether the store can be written; something may keep changing the folder"
                    .into()
            }
            Self::Stopped => return None,
        })
    }
}

/// The watched folder. Cheap to clone.
#[derive(Clone)]
pub struct Folder {
    shared: Arc<Shared>,
}

/// What the watching task and the handles share.
struct Shared {
    folder: PathBuf,
    rules: Rules,
    /// Locked for a few assignments, never across an await: `put_in_force` must act at once and is not async.
    machine: Mutex<Machine>,
    published: channel::Sender<Published>,
    /// Counts updates of the machine, so that `await_in_force` sees readings that change nothing that is published.
    updates: channel::Sender<u64>,
    /// Something may have changed in the folder.
    hint: Notify,
    /// The set in force changed: the machine may have something to offer.
    poke: Notify,
    /// One edit at a time; locked on the blocking pool only.
    editing: Mutex<()>,
}

impl Shared {
    /// Locks the machine. It is never left half-changed, so a panic elsewhere does not spoil it.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the machine and publishes what follows, in the order of the changes.
    fn update<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine();
        let result = change(&mut machine);
        let now = machine.published();
        self.published.send_if_modified(|published| {
            let modified = !machine::same(published, &now);
            *published = now;
            modified
        });
        drop(machine);
        self.updates.send_modify(|count| *count = count.wrapping_add(1));
        result
    }
}

impl Folder {
    /// Begins to watch; `last` is the set last in force (from the journal's blob), if any. Settled readings arrive on the receiver,
    /// one at a time; the view is published on `self.published()`. The task is tracked by `tracker` and ends with `cancel`.
    pub fn watch(
        folder: PathBuf,
        rules: Rules,
        last: Option<(TrustFiles, Digest, Timestamp)>,
        cancel: CancellationToken,
        tracker: &TaskTracker,
    ) -> (Self, mpsc::Receiver<Settled>) {
        let last = last.map(|(files, digest, since)| {
            let set = TrustSet::read_under(&files, rules).set;
            InForce { files, set, digest, since }
        });
        let machine = Machine::new(last, Instant::now());
        let shared = Arc::new(Shared {
            folder,
            rules,
            published: channel::Sender::new(machine.published()),
            machine: Mutex::new(machine),
            updates: channel::Sender::new(0),
            hint: Notify::new(),
            poke: Notify::new(),
            editing: Mutex::new(()),
        });
        // One: the owner journals them one after the other, and a newer reading replaces one that waits.
        let (offers, receiver) = mpsc::channel(1);
        tracker.spawn(watch::run(Arc::clone(&shared), offers, cancel));
        (Self { shared }, receiver)
    }

    /// Under what is judged, and how the folder is.
    pub fn published(&self) -> channel::Receiver<Published> {
        self.shared.published.subscribe()
    }

    /// Puts a settled reading in force (the record is durable).
    pub fn put_in_force(&self, settled: &Settled, set: Digest, since: Timestamp) {
        let in_force =
            InForce { files: settled.files.clone(), set: Arc::clone(&settled.reading.set), digest: set, since };
        self.shared.update(|machine| machine.put_in_force(in_force));
        self.shared.poke.notify_one();
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.shared.folder
    }

    /// Reads files as the folder's own are read: under the same rules.
    pub fn read(&self, files: &TrustFiles) -> Reading {
        TrustSet::read_under(files, self.shared.rules)
    }

    /// Returns the files of the set in force; none before the first.
    pub fn files_in_force(&self) -> TrustFiles {
        self.shared.machine().in_force().map(|in_force| in_force.files.clone()).unwrap_or_default()
    }

    /// Reads what lies in the folder right now, settled or not: what an edit is planned against.
    pub async fn current(&self) -> Contents {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || Contents::read(&shared.folder, shared.rules, None)).await {
            Ok(contents) => contents,
            Err(error) => Contents::unreadable(&format!("reading it failed: {error}")),
        }
    }

    /// Writes an edit to the folder; durable on return, in force later ([`Self::await_in_force`]).
    pub async fn apply(&self, edit: &Edit) -> Result<(), EditError> {
        let (shared, edit) = (Arc::clone(&self.shared), edit.clone());
        let written = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = shared.editing.lock().unwrap_or_else(PoisonError::into_inner);
            edit.apply(&shared.folder)
        })
        .await;
        // The watcher sees it by itself; this saves the case where the system gave no watch.
        self.shared.hint.notify_one();
        written.unwrap_or_else(|error| Err(EditError::Interrupted(error.to_string())))
    }

    /// Waits until the set in force has the edit; returns at once where the folder, read after the edit, is faulty or missing.
    pub async fn await_in_force(&self, edit: &Edit) -> Result<(), InForceError> {
        let asked = Instant::now();
        let mut updates = self.shared.updates.subscribe();
        self.shared.hint.notify_one();
        let wait = async {
            loop {
                if let Some(outcome) = self.outcome(edit, asked) {
                    return outcome;
                }
                if updates.changed().await.is_err() {
                    return Err(InForceError::Stopped);
                }
            }
        };
        tokio::time::timeout(IN_FORCE_TIMEOUT, wait).await.unwrap_or(Err(InForceError::Timeout))
    }

    /// Says how an edit fared, as far as it is known; only readings begun after `asked` can say that the folder spoils it.
    fn outcome(&self, edit: &Edit, asked: Instant) -> Option<Result<(), InForceError>> {
        let machine = self.shared.machine();
        if machine.stopped() {
            return Some(Err(InForceError::Stopped));
        }
        if machine.in_force().is_some_and(|in_force| edit.holds_in(&in_force.files)) {
            return Some(Ok(()));
        }
        if machine.last_read().is_none_or(|began| began < asked) {
            return None;
        }
        let published = machine.published();
        match published.condition {
            Condition::Faulty => Some(Err(InForceError::Faulty(published.faults))),
            Condition::Missing => Some(Err(InForceError::Missing(published.faults))),
            Condition::Starting | Condition::Settled | Condition::Unsettled => None,
        }
    }
}
