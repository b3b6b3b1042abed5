//! `larder daemon`: start, stop, status.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use larder_proto::v1;
use serde_json::{Value, json};

use super::trust::roots::age;
use crate::connect::remote::Remote;
use crate::connect::{Client, Place, connect_to_running, try_connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::launch;
use crate::output::table::fit;
use crate::output::{Output, json, state, text, time};

/// How often an end is looked for.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a daemon may take to end: what is under way has a period of grace, and a snapshot is written.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Start, stop and look at larderd
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder daemon status
  larder daemon stop
  LARDER_ENDPOINT=off larder daemon start")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start larderd, detached, and wait until it answers
    #[command(after_help = "Examples:
  larder daemon start
  LARDER_HOME=/srv/larder larder daemon start")]
    Start,
    /// Stop larderd and wait for its end
    #[command(after_help = "Examples:
  larder daemon stop")]
    Stop,
    /// Say what runs, where, and how it is; starts nothing
    #[command(after_help = "Examples:
  larder daemon status
  larder daemon status --output json | jq -r .endpoint")]
    Status,
    /// Replace the oldest history by what still matters of it
    ///
    /// First sights, tags, what was told last and the trust in force stay. The part of the journal that is being written
    /// stays too.
    #[command(after_help = "Examples:
  larder daemon prune-journal --dry-run
  larder daemon prune-journal --keep-days 30 --keep-bytes 0")]
    PruneJournal {
        /// Keep what is younger than N days [default: as configured]
        #[arg(long, value_name = "N")]
        keep_days: Option<u32>,
        /// Prune only while the journal is longer than N bytes [default: as configured]
        #[arg(long, value_name = "N")]
        keep_bytes: Option<u64>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Become larderd in a session of its own
    #[command(hide = true)]
    Detached,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    if matches!(arguments.verb, Verb::Detached) {
        return Err(launch::exec_detached());
    }
    if let Some(remote) = Remote::chosen().filter(|_| !matches!(arguments.verb, Verb::Status)) {
        let message = format!("the daemon at {} is started and stopped on its own machine", remote.address());
        return Err(Error::usage(message).hint("without --address and LARDER_ADDRESS, this machine's is meant"));
    }
    let place = Place::from_environment()?;
    match arguments.verb {
        Verb::Start => start(&place, output).await,
        Verb::Stop => stop(&place, output).await,
        Verb::PruneJournal { keep_days, keep_bytes, dry_run } => {
            let client = connect_to_running(&place).await?;
            prune(&client, v1::PruneJournalRequest { keep_days, keep_bytes, dry_run }, output).await
        }
        Verb::Status | Verb::Detached => {
            let client = connect_to_running(&place).await?;
            tell(&client, output).await
        }
    }
}

async fn start(place: &Place, output: &Output) -> Result<Exit, Error> {
    let client = match try_connect(&place.socket).await? {
        Some(client) => {
            let pid = client.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            output.say(&format!("larder: larderd is running already{pid}"));
            client
        }
        None => launch::start(place, output).await?,
    };
    if output.is_json() {
        return tell(&client, output).await;
    }
    // It serves only once it answers, and not when its socket is there.
    client.daemon().get_status(v1::GetStatusRequest {}).await?;
    Ok(Exit::Done)
}

async fn stop(place: &Place, output: &Output) -> Result<Exit, Error> {
    let Some(client) = try_connect(&place.socket).await? else {
        output.say("larder: larderd is not running");
        if output.is_json() {
            output.document(&json!({"stopped": false}))?;
        }
        return Ok(Exit::Done);
    };
    let pid = client.daemon().get_status(v1::GetStatusRequest {}).await?.into_inner().pid;
    match client.daemon().stop(v1::StopRequest {}).await.map_err(Error::from) {
        Ok(_) => {}
        Err(error) if error.is_disconnected() => {}
        Err(error) => return Err(error),
    }
    drop(client);
    ended(pid).await?;
    if output.is_json() {
        output.document(&json!({"stopped": true, "pid": pid}))?;
    } else {
        output.say(&format!("larder: stopped larderd (pid {pid})"));
    }
    Ok(Exit::Done)
}

async fn prune(client: &Client, request: v1::PruneJournalRequest, output: &Output) -> Result<Exit, Error> {
    let dry_run = request.dry_run;
    let pruned = client.daemon().prune_journal(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({
            "until": pruned.until,
            "segments": pruned.segments,
            "bytes": pruned.bytes,
            "state_bytes": pruned.state_bytes,
            "dry_run": dry_run,
        }))?;
        return Ok(Exit::Done);
    }
    let segments = text::count(pruned.segments, "segment");
    output.say(&match (pruned.segments, dry_run) {
        (0, _) => "larder: nothing is to be pruned".to_owned(),
        (_, true) => format!(
            "larder: history up to #{} would be pruned: {segments}, {}",
            pruned.until,
            text::bytes(pruned.bytes)
        ),
        (_, false) => format!(
            "larder: pruned history up to #{}: {segments}, {}; {} took their place",
            pruned.until,
            text::bytes(pruned.bytes),
            text::bytes(pruned.state_bytes)
        ),
    });
    Ok(Exit::Done)
}

/// Waits for the end of a process.
async fn ended(pid: u32) -> Result<(), Error> {
    let begun = Instant::now();
    while is_running(Path::new("/proc"), pid) {
        if begun.elapsed() > END_TIMEOUT {
            let message =
                format!("larderd (pid {pid}) was told to stop and still runs after {} s", END_TIMEOUT.as_secs());
            return Err(Error::new("still-running", message).hint("larderd.log in its home says what it waits for"));
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// Says whether a process runs; one that ended and that nobody has asked after does not.
fn is_running(proc: &Path, pid: u32) -> bool {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).unwrap_or_default();
    // The name in parentheses may hold anything, parentheses too.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

async fn tell(client: &Client, output: &Output) -> Result<Exit, Error> {
    let status = client.daemon().get_status(v1::GetStatusRequest {}).await?.into_inner();
    if output.is_json() {
        output.document(&to_json(&status))?;
    } else {
        output.data(&lines(&status, output.columns(), jiff::Timestamp::now()).join("\n"))?;
    }
    Ok(Exit::Done)
}

fn lines(status: &v1::GetStatusResponse, columns: Option<usize>, now: jiff::Timestamp) -> Vec<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let since = time::read(status.started.as_ref()).map(|time| format!(", started {}", time::ago(time, now)));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("larderd", format!("{}, pid {}{}", status.version, status.pid, since.unwrap_or_default())),
        row("home", text::path(Path::new(&status.home), home.as_deref())),
        row("socket", text::path(Path::new(&status.socket), home.as_deref())),
        row("endpoint", format!("{} (gate: {})", status.endpoint, status.gate)),
        row("held", format!("{}, journal at #{}", text::count(status.subjects, "subject"), status.seq)),
    ];
    if let Some(trust) = &status.trust {
        let colour = if trust.condition == "settled" { "" } else { state::WAITING };
        let end = if colour.is_empty() { "" } else { state::END };
        rows.push(row("trust", format!("{colour}{}{end}", trust.condition)));
        rows.extend(trust.faults.iter().map(|fault| row("", format!("{}: {}", fault.path, fault.message))));
        rows.extend(trust.roots.iter().map(|root| row("root", format!("{}, {}", root.name, age(root, now)))));
    }
    if let Some(journal) = &status.journal {
        if let Some(pruned) = time::read(journal.pruned_at.as_ref()) {
            let until = journal.oldest_seq.saturating_sub(1);
            rows.push(row("journal", format!("pruned up to #{until}, {}", time::ago(pruned, now))));
        }
        if let Some(verifying) = journal.verifying.as_ref().filter(|verifying| verifying.total > 0) {
            let (done, total) = (text::bytes(verifying.done), text::bytes(verifying.total));
            rows.push(row("journal", format!("older part being verified, {done} of {total}")));
        }
    }
    if let Some(rebuild) = &status.rebuild {
        let (done, total) = (text::number(rebuild.done), text::number(rebuild.total));
        rows.push(row("index", format!("{}being rebuilt{}, {done} of {total}", state::WAITING, state::END)));
    }
    if !status.read_only.is_empty() {
        rows.push(row("read-only", format!("{}{}{}", state::BAD, status.read_only, state::END)));
    }
    rows.extend(status.recovered.iter().map(|line| row("mended", line.clone())));
    fit(&rows, columns)
}

fn to_json(status: &v1::GetStatusResponse) -> Value {
    json!({
        "pid": status.pid,
        "version": status.version,
        "home": status.home,
        "socket": status.socket,
        "endpoint": status.endpoint,
        "gate": status.gate,
        "started": json::time_of(status.started.as_ref()),
        "seq": status.seq,
        "subjects": status.subjects,
        "read_only": json::text_of(&status.read_only),
        "rebuild": status.rebuild.as_ref().map(|rebuild| json!({"done": rebuild.done, "total": rebuild.total})),
        "journal": status.journal.as_ref().map(|journal| json!({
            "oldest_seq": journal.oldest_seq,
            "pruned_at": json::time_of(journal.pruned_at.as_ref()),
            "verifying": journal.verifying.as_ref().map(|one| json!({"done": one.done, "total": one.total})),
        })),
        "trust": json::trust_health(status.trust.as_ref()),
        "recovered": status.recovered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_does_not_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = |pid: u32, stat: &str| {
            fs::create_dir(folder.path().join(pid.to_string())).expect("a folder");
            fs::write(folder.path().join(pid.to_string()).join("stat"), stat).expect("a file");
            is_running(folder.path(), pid)
        };
        assert!(process(1, "1 (larderd) S 0 1"));
        assert!(process(2, "2 (odd) Z) R 0 1"));
        assert!(!process(3, "3 (larderd) Z 0 1"));
        assert!(!is_running(folder.path(), 4));
        assert!(is_running(Path::new("/proc"), std::process::id()));
    }

    #[test]
    fn a_status_has_what_scripts_rely_on() {
        let status = v1::GetStatusResponse {
            pid: 4117,
            version: "0.1.0".to_owned(),
            home: "/srv/larder".to_owned(),
            socket: "/srv/larder/larder.sock".to_owned(),
            endpoint: "127.0.0.1:4470".to_owned(),
            gate: "enforce".to_owned(),
            subjects: 1,
            seq: 7,
            ..v1::GetStatusResponse::default()
        };
        let json = to_json(&status);
        for name in ["pid", "version", "home", "socket", "endpoint"] {
            assert!(!json[name].is_null(), "{name}");
        }
        assert_eq!(json["read_only"], Value::Null);
        assert_eq!(
            lines(&status, None, jiff::Timestamp::UNIX_EPOCH),
            [
                "larderd   0.1.0, pid 4117",
                "home      /srv/larder",
                "socket    /srv/larder/larder.sock",
                "endpoint  127.0.0.1:4470 (gate: enforce)",
                "held      1 subject, journal at #7",
            ]
        );
    }
}
