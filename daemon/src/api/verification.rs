//! `larder.v1.Verification`.

use std::sync::Arc;

use larder_proto::v1;
use larder_proto::v1::verification_server::Verification;
use larder_proto::v1::watch_request;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{asked, convert};
use crate::ops::status::{Process, status};
use crate::ops::verify_asked::Of;
use crate::ops::watch::{From as WatchFrom, watch};
use crate::ops::{Ctx, history, query, trust_edit, verify, verify_asked};

/// The most references of one query.
const MAX_REFERENCES: usize = 1000;
/// The longest page.
const MAX_PAGE: usize = 1000;
/// The page where none is named.
const DEFAULT_PAGE: usize = 100;
/// How many events may wait for a slow client.
const EVENTS: usize = 256;

/// How many watches may be open at once.
const MAX_WATCHES: usize = 128;

pub(super) struct Service {
    ctx: Ctx,
    process: Arc<Process>,
    cancel: CancellationToken,
    /// Each watch holds a position in the journal and two queues of events.
    watches: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(ctx: Ctx, process: Arc<Process>, cancel: CancellationToken) -> Self {
        Self { ctx, process, cancel, watches: Arc::new(Semaphore::new(MAX_WATCHES)) }
    }
}

#[tonic::async_trait]
impl Verification for Service {
    type WatchStream = ReceiverStream<Result<v1::WatchEvent, Status>>;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<v1::QueryResponse>, Status> {
        let references = request.into_inner().references;
        if references.len() > MAX_REFERENCES {
            let message = format!("a query takes at most {MAX_REFERENCES} references");
            return Err(ApiError::invalid("invalid-argument", message).into());
        }
        let mut results = Vec::with_capacity(references.len());
        for reference in references {
            results.push(self.query_one(reference).await);
        }
        Ok(Response::new(v1::QueryResponse { results }))
    }

    async fn summarize(
        &self,
        request: Request<v1::SummarizeRequest>,
    ) -> Result<Response<v1::SummarizeResponse>, Status> {
        let limit = (request.into_inner().limit as usize).min(MAX_PAGE);
        let summary = query::summarize(&self.ctx, limit).await;
        let status = status(&self.ctx);
        let (keys, policies) = trust_edit::counts(&status.trust.view);
        Ok(Response::new(v1::SummarizeResponse {
            counts: summary
                .counts
                .into_iter()
                .map(|(state, count)| v1::StateCount { state: convert::state(state).into(), count })
                .collect(),
            subjects: summary.subjects,
            not_accepted: summary.not_accepted.iter().map(convert::answer).collect(),
            not_accepted_total: summary.not_accepted_total,
            keys: u32::try_from(keys).unwrap_or(u32::MAX),
            policies: u32::try_from(policies).unwrap_or(u32::MAX),
            trust: Some(convert::trust_health(&status.trust, &self.process.trust_folder, self.ctx.clock.now())),
            store_bytes: self.ctx.store.bytes(),
        }))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let (answer, tree) = query::explain(&self.ctx, &question).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ExplainResponse {
            verdict: Some(convert::answer(&answer)),
            tree: Some(convert::node(tree)),
        }))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let question = request.into_inner().reference.parse().map_err(ApiError::from)?;
        let verified = verify::verify(&self.ctx, &question).await.map_err(ApiError::from)?;
        let signature = |signature: verify::VerifiedSignature| v1::VerifiedSignature {
            payload: signature.payload,
            key: signature.key,
            key_id: signature.anchor.to_string(),
            found_at: signature.found_at,
        };
        Ok(Response::new(v1::VerifyResponse {
            verdict: Some(v1::Verdict {
                held: verified.held,
                ..convert::offered(&verified.subject, &verified.verdict)
            }),
            signatures: verified.signatures.into_iter().map(signature).collect(),
            checks: verified.checks,
            looked_at: verified.looked_at,
        }))
    }

    async fn verify_signatures(
        &self,
        request: Request<v1::VerifySignaturesRequest>,
    ) -> Result<Response<v1::VerifySignaturesResponse>, Status> {
        let request = request.into_inner();
        let question = request.reference.parse().map_err(ApiError::from)?;
        let asked = asked::asked(&request, self.ctx.clock.now())?;
        let of = if request.attached_sbom { Of::AttachedSbom } else { Of::Image };
        let answered = verify_asked::verify(&self.ctx, &question, of, asked).await.map_err(ApiError::from)?;
        Ok(Response::new(asked::answer(answered, !request.annotations.is_empty())))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let from = match request.into_inner().from {
            None => WatchFrom::Snapshot,
            Some(watch_request::From::Now(_)) => WatchFrom::Now,
            Some(watch_request::From::Start(_)) => WatchFrom::Start,
            Some(watch_request::From::After(seq)) => WatchFrom::After(seq),
        };
        let Ok(place) = Arc::clone(&self.watches).try_acquire_owned() else {
            return Err(ApiError::exhausted("too-many-watches", format!("{MAX_WATCHES} watches are open")).into());
        };
        let (items, mut received) = mpsc::channel(EVENTS);
        let (events, stream) = mpsc::channel(EVENTS);
        let (ctx, cancel) = (self.ctx.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let _place = place;
            let render = async {
                while let Some(item) = received.recv().await {
                    if events.send(Ok(convert::watch_event(item))).await.is_err() {
                        break;
                    }
                }
                received.close();
            };
            let follow = async move {
                let watched = watch(&ctx, from, &items).await;
                drop(items);
                watched
            };
            tokio::select! {
                (watched, ()) = async { tokio::join!(follow, render) } => if let Err(error) = watched {
                    // A client that has gone needs no answer.
                    let _ = events.send(Err(ApiError::from(error).into())).await;
                },
                () = events.closed() => {}
                () = cancel.cancelled() => {
                    let stopping = ApiError::unavailable("stopping", "larderd is stopping");
                    let _ = events.send(Err(stopping.into())).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryResponse>, Status> {
        let request = request.into_inner();
        let limit = match request.page_size as usize {
            0 => DEFAULT_PAGE,
            size => size.min(MAX_PAGE),
        };
        let page = history::history(&self.ctx, &request.reference, request.before, limit);
        let page = page.await.map_err(ApiError::from)?;
        Ok(Response::new(v1::HistoryResponse {
            entries: page.entries.into_iter().map(convert::history_entry).collect(),
            next_before: page.next_before,
            pruned_until: page.pruned.map_or(0, |(until, _)| until),
            pruned_at: page.pruned.map(|(_, time)| convert::timestamp(time)),
        }))
    }
}

impl Service {
    async fn query_one(&self, reference: String) -> v1::QueryResult {
        use v1::query_result::Result as Rendered;
        let answered = match reference.parse() {
            Ok(question) => query::query(&self.ctx, &question).await.map_err(ApiError::from),
            Err(error) => Err(ApiError::from(error)),
        };
        let result = match answered {
            Ok(answer) => Rendered::Verdict(convert::answer(&answer)),
            Err(error) => Rendered::Error(v1::QueryError {
                reason: error.reason.to_owned(),
                message: error.message,
                hint: error.hint.unwrap_or_default(),
            }),
        };
        v1::QueryResult { reference, result: Some(result) }
    }
}
