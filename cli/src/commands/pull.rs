//! `larder pull`.

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::sync_event::Event;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::{Error, Told};
use crate::exit::Exit;
use crate::output::{Output, json, state, text, time, words};
use crate::progress::TransferProgress;

/// Pull images with their signatures, attestations and SBOMs
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all that was asked for is here, whatever the verdict; with --verified, 3 where one is
not accepted and 4 where one cannot be judged yet; 1 where one could not be pulled.

Examples:
  larder pull docker.io/library/alpine:3.22
  larder pull --platform all registry.example.org/store/app:1.4
  larder pull --verified registry.example.org/store/app:1.4 registry.example.org/store/db:2"
)]
pub(crate) struct Arguments {
    /// What to pull; a name without a registry is Docker Hub's
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
    /// The platform to take of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH|all")]
    platform: Option<String>,
    /// Judge before layers move, and keep nothing that is not accepted
    #[arg(long)]
    verified: bool,
}

/// What came of one reference.
struct Pulled {
    reference: String,
    resolved: Option<v1::Resolved>,
    ended: Result<v1::Finished, Told>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let wanted = arguments.references.len();
    let request = v1::PullRequest {
        references: arguments.references,
        platform: arguments.platform.unwrap_or_default(),
        verified: arguments.verified,
    };
    let client = connect(output).await?;
    let mut events = client.sync().pull(request).await?.into_inner();
    let mut pulled = Vec::new();
    let mut resolved = None;
    let mut progress = TransferProgress::new(output);
    while pulled.len() < wanted {
        let event = tokio::select! {
            event = events.message() => event?,
            _ = tokio::signal::ctrl_c() => {
                progress.finish();
                return Err(stopped());
            }
        };
        let Some(v1::SyncEvent { reference, event: Some(event) }) = event else { break };
        let ended = match event {
            Event::Resolved(now) => {
                output.say(&resolved_line(&reference, &now));
                resolved = Some(now);
                continue;
            }
            Event::Progress(now) => {
                progress.update(&now);
                continue;
            }
            Event::Finished(finished) => Ok(finished),
            Event::Failed(failed) => Err(told(failed)),
        };
        progress.finish();
        let one = Pulled { reference, resolved: resolved.take(), ended };
        tell(&one, arguments.verified, output)?;
        pulled.push(one);
    }
    if output.is_json() {
        output.document(&pulled.iter().map(to_json).collect())?;
    }
    if pulled.len() < wanted {
        let missing = text::count((wanted - pulled.len()) as u64, "reference");
        return Err(Error::new("incomplete", format!("larderd ended the pull with {missing} left"))
            .hint("what was finished is kept; pull the rest again"));
    }
    let exits = pulled.iter().map(|one| exit_of(&one.ended, arguments.verified));
    Ok(exits.fold(Exit::Done, Exit::or_worse))
}

/// Builds the error of a transfer that a person stopped.
pub(super) fn stopped() -> Error {
    Error::new("stopped", "stopped").hint("what was not finished is not kept; what was here before is as it was")
}

/// Reads the error of one reference.
pub(super) fn told(failed: v1::Failed) -> Told {
    let v1::Failed { reason, message, hint } = failed;
    Told { reason, message, hint: Some(hint).filter(|hint| !hint.is_empty()), exit: Exit::Error }
}

fn exit_of(ended: &Result<v1::Finished, Told>, verified: bool) -> Exit {
    match ended {
        Err(told) => told.exit,
        Ok(finished) if verified => finished.verdict.as_ref().map_or(Exit::Error, |verdict| Exit::of(verdict.state())),
        Ok(_) => Exit::Done,
    }
}

fn tell(pulled: &Pulled, verified: bool, output: &Output) -> Result<(), Error> {
    let finished = match &pulled.ended {
        Ok(finished) => finished,
        Err(told) => {
            let message = if told.message.contains(&pulled.reference) {
                told.message.clone()
            } else {
                format!("{}: {}", pulled.reference, told.message)
            };
            output.error(&Told { reason: told.reason.clone(), message, hint: told.hint.clone(), exit: told.exit });
            return Ok(());
        }
    };
    for line in lines(finished, output.talks_on_terminal()) {
        output.say(&line);
    }
    finished.looked_at.iter().for_each(|line| output.detail(&format!("  looked at {line}")));
    let Some(verdict) = &finished.verdict else { return Ok(()) };
    if output.is_quiet() && !output.is_json() {
        return output.data(&format!("{}@{}  {}", verdict.repository, verdict.digest, state::name(verdict.state())));
    }
    output.say(&verdict_line(verdict, output.talks_on_terminal()));
    if verified && !state::is_accepted(verdict.state()) {
        output.say("  it was judged before anything moved, and nothing of it was kept");
    }
    if let Some(remedy) = words::remedy(verdict) {
        output.say(&format!("  hint: {remedy}"));
    }
    Ok(())
}

/// Says what a reference names.
pub(super) fn resolved_line(reference: &str, resolved: &v1::Resolved) -> String {
    let is_index = resolved.media_type.contains("index") || resolved.media_type.contains("manifest.list");
    let mut line = format!("{reference}  {}{}", if is_index { "index " } else { "" }, text::short(&resolved.digest));
    if !resolved.platforms.is_empty() {
        line.push_str(&format!(", {}", resolved.platforms.join(", ")));
    }
    if resolved.left_out > 0 {
        line.push_str(&format!(" ({} left out)", text::count(u64::from(resolved.left_out), "manifest")));
    }
    line
}

/// Says what moved and what is attached.
pub(super) fn lines(finished: &v1::Finished, bar_was_shown: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let present = match finished.bytes_present {
        0 => String::new(),
        bytes => format!(" ({} already here)", text::bytes(bytes)),
    };
    if finished.bytes_moved == 0 {
        lines.push(format!("  nothing had to move{present}"));
    } else if !bar_was_shown {
        lines.push(format!("  {} moved{present}", text::bytes(finished.bytes_moved)));
    }
    let counts = [
        (finished.signatures, "signature"),
        (finished.sboms, "SBOM"),
        (finished.attestations, "attestation"),
        (finished.others, "other artifact"),
    ];
    let attached: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, noun)| text::count(u64::from(count), noun))
        .collect();
    if !attached.is_empty() {
        lines.push(format!("  {}", attached.join(", ")));
    } else if !finished.looked_at.is_empty() {
        lines.push(format!("  signatures: 0 found ({})", finished.looked_at.join(", ")));
    }
    lines
}

fn verdict_line(verdict: &v1::Verdict, for_a_person: bool) -> String {
    let mut line =
        format!("{}  {}", state::marked(verdict.state(), 10, for_a_person), words::because(&verdict.reasons));
    if let Some(seen) = time::read(verdict.first_seen.as_ref()).filter(|_| state::is_accepted(verdict.state())) {
        line.push_str(&format!(", first seen here {}", time::ago(seen, jiff::Timestamp::now())));
    }
    line
}

fn to_json(pulled: &Pulled) -> Value {
    let mut object = json!({"reference": pulled.reference});
    if let Some(resolved) = &pulled.resolved {
        object["repository"] = json!(resolved.repository);
        object["tag"] = json::text_of(&resolved.tag);
        object["digest"] = json!(resolved.digest);
        object["media_type"] = json!(resolved.media_type);
        object["platforms"] = json!(resolved.platforms);
        object["left_out"] = json!(resolved.left_out);
    }
    match &pulled.ended {
        Ok(finished) => {
            object["moved"] = moved(finished);
            object["attached"] = attached(finished);
            object["verdict"] = json::verdict_of(finished.verdict.as_ref());
            object["seq"] = json!(finished.seq);
        }
        Err(told) => object["error"] = told.to_json()["error"].take(),
    }
    object
}

/// Returns what moved, as JSON.
pub(super) fn moved(finished: &v1::Finished) -> Value {
    json!({
        "bytes": finished.bytes_moved,
        "blobs": finished.blobs_moved,
        "manifests": finished.manifests_moved,
        "bytes_present": finished.bytes_present,
    })
}

/// Returns what is attached, as JSON.
pub(super) fn attached(finished: &v1::Finished) -> Value {
    json!({
        "signatures": finished.signatures,
        "attestations": finished.attestations,
        "sboms": finished.sboms,
        "others": finished.others,
        "looked_at": finished.looked_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(state: v1::State) -> v1::Finished {
        let verdict = v1::Verdict { state: state.into(), ..v1::Verdict::default() };
        v1::Finished { verdict: Some(verdict), ..v1::Finished::default() }
    }

    #[test]
    fn a_verdict_counts_only_where_it_was_asked_for() {
        for (state, verified, code) in [
            (v1::State::Untrusted, false, 0),
            (v1::State::Untrusted, true, 3),
            (v1::State::Pending, true, 4),
            (v1::State::Allowed, true, 0),
        ] {
            assert_eq!(exit_of(&Ok(finished(state)), verified).code(), code, "{state:?} {verified}");
        }
        assert_eq!(exit_of(&Ok(v1::Finished::default()), true).code(), 1, "no verdict is no acceptance");
        let failed = v1::Failed { reason: "not-found".to_owned(), ..v1::Failed::default() };
        assert_eq!(exit_of(&Err(told(failed)), false).code(), 1);
    }

    #[test]
    fn what_is_taken_moved_and_attached() {
        let resolved = v1::Resolved {
            digest: "sha256:4bcff63911fcb444".to_owned(),
            media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
            platforms: vec!["linux/amd64".to_owned()],
            left_out: 7,
            ..v1::Resolved::default()
        };
        assert_eq!(
            resolved_line("alpine:3.22", &resolved),
            "alpine:3.22  index 4bcff63911fc, linux/amd64 (7 manifests left out)"
        );
        let finished = v1::Finished {
            bytes_moved: 48 << 20,
            bytes_present: 71 << 20,
            signatures: 2,
            sboms: 1,
            ..v1::Finished::default()
        };
        assert_eq!(lines(&finished, false), ["  48.0 MiB moved (71.0 MiB already here)", "  2 signatures, 1 SBOM"]);
        assert_eq!(lines(&finished, true), ["  2 signatures, 1 SBOM"]);
        let none = v1::Finished { looked_at: vec!["referrers API: none".to_owned()], ..v1::Finished::default() };
        assert_eq!(lines(&none, true), ["  nothing had to move", "  signatures: 0 found (referrers API: none)"]);
    }

    #[test]
    fn a_verdict_in_a_line() {
        let verdict = v1::Verdict {
            state: v1::State::Unsigned.into(),
            reasons: vec![v1::Reason { code: "no-signature".to_owned(), detail: String::new() }],
            ..v1::Verdict::default()
        };
        assert_eq!(verdict_line(&verdict, false), "unsigned    nobody signed it that we could find");
        assert_eq!(
            verdict_line(&verdict, true),
            "\u{1b}[31m✘ unsigned  \u{1b}[0m  nobody signed it that we could find"
        );
    }
}
