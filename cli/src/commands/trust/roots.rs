//! `larder trust add-root`, and how roots are shown.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use larder_core::keyless::{TrustedRoot, public_good};
use larder_proto::v1;
use serde_json::{Value, json};

use super::{default_name, listing};
use crate::commands::read_small;
use crate::commands::verify_blob::trust::shipped_root;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::effect;
use crate::output::{Output, json, state, text, time};

/// The greatest length of a file in the trust folder.
const MAX_FILE: u64 = 256 << 10;
/// What the shipped root is called unless told otherwise.
const PUBLIC_GOOD: &str = "public-good";

/// Trust who a trusted_root.json names: authorities, logs, timestamp authorities
///
/// A root by itself accepts nothing: policies say whose identities count. Its age counts from --as-of, and without it from
/// the newest thing that it names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust add-root --public-good
  larder trust add-root trusted_root.json --name company --as-of 2026-11-20
  larder trust add-root trusted_root.json --name company --as-of 2026-12-20 --replace")]
pub(super) struct AddRoot {
    /// A trusted_root.json
    #[arg(value_name = "FILE", required_unless_present = "public_good", conflicts_with = "public_good")]
    file: Option<PathBuf>,
    /// The root of sigstore.dev, the copy that came with this program
    #[arg(long)]
    public_good: bool,
    /// What to call it [default: the file's name without its ending, or public-good]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The day on which it was last known to be the current one [default for --public-good: the copy's own]
    #[arg(long, value_name = "DATE", value_parser = day)]
    as_of: Option<Timestamp>,
    /// Put it in the place of another root of this name
    #[arg(long)]
    replace: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// List all that changes, on a terminal too
    #[arg(long)]
    all: bool,
}

/// Reads a day, which begins in UTC, or an instant.
fn day(text: &str) -> Result<Timestamp, String> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let instant = if text.len() == "2026-11-20".len() { day() } else { text.parse().ok() };
    instant.ok_or_else(|| "write a day as 2026-11-20, or an instant as 2026-11-20T12:00:00Z".to_owned())
}

/// What is to be put into the folder.
struct Given {
    json: Vec<u8>,
    name: String,
    as_of: Option<Timestamp>,
}

fn given(arguments: &AddRoot) -> Result<Given, Error> {
    let Some(path) = &arguments.file else {
        let shipped = public_good().map_err(|error| shipped_root(&error))?;
        let begins = shipped.as_of.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        return Ok(Given {
            json: shipped.json.to_vec(),
            name: arguments.name.clone().unwrap_or_else(|| PUBLIC_GOOD.to_owned()),
            as_of: arguments.as_of.or_else(|| begins.ok()),
        });
    };
    let json = read_small(path, MAX_FILE)?;
    let wrong = |error| {
        Error::new("invalid-root", format!("{} is no trusted root: {error}", path.display()))
            .hint("`cosign trusted-root create` writes one; nothing was changed")
    };
    TrustedRoot::parse(&json).map_err(wrong)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => default_name(path)?,
    };
    Ok(Given { json, name, as_of: arguments.as_of })
}

pub(super) async fn add(arguments: AddRoot, output: &Output) -> Result<Exit, Error> {
    let Given { json, name, as_of } = given(&arguments)?;
    let request = v1::AddRootRequest {
        trusted_root: json.into(),
        name: name.clone(),
        as_of: as_of.map(|time| prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }),
        replace: arguments.replace,
        dry_run: arguments.dry_run,
    };
    let added = connect(output).await?.trust().add_root(request).await?.into_inner();
    added.warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_json() {
        output.document(&json!({
            "name": name,
            "root": added.root.as_ref().map_or(Value::Null, json::root),
            "unchanged": added.unchanged,
            "effect": effect::to_json(added.effect.as_ref()),
            "warnings": added.warnings,
        }))?;
        return Ok(Exit::Done);
    }
    if added.unchanged {
        output.say(&format!("root {name} is there already; nothing was changed"));
        return Ok(Exit::Done);
    }
    let dated = as_of.map(|time| format!(", as of {}", time.strftime("%Y-%m-%d"))).unwrap_or_default();
    let edit = format!("trusting root {name}{dated}");
    effect::write(output, &edit, &added.effect.unwrap_or_default(), listing(arguments.all))?;
    Ok(Exit::Done)
}

/// Makes a row of a root: its name, id and age.
pub(super) fn row(root: &v1::Root, now: Timestamp) -> Vec<String> {
    vec![root.name.clone(), text::short(&root.id), age(root, now)]
}

/// Says how old a root is, and what follows.
pub(crate) fn age(root: &v1::Root, now: Timestamp) -> String {
    let end = time::read(root.until.as_ref()).map(|end| format!("; counts until {}", end.strftime("%Y-%m-%d")));
    let dated = match (time::read(root.as_of.as_ref()), root.stated) {
        (None, _) => "of no known date".to_owned(),
        (Some(date), true) => format!("as of {}, {}", date.strftime("%Y-%m-%d"), time::ago(date, now)),
        (Some(date), false) => {
            format!("newest entry of {}, {}", date.strftime("%Y-%m-%d"), time::ago(date, now))
        }
    };
    match root.too_old {
        true => format!("{}too old{}: {dated}", state::BAD, state::END),
        false => format!("{dated}{}", end.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn days_and_instants() {
        assert_eq!(day("2026-11-20"), Ok(at("2026-11-20T00:00:00Z")));
        assert_eq!(day("2026-11-20T12:00:00Z"), Ok(at("2026-11-20T12:00:00Z")));
        for wrong in ["", "today", "2026-13-01", "20.11.2026"] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_for_people() {
        let time = |text: &str| {
            let time = at(text);
            Some(prost_types::Timestamp { seconds: time.as_second(), nanos: 0 })
        };
        let now = at("2026-11-30T00:00:00Z");
        let root = v1::Root { as_of: time("2026-11-05T00:00:00Z"), stated: true, ..Default::default() };
        assert_eq!(age(&root, now), "as of 2026-11-05, 25 days ago");
        let root = v1::Root { stated: false, until: time("2027-01-05T00:00:00Z"), ..root };
        assert_eq!(age(&root, now), "newest entry of 2026-11-05, 25 days ago; counts until 2027-01-05");
        let old = v1::Root { too_old: true, as_of: None, ..root };
        assert_eq!(age(&old, now), format!("{}too old{}: of no known date", state::BAD, state::END));
    }
}
