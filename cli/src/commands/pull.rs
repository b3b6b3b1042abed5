//! `larder pull`.

mod from;
mod many;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use clap::Args;
use larder_proto::v1;
use larder_proto::v1::sync_event::Event;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::{Error, Told, hint_or_general};
use crate::exit::Exit;
use crate::output::{Output, json, state, text, time, words};
use crate::progress::TransferProgress;

use many::Tally;

/// Pull images with their signatures, attestations and SBOMs
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all that was asked for is here, whatever the verdict; with --verified, 3 where one is
not accepted and 4 where one cannot be judged yet; 1 where one could not be pulled.

Examples:
  larder pull docker.io/library/alpine:3.22
  larder pull --platform all registry.example.org/store/app:1.4
  larder pull --verified registry.example.org/store/app:1.4 registry.example.org/store/db:2
  larder pull --all-tags registry.example.org/store/app
  larder pull --from images.txt"
)]
pub(crate) struct Arguments {
    /// What to pull; a name without a registry is Docker Hub's
    #[arg(required_unless_present = "from", value_name = "REF")]
    references: Vec<String>,
    /// Read references from a file too, one a line, `#` begins a comment; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Take what is named for repositories, and pull all their tags
    #[arg(short, long)]
    all_tags: bool,
    /// The platform to take of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH|all")]
    platform: Option<String>,
    /// Judge before layers move, and keep nothing that is not accepted
    #[arg(long)]
    verified: bool,
}

impl Arguments {
    /// Asks for one image, for a platform or `all` of them.
    pub(super) fn one(reference: String, platform: String) -> Self {
        Self { references: vec![reference], from: None, all_tags: false, platform: Some(platform), verified: false }
    }
}

/// What came of one reference.
struct Pulled {
    reference: String,
    resolved: Option<v1::Resolved>,
    ended: Result<v1::Finished, Told>,
}

/// The references that are pulled, as far as they are.
struct Pulls<'a> {
    output: &'a Output,
    verified: bool,
    /// Whether each is told in one line.
    many: bool,
    /// In the order in which they were asked for.
    wanted: Vec<String>,
    resolved: HashMap<String, v1::Resolved>,
    progress: TransferProgress<'a>,
    tally: Tally,
    ended: HashMap<String, Pulled>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { references: named, from, all_tags, platform, verified } = arguments;
    let mut references = named;
    if let Some(path) = from {
        references.extend(from::read(&path)?);
    }
    let mut seen = HashSet::new();
    references.retain(|reference| seen.insert(reference.clone()));
    if references.is_empty() {
        return Err(Error::usage("there is no reference to pull").hint("one a line; `#` begins a comment"));
    }
    let many = all_tags || references.len() > 1;
    let request =
        v1::PullRequest { references: references.clone(), platform: platform.unwrap_or_default(), verified, all_tags };
    let client = connect(output).await?;
    let mut events = client.sync().pull(request).await?.into_inner();
    let mut pulls = Pulls {
        output,
        verified,
        many,
        wanted: references,
        resolved: HashMap::new(),
        progress: TransferProgress::new(output),
        tally: Tally::default(),
        ended: HashMap::new(),
    };
    loop {
        let event = tokio::select! {
            event = events.message() => event,
            _ = tokio::signal::ctrl_c() => Ok(pulls.stop()?),
        };
        let event = event.inspect_err(|_| pulls.progress.finish())?;
        let Some(v1::SyncEvent { reference, event: Some(event) }) = event else { break };
        pulls.take(reference, event)?;
    }
    pulls.end()
}

impl Pulls<'_> {
    /// Takes one event.
    fn take(&mut self, reference: String, event: Event) -> Result<(), Error> {
        let ended = match event {
            Event::Listed(listed) => {
                self.wanted.retain(|wanted| *wanted != reference);
                self.wanted.extend(listed.references);
                return Ok(());
            }
            Event::Resolved(now) => {
                if !self.many {
                    self.output.say(&resolved_line(&reference, &now));
                }
                self.resolved.insert(reference, now);
                return Ok(());
            }
            Event::Progress(now) => {
                if self.many {
                    self.progress.count(self.ended.len(), self.wanted.len());
                    self.progress.update_one(&reference, &now);
                } else {
                    self.progress.update(&now);
                }
                return Ok(());
            }
            Event::Finished(finished) => Ok(finished),
            Event::Failed(failed) => Err(told(failed)),
        };
        let one = Pulled { resolved: self.resolved.remove(&reference), reference, ended };
        self.tally.add(&one.ended);
        if self.many {
            self.progress.aside(|| tell_in_a_line(&one, self.output))?;
            self.ended.insert(one.reference.clone(), one);
            self.progress.count(self.ended.len(), self.wanted.len());
        } else {
            self.progress.finish();
            tell(&one, self.verified, self.output)?;
            self.ended.insert(one.reference.clone(), one);
        }
        Ok(())
    }

    /// Ends what a person stopped.
    fn stop(&mut self) -> Result<Option<v1::SyncEvent>, Error> {
        self.progress.finish();
        let done = match self.ended.len() {
            0 => String::new(),
            done => format!(" after {}", text::count(done as u64, "reference")),
        };
        Err(Error::new("stopped", format!("stopped{done}")).hint(STOPPED))
    }

    /// Tells what came of all, once the daemon has said everything.
    fn end(mut self) -> Result<Exit, Error> {
        self.progress.clear();
        let pulled: Vec<&Pulled> = self.wanted.iter().filter_map(|wanted| self.ended.get(wanted)).collect();
        if self.output.is_json() {
            self.output.document(&pulled.iter().map(|one| to_json(one)).collect())?;
        } else if self.many {
            self.tally.tell(self.output);
        }
        if pulled.len() < self.wanted.len() {
            let missing = text::count((self.wanted.len() - pulled.len()) as u64, "reference");
            return Err(Error::new("incomplete", format!("larderd ended the pull with {missing} left"))
                .hint("what was finished is kept; pull the rest again"));
        }
        let exits = pulled.iter().map(|one| exit_of(&one.ended, self.verified));
        Ok(exits.fold(Exit::Done, Exit::or_worse))
    }
}

/// What a person who stops a transfer wants to know.
const STOPPED: &str = "what was not finished is not kept; what was here before is as it was";

/// Builds the error of a transfer that a person stopped.
pub(super) fn stopped() -> Error {
    Error::new("stopped", "stopped").hint(STOPPED)
}

/// Reads the error of one reference.
pub(super) fn told(failed: v1::Failed) -> Told {
    let v1::Failed { reason, message, hint } = failed;
    let hint = hint_or_general(hint, &reason);
    Told { reason, message, hint, exit: Exit::Error }
}

fn exit_of(ended: &Result<v1::Finished, Told>, verified: bool) -> Exit {
    match ended {
        Err(told) => told.exit,
        Ok(finished) if verified => finished.verdict.as_ref().map_or(Exit::Error, |verdict| Exit::of(verdict.state())),
        Ok(_) => Exit::Done,
    }
}

fn tell_error(reference: &str, told: &Told, output: &Output) {
    let message =
        if told.message.contains(reference) { told.message.clone() } else { format!("{reference}: {}", told.message) };
    output.error(&Told { reason: told.reason.clone(), message, hint: told.hint.clone(), exit: told.exit });
}

fn tell_in_a_line(pulled: &Pulled, output: &Output) -> Result<(), Error> {
    let finished = match &pulled.ended {
        Ok(finished) => finished,
        Err(told) => {
            tell_error(&pulled.reference, told, output);
            return Ok(());
        }
    };
    if output.is_quiet() {
        return tell_quietly(finished, output);
    }
    output.say(&many::line(&pulled.reference, finished, output.talks_on_terminal()));
    lines(finished, true).iter().for_each(|line| output.detail(line));
    finished.looked_at.iter().for_each(|line| output.detail(&format!("  looked at {line}")));
    Ok(())
}

/// Writes the result that `--quiet` wants, and no more.
fn tell_quietly(finished: &v1::Finished, output: &Output) -> Result<(), Error> {
    match &finished.verdict {
        Some(verdict) if !output.is_json() => {
            output.data(&format!("{}@{}  {}", verdict.repository, verdict.digest, state::name(verdict.state())))
        }
        _ => Ok(()),
    }
}

fn tell(pulled: &Pulled, verified: bool, output: &Output) -> Result<(), Error> {
    let finished = match &pulled.ended {
        Ok(finished) => finished,
        Err(told) => {
            tell_error(&pulled.reference, told, output);
            return Ok(());
        }
    };
    for line in lines(finished, output.talks_on_terminal()) {
        output.say(&line);
    }
    finished.looked_at.iter().for_each(|line| output.detail(&format!("  looked at {line}")));
    let Some(verdict) = &finished.verdict else { return Ok(()) };
    if output.is_quiet() {
        return tell_quietly(finished, output);
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
    if let Some(line) = attached_line(finished) {
        lines.push(line);
    } else if !finished.looked_at.is_empty() {
        lines.push(format!("  signatures: 0 found ({})", finished.looked_at.join(", ")));
    }
    lines
}

/// Says what is attached; `None` where nothing is.
pub(super) fn attached_line(finished: &v1::Finished) -> Option<String> {
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
    (!attached.is_empty()).then(|| format!("  {}", attached.join(", ")))
}

pub(super) fn verdict_line(verdict: &v1::Verdict, for_a_person: bool) -> String {
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
