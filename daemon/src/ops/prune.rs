//! Keeps the journal from growing for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Ctx;
use crate::config::Keep;
use crate::store::record::Actor;
use crate::store::{Pruning, StoreError};

/// How often it looks, beside each time that a segment was begun: what grows old does so by itself.
const LOOK: Duration = Duration::from_secs(24 * 60 * 60);
/// How long until a pruning that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// Prunes at the start, each day and with each new segment, until it is cancelled.
pub async fn follow(ctx: Ctx, keep: Keep, cancel: CancellationToken) {
    let mut begun = ctx.store.segments_begun();
    loop {
        begun.borrow_and_update();
        let pruned = tokio::select! {
            () = cancel.cancelled() => return,
            pruned = prune(&ctx, Actor::daemon(), keep, false) => pruned,
        };
        let pause = match pruned {
            Ok(_) => LOOK,
            Err(StoreError::Stopping | StoreError::ReadOnly { .. }) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "the journal could not be pruned; trying again later");
                AGAIN
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = begun.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Prunes once; with `dry_run` only says what would go.
///
/// Once begun it is done, whether or not the caller waits.
///
/// # Errors
/// Fails where the store is read-only, the disk is full or the journal cannot be read; nothing is lost then.
pub async fn prune(ctx: &Ctx, actor: Actor, keep: Keep, dry_run: bool) -> Result<Pruning, StoreError> {
    // Here, and not in the task, which is waited for at a stop.
    if !dry_run {
        ctx.store.verified().await?;
    }
    let store = ctx.store.clone();
    let pruned = ctx.tasks.spawn(async move { store.prune(keep, actor, dry_run).await });
    let pruned = pruned.await.unwrap_or(Err(StoreError::Stopping))?;
    if pruned.segments > 0 && !dry_run {
        tracing::info!(
            until = pruned.until,
            segments = pruned.segments,
            bytes = pruned.bytes,
            "the journal was pruned"
        );
    }
    Ok(pruned)
}
