//! Single flight: a blob that two operations want is copied once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use larder_core::Digest;
use tokio::sync::watch;

use super::TransferError;

/// The blobs that are being copied into the store right now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Flights {
    /// Held for look-ups and changes of the map only, never across an await.
    under_way: Arc<Mutex<HashMap<Digest, watch::Receiver<Option<bool>>>>>,
}

/// Ends a flight however its future ends, cancellation included.
struct Landing<'a> {
    flights: &'a Flights,
    digest: Digest,
    outcome: watch::Sender<Option<bool>>,
    good: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.digest);
        self.outcome.send_replace(Some(self.good));
    }
}

enum Place {
    First(watch::Sender<Option<bool>>),
    Behind(watch::Receiver<Option<bool>>),
}

impl Flights {
    /// Runs `copy` unless the same blob is being copied; then waits for that. Says whether `copy` ran.
    ///
    /// # Errors
    /// Fails as `copy` does; where another copy that was waited for failed, this one is run.
    pub async fn run<F>(&self, digest: Digest, copy: F) -> Result<bool, TransferError>
    where
        F: Future<Output = Result<(), TransferError>>,
    {
        loop {
            match self.place(digest) {
                Place::First(outcome) => {
                    let mut landing = Landing { flights: self, digest, outcome, good: false };
                    copy.await?;
                    landing.good = true;
                    return Ok(true);
                }
                Place::Behind(mut outcome) => {
                    let landed = outcome.wait_for(Option::is_some).await.map(|good| *good == Some(true));
                    if landed.unwrap_or(false) {
                        return Ok(false);
                    }
                    // The copy that was waited for failed or was cancelled: this one takes its place.
                }
            }
        }
    }

    fn place(&self, digest: Digest) -> Place {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = under_way.get(&digest) {
            return Place::Behind(outcome.clone());
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(digest, receiver);
        Place::First(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_copy_for_many() {
        let flights = Flights::default();
        let copies = AtomicU32::new(0);
        let digest = Digest::of(b"x");
        let copy = || async {
            copies.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(())
        };
        let (a, b, c) =
            tokio::join!(flights.run(digest, copy()), flights.run(digest, copy()), flights.run(digest, copy()));
        let ran = [a, b, c].into_iter().filter(|ran| matches!(ran, Ok(true))).count();
        assert_eq!((ran, copies.load(Ordering::Relaxed)), (1, 1));
    }

    #[tokio::test]
    async fn a_cancelled_copy_lets_the_next_one_run() {
        let flights = Flights::default();
        let digest = Digest::of(b"x");
        let endless = flights.run(digest, std::future::pending());
        let cancelled = tokio::time::timeout(std::time::Duration::from_millis(1), endless).await;
        assert!(cancelled.is_err());
        assert!(matches!(flights.run(digest, async { Ok(()) }).await, Ok(true)));
    }
}
