//! The threads that check signatures: one a core, at low priority, so that answers and transfers go first.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use tokio::sync::{mpsc, oneshot};

/// How much lower than that of others the threads' priority is.
const NICENESS: i32 = 10;
/// The lowest priority that there is.
const LOWEST: i32 = 19;
/// How many slices may wait; whoever brings more waits.
const QUEUE: usize = 64;

type Slice = Box<dyn FnOnce() + Send>;

/// The pool. Cheap to clone; its threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool {
    slices: mpsc::Sender<Slice>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// Fails where the system gives none.
    pub fn start() -> io::Result<Self> {
        let (slices, waiting) = mpsc::channel(QUEUE);
        // Locked by the one thread that waits for the next slice; the others wait for the lock.
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..thread::available_parallelism().map_or(1, usize::from) {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name(format!("check-{number}")).spawn(move || work(&waiting))?;
        }
        Ok(Self { slices })
    }

    /// Runs one slice of work; `None` where it panicked, or the pool has ended.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, answer) = oneshot::channel();
        // Whoever asked may have gone.
        let slice = Box::new(move || drop(done.send(work())));
        self.slices.send(slice).await.ok()?;
        answer.await.ok()
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Slice>>) {
    // Where the system does not allow it, checks compete with the rest on equal terms.
    let _ = getpriority_process(None)
        .and_then(|here| setpriority_process(Some(gettid()), here.saturating_add(NICENESS).min(LOWEST)));
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(slice) = next else { return };
        // One artifact's bytes must not end the checking of all others.
        if catch_unwind(AssertUnwindSafe(slice)).is_err() {
            tracing::error!("checking a signature panicked; its checks stay missing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slices_run_at_low_priority_and_a_panic_ends_one_of_them() {
        let pool = Pool::start().expect("threads");
        let here = getpriority_process(None).expect("this priority");
        let there = pool.run(|| getpriority_process(Some(gettid())).expect("that priority")).await;
        assert_eq!(there, Some((here + NICENESS).min(LOWEST)));
        for _ in 0..100 {
            assert_eq!(pool.run(|| -> u8 { panic!("on purpose") }).await, None);
        }
        assert_eq!(pool.run(|| 7).await, Some(7), "the threads are still there");
    }
}
