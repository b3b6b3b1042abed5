//! What is counted while the daemon runs.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::log;
use crate::store::record::{Event, Record};

/// What has happened since the daemon was started. Cheap to clone.
///
/// Labels are the daemon's own words, never a client's or a registry's: so their number is bounded.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Since when it is counted.
    pub since: Timestamp,
    /// Operations that became durable, by kind.
    pub operations: Family<KindLabels, Counter>,
    /// Verdicts told, by the state that was told.
    pub verdicts: Family<StateLabels, Counter>,
    /// Trust sets put in force.
    pub trust_changes: Counter,
    /// Requests that the endpoint answered, by method and status.
    pub endpoint: Family<EndpointLabels, Counter>,
}

/// By kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// pull, push, receive, sign, tag, untag, attach.
    pub kind: &'static str,
}

/// By state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabels {
    /// A state's name.
    pub state: &'static str,
}

/// By method and status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabels {
    /// The method; `other` for those that the endpoint does not know.
    pub method: &'static str,
    /// The HTTP status.
    pub status: u16,
}

impl Counters {
    /// Begins to count.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            operations: Family::default(),
            verdicts: Family::default(),
            trust_changes: Counter::default(),
            endpoint: Family::default(),
        }
    }

    /// Counts a record that is durable.
    pub fn journaled(&self, record: &Record) {
        match &record.event {
            Event::Operation(operation) => {
                self.operations.get_or_create(&KindLabels { kind: log::name(operation.kind) }).inc();
            }
            Event::TrustChanged(_) => {
                self.trust_changes.inc();
            }
            Event::VerdictsTold(told) => {
                for verdict in &told.changes {
                    self.verdicts.get_or_create(&StateLabels { state: verdict.to.name() }).inc();
                }
            }
            Event::Corruption(_) | Event::Pruned(_) => {}
        }
    }

    /// Counts a request that the endpoint answered.
    pub fn answered(&self, method: &str, status: u16) {
        const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.endpoint.get_or_create(&EndpointLabels { method, status }).inc();
    }
}
