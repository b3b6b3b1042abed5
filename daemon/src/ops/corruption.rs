//! Puts on record what failed its digest, whoever read it.

use larder_core::Digest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Ctx;
use super::tell::Affected;
use crate::store::record::{Actor, Cause, Corruption, Event};

/// Follows what the store moves to quarantine until it is cancelled.
pub async fn follow(ctx: Ctx, mut corrupt: mpsc::UnboundedReceiver<Digest>, cancel: CancellationToken) {
    loop {
        let digest = tokio::select! {
            () = cancel.cancelled() => return,
            found = corrupt.recv() => match found {
                Some(digest) => digest,
                None => return,
            },
        };
        if ctx.store.facts().is_corrupt(digest) {
            continue;
        }
        let actor = Actor::daemon();
        let event = Event::Corruption(Corruption { digest, corrupt: true });
        if let Err(error) = ctx.commit(actor.clone(), vec![event]).await {
            tracing::error!(%digest, %error, "corrupt content could not be put on record");
            continue;
        }
        let cause = Cause { code: "corrupt".to_owned(), detail: format!("{digest} failed its digest") };
        let affected = Affected { digests: [digest].into(), ..Affected::default() }.with_children(&ctx);
        if let Err(error) = ctx.teller.tell(&ctx, &actor, cause, affected.into()).await {
            tracing::error!(%error, "verdicts could not be told");
        }
    }
}
