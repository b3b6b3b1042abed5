//! `larder log`.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use larder_proto::v1;
use larder_proto::v1::history_entry::What;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::fit;
use crate::output::{Output, json, state, text, time, words};

/// How many entries a person sees unless they name a number.
const TOLD: usize = 20;
/// How many are asked for at once.
const PAGE: usize = 1000;

/// Show what happened to an artifact or a tag, or to everything, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder log
  larder log registry.example.org/store/app:1.4
  larder log -n 1000 --output json")]
pub(crate) struct Arguments {
    /// An artifact or a tag; everything without it
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// How many entries [default: 20 on a terminal, else all]
    #[arg(short = 'n', value_name = "N", value_parser = count)]
    number: Option<usize>,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "it is a number of entries".to_owned())
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let person = output.is_read_by_a_person();
    let wanted = arguments.number.unwrap_or(if person { TOLD } else { usize::MAX });
    let reference = arguments.reference.unwrap_or_default();
    let client = connect(output).await?;
    let mut entries: Vec<v1::HistoryEntry> = Vec::new();
    let mut before = 0;
    let mut pruned = None;
    let more = loop {
        let left = wanted.saturating_sub(entries.len());
        if left == 0 {
            break !entries.is_empty();
        }
        let request = v1::HistoryRequest {
            reference: reference.clone(),
            page_size: u32::try_from(left.min(PAGE)).unwrap_or(u32::MAX),
            before,
        };
        let page = client.verification().history(request).await?.into_inner();
        entries.extend(page.entries);
        pruned = (page.pruned_until > 0).then_some((page.pruned_until, page.pruned_at));
        before = page.next_before;
        if before == 0 {
            break false;
        }
    };
    if output.is_json() {
        output.document(&entries.iter().map(to_json).collect())?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output.say(&match reference.as_str() {
            "" => "nothing is on record yet".to_owned(),
            reference => format!("nothing is on record about {reference}"),
        });
    }
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let rows: Vec<Vec<String>> = entries.iter().map(|entry| row(entry, &reference, now, &zone)).collect();
    if !rows.is_empty() {
        output.data(&fit(&rows, output.columns()).join("\n"))?;
    }
    if let Some((until, at)) = pruned.filter(|_| !more) {
        let at = time::read(at.as_ref()).map(|at| format!(", {}", time::day(at, now, &zone))).unwrap_or_default();
        output.say(&format!("older history, up to #{until}, was pruned{at}; what still holds of it is kept"));
    }
    if more && person {
        let command = match reference.as_str() {
            "" => format!("larder log -n {}", entries.len().saturating_mul(10)),
            reference => format!("larder log {} -n {}", text::quoted(reference), entries.len().saturating_mul(10)),
        };
        output.data(&format!("… older ones: `{command}`"))?;
    }
    Ok(Exit::Done)
}

fn row(entry: &v1::HistoryEntry, about: &str, now: Timestamp, zone: &TimeZone) -> Vec<String> {
    let when = time::read(entry.time.as_ref()).map(|time| time::day(time, now, zone)).unwrap_or_default();
    let by = by(&entry.actor);
    let (what, rest) = match &entry.what {
        Some(What::Verdict(change)) => {
            let because = words::because(&change.reasons);
            let cause = change.cause.as_ref().map(words::cause).unwrap_or_default();
            let subject = match about {
                "" => format!("{}  ", text::subject(&change.repository, &change.tags, &change.digest)),
                _ => String::new(),
            };
            (state::coloured(change.to(), 10), format!("{subject}{because}  because {cause}{by}"))
        }
        Some(What::Tag(moved)) => {
            let name = if about.is_empty() { format!("{}:{}", moved.repository, moved.tag) } else { moved.tag.clone() };
            let to = if moved.new.is_empty() { "nothing".to_owned() } else { text::short(&moved.new) };
            let from =
                if moved.old.is_empty() { String::new() } else { format!(", before {}", text::short(&moved.old)) };
            ("tag".to_owned(), format!("{name} → {to}{from}{by}"))
        }
        Some(What::Operation(operation)) => {
            let counts = [(operation.manifests, "manifest"), (operation.signatures, "signature")];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            let counts: Vec<String> = counts.map(|(count, noun)| text::count(u64::from(count), noun)).collect();
            let gap = if counts.is_empty() { "" } else { "  " };
            (operation.kind.clone(), format!("{}{gap}{}{by}", operation.reference, counts.join(", ")))
        }
        Some(What::Trust(change)) => ("trust".to_owned(), format!("{}{by}", change.changes.join(", "))),
        Some(What::Corruption(one)) => {
            let what = if one.corrupt { "failed its digest" } else { "is whole again" };
            ("bytes".to_owned(), format!("{} {what}{by}", text::short(&one.digest)))
        }
        Some(What::Pruned(pruned)) => ("pruned".to_owned(), format!("history up to #{}{by}", pruned.until)),
        None => ("?".to_owned(), "something that this larder does not know; it is older than larderd".to_owned()),
    };
    vec![format!("#{}", entry.seq), when, what, text::short_digests(&rest)]
}

/// Names who did it; what larderd does by itself has a cause that says enough.
fn by(actor: &str) -> String {
    match actor {
        "" | "larderd" => String::new(),
        "file" => " (a file changed)".to_owned(),
        actor => format!(" (by {actor})"),
    }
}

fn to_json(entry: &v1::HistoryEntry) -> Value {
    let mut object = json!({
        "seq": entry.seq,
        "time": json::time_of(entry.time.as_ref()),
        "actor": entry.actor,
    });
    let (kind, fields) = match &entry.what {
        Some(What::Verdict(change)) => (
            "verdict",
            json!({
                "repository": change.repository,
                "tags": change.tags,
                "digest": change.digest,
                "from": json::state_of(change.from),
                "to": json::state_of(change.to),
                "reasons": json::reasons(&change.reasons),
                "cause": change.cause.as_ref().map_or(Value::Null, json::reason),
                "previous": change.previous,
            }),
        ),
        Some(What::Tag(moved)) => (
            "tag",
            json!({
                "repository": moved.repository,
                "tag": moved.tag,
                "old": json::text_of(&moved.old),
                "new": json::text_of(&moved.new),
            }),
        ),
        Some(What::Operation(operation)) => (
            "operation",
            json!({
                "operation": operation.kind,
                "reference": operation.reference,
                "manifests": operation.manifests,
                "signatures": operation.signatures,
            }),
        ),
        Some(What::Trust(change)) => ("trust", json!({"changes": change.changes, "set": json::text_of(&change.set)})),
        Some(What::Pruned(pruned)) => ("pruned", json!({"until": pruned.until, "state": json::text_of(&pruned.state)})),
        Some(What::Corruption(one)) => ("corruption", json!({"digest": one.digest, "corrupt": one.corrupt})),
        None => ("unknown", json!({})),
    };
    object["type"] = json!(kind);
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What) -> v1::HistoryEntry {
        v1::HistoryEntry {
            seq: 88_413,
            time: Some(prost_types::Timestamp { seconds: 37_867, nanos: 0 }),
            actor: "uid 1000, larder trust add".to_owned(),
            what: Some(what),
        }
    }

    fn change() -> What {
        What::Verdict(v1::VerdictChange {
            repository: "r/app".to_owned(),
            tags: vec!["1.4".to_owned()],
            digest: "sha256:00".to_owned(),
            from: v1::State::Untrusted.into(),
            to: v1::State::Verified.into(),
            reasons: vec![v1::Reason { code: "signed-by".to_owned(), detail: "release".to_owned() }],
            cause: Some(v1::Reason { code: "trust-changed".to_owned(), detail: "keys/release.pub added".to_owned() }),
            previous: 7,
        })
    }

    #[test]
    fn entries_in_lines() {
        let now = Timestamp::from_second(40_000).expect("a time");
        let lines = |about: &str, what: What| fit(&[row(&entry(what), about, now, &TimeZone::UTC)], None).join("");
        assert_eq!(
            lines("r/app:1.4", change()),
            "#88413  today 10:31  \u{1b}[32mverified  \u{1b}[0m  by release  because keys/release.pub added (by uid 1000, larder trust add)"
        );
        assert!(lines("", change()).contains("r/app:1.4  by release"));
        let moved = v1::TagMove {
            repository: "r/app".to_owned(),
            tag: "1.4".to_owned(),
            old: String::new(),
            new: "sha256:6f1c0e2b9d77aa".to_owned(),
        };
        assert!(lines("r/app", What::Tag(moved)).contains("tag  1.4 → 6f1c0e2b9d77 (by"));
    }

    #[test]
    fn entries_in_json() {
        let json = to_json(&entry(change()));
        assert_eq!((&json["type"], &json["seq"], &json["previous"]), (&json!("verdict"), &json!(88_413), &json!(7)));
        assert_eq!(json["cause"]["code"], "trust-changed");
        assert_eq!(json["time"], "1970-01-01T10:31:07Z");
    }
}
