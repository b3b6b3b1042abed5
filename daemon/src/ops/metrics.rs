//! The daemon's numbers, in the text format that Prometheus reads (OpenMetrics).

use std::fs;

use larder_core::verdict::State;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Ctx;
use super::query::summarize;
use super::status::status;
use crate::telemetry::{Counters, StateLabels};
use crate::trust::Condition;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every condition of the trust folder, one of which holds.
const CONDITIONS: [Condition; 5] =
    [Condition::Starting, Condition::Settled, Condition::Unsettled, Condition::Faulty, Condition::Missing];

/// Says how the daemon is, in numbers. Judges every subject once: a few milliseconds for ten thousand.
pub async fn metrics(ctx: &Ctx) -> String {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("larder_build", "The version that runs", version);
    let subjects = Family::<StateLabels, Gauge>::default();
    let counts = summarize(ctx, 0).await.counts;
    for state in State::ALL {
        let count = counts.iter().find(|(one, _)| *one == state).map_or(0, |(_, count)| *count);
        subjects.get_or_create(&StateLabels { state: state.name() }).set(whole(count));
    }
    registry.register("larder_subjects", "Subjects that are held, by state", subjects);
    conditions(ctx, &mut registry);
    let Counters { since, operations, verdicts, trust_changes, endpoint } = ctx.counters.clone();
    registry.register("larder_operations", "Operations that became durable, by kind", operations);
    registry.register("larder_verdicts_told", "Changes of verdicts that were told, by the new state", verdicts);
    registry.register("larder_trust_changes", "Trust sets put in force", trust_changes);
    registry.register("larder_endpoint_requests", "Requests that the endpoint answered", endpoint);
    let requests = ctx.remotes.requests();
    count(&mut registry, "larder_registry_requests", "Requests sent to registries", requests.sent);
    count(&mut registry, "larder_registry_failures", "Requests to registries that got no answer", requests.failed);
    let started = whole(u64::try_from(since.as_second()).unwrap_or(0));
    gauge(&mut registry, "process_start_time_seconds", "When the daemon was started, since 1970", started);
    if let Some(resident) = resident_bytes() {
        gauge(&mut registry, "process_resident_memory_bytes", "Memory that is resident", whole(resident));
    }
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Adds what the store and the trust folder are like.
fn conditions(ctx: &Ctx, registry: &mut Registry) {
    let status = status(ctx);
    gauge(registry, "larder_journal_seq", "The journal's last seq", whole(status.seq));
    gauge(registry, "larder_store_bytes", "Content that is held", whole(ctx.store.bytes()));
    let read_only = status.read_only.is_some();
    gauge(registry, "larder_store_read_only", "1 where nothing can be written", read_only.into());
    let rebuilding = status.rebuilding.is_some();
    gauge(registry, "larder_index_rebuilding", "1 while the look-up index is rebuilt", rebuilding.into());
    let condition = Family::<StateLabels, Gauge>::default();
    for one in CONDITIONS {
        let holds = one == status.trust.condition;
        condition.get_or_create(&StateLabels { state: one.name() }).set(holds.into());
    }
    registry.register("larder_trust_condition", "1 for how the trust folder is", condition);
    let faults = status.trust.faults.len() as u64;
    gauge(registry, "larder_trust_faults", "What is wrong with the trust folder", whole(faults));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn count(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the resident memory; `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}
