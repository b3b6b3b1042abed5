//! The log: lines on stderr, for people or for machines.

use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::store::record::{Event, OperationKind, Record};

/// The levels, least first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The most bytes of a level; a filter is a line that a person wrote.
const MAX_LEVEL: usize = 1024;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// How much is logged: a level, or filters of single modules as `larderd::remote=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel {
    filter: String,
}

/// Says that a text is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no log level; write {levels} or filters as larderd::remote=debug", levels = LEVELS.join(", "))]
pub struct LogLevelError(String);

impl Default for LogLevel {
    fn default() -> Self {
        Self::of("info")
    }
}

impl LogLevel {
    /// A bare level is the daemon's own; of the libraries only warnings are worth a line.
    fn of(level: &str) -> Self {
        let others = if matches!(level, "off" | "error") { level } else { "warn" };
        Self { filter: format!("{others},larderd={level}") }
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        if lower.is_empty() {
            // As with other variables: empty is as good as not there.
            return Ok(Self::default());
        }
        if LEVELS.contains(&lower.as_str()) {
            return Ok(Self::of(&lower));
        }
        // A word without `=` would be taken for a module's name, and a level that is misspelt would log nothing.
        let is_filter = |part: &str| part.contains('=') || LEVELS.contains(&part.trim().to_ascii_lowercase().as_str());
        let sound = text.len() <= MAX_LEVEL && text.split(',').all(is_filter);
        match EnvFilter::builder().parse(text) {
            Ok(_) if sound => Ok(Self { filter: text.to_owned() }),
            _ => Err(LogLevelError(text.chars().take(80).collect())),
        }
    }
}

/// Sends the log to stderr from now on.
pub fn begin(level: &LogLevel, format: LogFormat) {
    let filter = EnvFilter::new(&level.filter);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Logs a record that is durable: what was done or told, by whom, and its seq.
pub fn journaled(record: &Record) {
    let seq = record.seq;
    let by = by(record);
    match &record.event {
        Event::Operation(operation) => tracing::info!(
            seq,
            operation = name(operation.kind),
            reference = operation.reference,
            manifests = operation.manifests.len(),
            tags = operation.tags.len(),
            by,
            "an operation is durable"
        ),
        Event::TrustChanged(change) => {
            tracing::info!(seq, set = %change.set, changes = change.changes.join(", "), by, "trust changed");
        }
        Event::VerdictsTold(told) => {
            let (cause, detail) = (told.cause.code.as_str(), told.cause.detail.as_str());
            tracing::info!(seq, changes = told.changes.len(), cause, detail, "verdicts changed");
            for (place, verdict) in (0_u64..).zip(&told.changes) {
                let from = verdict.from.map_or("", |state| state.name());
                let (repository, digest, to) = (&verdict.repository, verdict.digest, verdict.to.name());
                tracing::debug!(seq = seq.saturating_add(place), %repository, %digest, from, to, "a verdict changed");
            }
        }
        Event::Pruned(_) => tracing::info!(seq, by, "old history was pruned"),
        Event::Corruption(found) if found.corrupt => {
            tracing::error!(seq, digest = %found.digest, "content failed its digest and is in quarantine");
        }
        Event::Corruption(found) => tracing::info!(seq, digest = %found.digest, "corrupt content is whole again"),
    }
}

/// Returns an operation's name, as the log and the counters have it.
pub fn name(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Pull => "pull",
        OperationKind::Push => "push",
        OperationKind::Receive => "receive",
        OperationKind::Sign => "sign",
        OperationKind::Tag => "tag",
        OperationKind::Untag => "untag",
        OperationKind::Save => "save",
        OperationKind::Load => "load",
        OperationKind::Attach => "attach",
        OperationKind::Clean => "clean",
    }
}

fn by(record: &Record) -> String {
    match record.actor.uid {
        Some(uid) => format!("uid {uid} ({})", record.actor.via),
        None => record.actor.via.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_the_daemons_own() {
        let filter = |text: &str| text.parse::<LogLevel>().map(|level| level.filter);
        assert_eq!(filter("debug").as_deref(), Ok("warn,larderd=debug"));
        assert_eq!(filter(""), Ok(LogLevel::default().filter));
        assert_eq!(filter("INFO").as_deref(), Ok("warn,larderd=info"));
        assert_eq!(filter("off").as_deref(), Ok("off,larderd=off"));
        assert_eq!(filter("larderd::remote=trace").as_deref(), Ok("larderd::remote=trace"));
        assert_eq!(filter("warn,larderd=debug").as_deref(), Ok("warn,larderd=debug"));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["loud", "debugg", "larderd=loud", "info,loud", "a=b=c", &"x=info,".repeat(200)] {
            assert!(text.parse::<LogLevel>().is_err(), "{text:?}");
        }
    }
}
