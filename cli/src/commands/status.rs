//! `larder status`.

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::query_result::Result as Answer;
use serde_json::{Map, Value, json};

use super::ls;
use super::trust::roots::age;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::indented;
use crate::output::{Output, json, state, text, time, words};

/// The reason of a tag that cannot be looked up while the index is rebuilt.
const REBUILDING: &str = "rebuilding";
/// How many that are not accepted a person sees unless they ask for all.
const TOLD: u32 = 10;
/// The most that a summary lists.
const MOST: u32 = 1000;

/// Say what is accepted and what is not
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 accepted, 3 not accepted, 4 pending; without REF, 3 where anything \
that is held is rejected.

Examples:
  larder status
  larder status --not-accepted
  larder status registry.example.org/store/app:1.4 --output json")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// List all that is not accepted
    #[arg(long, conflicts_with = "reference")]
    not_accepted: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    match arguments.reference {
        Some(reference) => one(&client, reference, output).await,
        None => summary(&client, arguments.not_accepted, output).await,
    }
}

async fn one(client: &Client, reference: String, output: &Output) -> Result<Exit, Error> {
    let request = v1::QueryRequest { references: vec![reference.clone()] };
    let answer = client.verification().query(request).await?.into_inner().results.into_iter().next();
    let verdict = match answer.and_then(|answer| answer.result) {
        Some(Answer::Verdict(verdict)) => verdict,
        Some(Answer::Error(error)) if error.reason == REBUILDING && output.is_json() => {
            output.document(&rebuilding(&reference, &error))?;
            return Ok(Exit::Pending);
        }
        Some(Answer::Error(error)) => return Err(from_query(error)),
        None => return Err(Error::new("no-answer", format!("larderd gave no answer about {reference}")).hint("")),
    };
    if output.is_json() {
        output.document(&json::verdict(&verdict))?;
    } else {
        let person = output.is_read_by_a_person();
        output.data(&format!(
            "{}  {}  {}  {}",
            state::marked(verdict.state(), 0, person),
            text::subject_of(&verdict),
            text::short(&verdict.digest),
            words::because(&verdict.reasons)
        ))?;
        if let Some(remedy) = words::remedy(&verdict) {
            output.say(&format!("  hint: {remedy}"));
        }
    }
    Ok(Exit::of(verdict.state()))
}

/// A tag that cannot be looked up yet is pending: scripts get their one object.
fn rebuilding(reference: &str, error: &v1::QueryError) -> Value {
    json!({
        "reference": reference,
        "repository": Value::Null,
        "digest": Value::Null,
        "state": state::name(v1::State::Pending),
        "reasons": [{"code": error.reason, "detail": error.message}],
    })
}

fn from_query(error: v1::QueryError) -> Error {
    let exit = if error.reason == REBUILDING { Exit::Pending } else { Exit::Error };
    Error::new(&error.reason, error.message).exits(exit).hint(error.hint)
}

async fn summary(client: &Client, all: bool, output: &Output) -> Result<Exit, Error> {
    let cut = output.is_read_by_a_person() && !all;
    let request = v1::SummarizeRequest { limit: if cut { TOLD } else { MOST } };
    let mut summary = client.verification().summarize(request).await?.into_inner();
    if !cut && summary.not_accepted_total > summary.not_accepted.len() as u64 {
        let artifacts = ls::list(client, "", true).await?;
        summary.not_accepted = artifacts.into_iter().filter_map(|artifact| artifact.verdict).collect();
    }
    if output.is_json() {
        output.document(&to_json(&summary))?;
    } else {
        output.data(&lines(&summary, output.columns(), jiff::Timestamp::now()).join("\n"))?;
    }
    let faults = summary.trust.as_ref().map(|trust| trust.faults.as_slice()).unwrap_or_default();
    for fault in faults {
        output.warn(&format!("trust/{}: {}; nothing new is accepted while this lasts", fault.path, fault.message));
    }
    Ok(exit_of(&summary.counts))
}

fn exit_of(counts: &[v1::StateCount]) -> Exit {
    let present = counts.iter().filter(|count| count.count > 0).map(|count| Exit::of(count.state()));
    present.fold(Exit::Done, Exit::or_worse)
}

fn lines(summary: &v1::SummarizeResponse, columns: Option<usize>, now: jiff::Timestamp) -> Vec<String> {
    let mut counts = vec![format!("  {}", text::count(summary.subjects, "subject"))];
    counts.extend(
        summary
            .counts
            .iter()
            .filter(|count| count.count > 0)
            .map(|count| format!("{} {}", text::number(count.count), state::coloured(count.state(), 0))),
    );
    let mut lines = vec![counts.join("   ")];
    let keys = text::count(u64::from(summary.keys), "key");
    let policies = match summary.policies {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    };
    let mut trust = format!("  trust: {keys}, {policies}");
    if let Some(health) = &summary.trust {
        if let Some(since) = time::read(health.since.as_ref()) {
            trust.push_str(&format!(", in force since {}", time::day(since, now, &jiff::tz::TimeZone::system())));
        }
        if health.condition != "settled" {
            trust.push_str(&format!(" ({}{}{})", state::WAITING, health.condition, state::END));
        }
    }
    trust.push_str(&format!("   store: {}", text::bytes(summary.store_bytes)));
    lines.push(trust);
    let roots = summary.trust.iter().flat_map(|health| &health.roots);
    lines.extend(roots.map(|root| format!("  root {}: {}", root.name, age(root, now))));
    let rows: Vec<Vec<String>> = summary.not_accepted.iter().map(|verdict| row(verdict, columns.is_some())).collect();
    lines.extend(indented(&rows, columns));
    let more = summary.not_accepted_total.saturating_sub(rows.len() as u64);
    if more > 0 {
        lines.push(format!("  … {} more: `larder status --not-accepted`", text::number(more)));
    }
    lines
}

fn row(verdict: &v1::Verdict, for_a_person: bool) -> Vec<String> {
    vec![state::marked(verdict.state(), 0, for_a_person), text::subject_of(verdict), words::because(&verdict.reasons)]
}

fn to_json(summary: &v1::SummarizeResponse) -> Value {
    let mut states = Map::new();
    for count in &summary.counts {
        states.insert(state::name(count.state()).to_owned(), json!(count.count));
    }
    json!({
        "subjects": summary.subjects,
        "states": states,
        "not_accepted_total": summary.not_accepted_total,
        "not_accepted": summary.not_accepted.iter().map(json::verdict).collect::<Vec<_>>(),
        "keys": summary.keys,
        "policies": summary.policies,
        "trust": json::trust_health(summary.trust.as_ref()),
        "store_bytes": summary.store_bytes,
    })
}

#[cfg(test)]
mod tests {
    use larder_proto::v1::State;

    use super::*;

    fn count(state: State, count: u64) -> v1::StateCount {
        v1::StateCount { state: state.into(), count }
    }

    #[test]
    fn a_summary_exits_by_the_worst_that_is_held() {
        assert_eq!(exit_of(&[]).code(), 0);
        assert_eq!(exit_of(&[count(State::Verified, 5), count(State::Unsigned, 0)]).code(), 0);
        assert_eq!(exit_of(&[count(State::Verified, 5), count(State::Pending, 1)]).code(), 4);
        assert_eq!(exit_of(&[count(State::Pending, 5), count(State::Revoked, 1)]).code(), 3);
    }

    #[test]
    fn a_summary_counts_and_names_the_worst() {
        let revoked = v1::Verdict {
            repository: "registry.example.org/store/app".to_owned(),
            tags: vec!["1.2".to_owned()],
            state: State::Revoked.into(),
            reasons: vec![v1::Reason {
                code: "key-revoked".to_owned(),
                detail: "release-2024 revoked: leaked laptop".to_owned(),
            }],
            ..v1::Verdict::default()
        };
        let summary = v1::SummarizeResponse {
            counts: vec![count(State::Verified, 1187), count(State::Revoked, 13), count(State::Unsigned, 0)],
            subjects: 1200,
            not_accepted: vec![revoked],
            not_accepted_total: 13,
            keys: 4,
            policies: 1,
            trust: None,
            store_bytes: 61 << 30,
        };
        let (good, bad, end) = (state::GOOD, state::BAD, state::END);
        assert_eq!(
            lines(&summary, None, jiff::Timestamp::UNIX_EPOCH),
            [
                format!("  1,200 subjects   1,187 {good}verified{end}   13 {bad}revoked{end}"),
                "  trust: 4 keys, 1 policy   store: 61.0 GiB".to_owned(),
                "  revoked  registry.example.org/store/app:1.2  key release-2024 revoked: leaked laptop".to_owned(),
                "  … 12 more: `larder status --not-accepted`".to_owned(),
            ]
        );
        assert_eq!(to_json(&summary)["states"], json!({"verified": 1187, "revoked": 13, "unsigned": 0}));
    }

    #[test]
    fn a_look_up_while_the_index_is_rebuilt_is_pending() {
        let error = |reason: &str| v1::QueryError { reason: reason.to_owned(), ..v1::QueryError::default() };
        assert_eq!(from_query(error("rebuilding")).exit(), Exit::Pending);
        assert_eq!(from_query(error("not-held")).exit(), Exit::Error);
    }
}
