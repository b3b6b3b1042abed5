//! `larder watch`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use larder_proto::v1;
use larder_proto::v1::watch_event::Type;
use larder_proto::v1::watch_request;
use serde_json::{Value, json};
use tonic::Streaming;

use crate::connect::{Client, Place, connect, try_again};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, json, state, text, time, words};

/// How often a daemon that went away is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many of the states last told a person sees.
const TOLD: u64 = 20;

/// Follow every change of every verdict
#[derive(Debug, Args)]
#[command(
    after_help = "Without --from, the states last told come first, then `complete`, then every change. Each line of \
--output json is an object; its `seq` is the cursor that --from takes. Ctrl-C ends it.

Examples:
  larder watch
  larder watch --from now
  larder watch --from 88412 --output json | jq -r .digest"
)]
pub(crate) struct Arguments {
    /// Where to begin: with what comes from now on, with everything that is remembered, or after a seq
    #[arg(long, value_name = "now|start|SEQ")]
    from: Option<From>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Now,
    Start,
    After(u64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            "start" => Ok(Self::Start),
            seq => seq.parse().map(Self::After).map_err(|_| "it is `now`, `start` or the number of a seq".to_owned()),
        }
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    tokio::select! {
        ended = follow(arguments.from, output) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    }
}

/// Follows until something ends it; a daemon that goes away is waited for.
async fn follow(from: Option<From>, output: &Output) -> Result<Exit, Error> {
    let place = Place::from_environment()?;
    let mut client = connect(output).await?;
    let mut cursor = Cursor::new(from);
    if from == Some(From::Now) {
        // So that what comes while the daemon is away is not lost.
        cursor.seen = Some(client.daemon().get_status(v1::GetStatusRequest {}).await?.into_inner().seq);
    }
    let mut told = Told::default();
    let mut begun = false;
    loop {
        let ended = match client.verification().watch(cursor.request(begun)).await {
            Ok(events) => {
                begun = true;
                tell_all(events.into_inner(), &mut cursor, &mut told, output).await
            }
            Err(status) => Err(status.into()),
        };
        match ended {
            Ok(()) => {}
            Err(error) if error.is_disconnected() => {}
            Err(error) => return Err(error),
        }
        output.say("larder: larderd went away; waiting for it to come back (Ctrl-C ends the watch)");
        client = reconnect(&place).await?;
        output.say(&match cursor.seen {
            Some(seq) => format!("larder: larderd is back; going on after #{seq}"),
            None => "larder: larderd is back; beginning again".to_owned(),
        });
    }
}

async fn reconnect(place: &Place) -> Result<Client, Error> {
    loop {
        if let Some(client) = try_again(place).await? {
            return Ok(client);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn tell_all(
    mut events: Streaming<v1::WatchEvent>,
    cursor: &mut Cursor,
    told: &mut Told,
    output: &Output,
) -> Result<(), Error> {
    let zone = TimeZone::system();
    while let Some(event) = events.message().await? {
        cursor.advance(&event);
        if output.is_json() {
            output.json_line(&to_json(&event))?;
        } else if let Some(line) = told.line(&event, output.is_read_by_a_person(), &zone) {
            output.data(&line)?;
        }
    }
    Ok(())
}

/// How far the watch is.
struct Cursor {
    from: Option<From>,
    /// The seq up to which everything was told; none before the snapshot is complete.
    seen: Option<u64>,
}

impl Cursor {
    fn new(from: Option<From>) -> Self {
        let seen = if let Some(From::After(seq)) = from { Some(seq) } else { None };
        Self { from, seen }
    }

    /// Notes that an event was told. The states of a snapshot come in no order, so that none of them is a cursor.
    fn advance(&mut self, event: &v1::WatchEvent) {
        if event.r#type() != Type::State {
            self.seen = Some(self.seen.map_or(event.seq, |seen| seen.max(event.seq)));
        }
    }

    fn request(&self, begun: bool) -> v1::WatchRequest {
        let from = match (self.from, self.seen) {
            (Some(From::Now), _) if !begun => Some(watch_request::From::Now(true)),
            (_, Some(seq)) => Some(watch_request::From::After(seq)),
            (Some(From::Now), None) => Some(watch_request::From::Now(true)),
            (Some(From::Start), None) => Some(watch_request::From::Start(true)),
            (Some(From::After(_)) | None, None) => None,
        };
        v1::WatchRequest { from }
    }
}

/// What a person was shown of the snapshot.
#[derive(Default)]
struct Told {
    states: u64,
}

impl Told {
    fn line(&mut self, event: &v1::WatchEvent, for_a_person: bool, zone: &TimeZone) -> Option<String> {
        let clock = time::read(event.time.as_ref()).map(|time| time::clock(time, zone)).unwrap_or_default();
        let head = format!("{clock:<8}  #{:<6}", event.seq);
        let subject = text::subject(&event.repository, &event.tags, &event.digest);
        let cause = text::short_digests(&event.cause.as_ref().map(words::cause).unwrap_or_default());
        let line = match event.r#type() {
            Type::State => {
                self.states += 1;
                if for_a_person && self.states > TOLD {
                    return None;
                }
                format!("{head}  {}  {subject}", state::marked(event.to(), 10, for_a_person))
            }
            Type::Complete => {
                let more = if for_a_person { self.states.saturating_sub(TOLD) } else { 0 };
                let states = text::count(std::mem::take(&mut self.states), "subject");
                let more =
                    if more > 0 { format!(", {} not shown: `larder ls`", text::number(more)) } else { String::new() };
                format!("{head}  complete    {states} up to here{more}")
            }
            Type::Change => {
                let because = words::because(&event.reasons);
                format!("{head}  {}  {subject}  {because}  ({cause})", change(event, for_a_person))
            }
            Type::Trust => format!("{head}  trust       {cause}"),
            Type::Notice | Type::Unspecified => format!("{head}  notice      {cause}"),
        };
        Some(line)
    }
}

fn change(event: &v1::WatchEvent, for_a_person: bool) -> String {
    let (from, to) = (event.from(), event.to());
    let before = if from == v1::State::Unspecified { "new" } else { state::name(from) };
    let names = format!("{before} → {}", state::coloured(to, 0));
    if !for_a_person {
        return names;
    }
    let mark_before = if from == v1::State::Unspecified { " " } else { state::mark(from) };
    let (colour, end) = (state::colour(to), state::END);
    format!("{mark_before} → {colour}{}{end}  {names}", state::mark(to))
}

fn to_json(event: &v1::WatchEvent) -> Value {
    let kind = match event.r#type() {
        Type::State => "state",
        Type::Complete => "complete",
        Type::Change => "change",
        // A trust set that was put in force is a notice, too: its cause says which.
        Type::Notice | Type::Trust | Type::Unspecified => "notice",
    };
    let mut object = json!({
        "type": kind,
        "seq": event.seq,
        "time": json::time_of(event.time.as_ref()),
    });
    if matches!(event.r#type(), Type::State | Type::Change) {
        object["repository"] = json!(event.repository);
        object["tags"] = json!(event.tags);
        object["digest"] = json!(event.digest);
        object["from"] = json::state_of(event.from);
        object["to"] = json::state_of(event.to);
        object["reasons"] = json::reasons(&event.reasons);
    }
    if event.r#type() != Type::Complete {
        object["cause"] = event.cause.as_ref().map_or(Value::Null, json::reason);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Type, seq: u64) -> v1::WatchEvent {
        v1::WatchEvent {
            r#type: kind.into(),
            seq,
            time: Some(prost_types::Timestamp { seconds: 37_867, nanos: 0 }),
            repository: "r/app".to_owned(),
            tags: vec!["1.4".to_owned()],
            digest: "sha256:00".to_owned(),
            from: v1::State::Verified.into(),
            to: v1::State::Untrusted.into(),
            reasons: vec![v1::Reason { code: "no-policy".to_owned(), detail: "r/app".to_owned() }],
            cause: Some(v1::Reason { code: "trust-changed".to_owned(), detail: "keys/release.pub removed".to_owned() }),
        }
    }

    #[test]
    fn lines_of_json() {
        assert_eq!(
            to_json(&event(Type::Change, 88413)).to_string(),
            r#"{"type":"change","seq":88413,"time":"1970-01-01T10:31:07Z","repository":"r/app","tags":["1.4"],"digest":"sha256:00","from":"verified","to":"untrusted","reasons":[{"code":"no-policy","detail":"r/app"}],"cause":{"code":"trust-changed","detail":"keys/release.pub removed"}}"#
        );
        assert_eq!(
            to_json(&event(Type::Complete, 7)).to_string(),
            r#"{"type":"complete","seq":7,"time":"1970-01-01T10:31:07Z"}"#
        );
        assert_eq!(to_json(&event(Type::Trust, 8))["type"], "notice");
        let first = v1::WatchEvent { from: 0, ..event(Type::Change, 9) };
        assert_eq!(to_json(&first)["from"], Value::Null, "a first telling has no from");
    }

    #[test]
    fn lines_for_people() {
        let (utc, mut told) = (TimeZone::UTC, Told::default());
        let mut line = |kind, person| told.line(&event(kind, 88413), person, &utc).unwrap_or_default();
        assert_eq!(
            line(Type::Change, true),
            "10:31:07  #88413   ✔ → \u{1b}[31m✘\u{1b}[0m  verified → \u{1b}[31muntrusted\u{1b}[0m  r/app:1.4  neither a key nor a policy is for this repository  (keys/release.pub removed)"
        );
        assert_eq!(line(Type::State, false), "10:31:07  #88413   untrusted   r/app:1.4");
        assert_eq!(line(Type::Complete, false), "10:31:07  #88413   complete    1 subject up to here");
        assert_eq!(line(Type::Trust, true), "10:31:07  #88413   trust       keys/release.pub removed");
        for _ in 0..TOLD {
            assert!(!line(Type::State, true).is_empty());
        }
        assert_eq!(line(Type::State, true), "");
        assert!(line(Type::Complete, true).ends_with("21 subjects up to here, 1 not shown: `larder ls`"));
    }

    #[test]
    fn a_cursor_goes_on_after_what_was_told() {
        let after = |cursor: &Cursor| cursor.request(true).from;
        let mut cursor = Cursor::new(None);
        assert_eq!(after(&cursor), None);
        cursor.advance(&event(Type::State, 90));
        assert_eq!(after(&cursor), None, "the states of a snapshot come in no order");
        cursor.advance(&event(Type::Complete, 80));
        assert_eq!(after(&cursor), Some(watch_request::From::After(80)));
        cursor.advance(&event(Type::Change, 81));
        cursor.advance(&event(Type::Notice, 0));
        assert_eq!(after(&cursor), Some(watch_request::From::After(81)));
        let mut empty = Cursor::new(None);
        empty.advance(&event(Type::Complete, 0));
        assert_eq!(after(&empty), Some(watch_request::From::After(0)), "a journal without a record has an end, too");
        let cursor = Cursor { from: Some(From::Now), seen: Some(5) };
        assert_eq!(cursor.request(false).from, Some(watch_request::From::Now(true)));
        assert_eq!(after(&cursor), Some(watch_request::From::After(5)));
        assert_eq!("start".parse(), Ok(From::Start));
        assert_eq!("0".parse(), Ok(From::After(0)));
        assert!("-1".parse::<From>().is_err());
    }
}
