//! `larder trust`: add, add-root, remove, list, allow.

pub(super) mod roots;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use larder_proto::v1;
use serde_json::{Value, json};

use super::read_small;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::key_file::MAX_FILE;
use crate::output::effect::{self, Listing};
use crate::output::table::section;
use crate::output::{Output, json, state, text, time};
use crate::prompt;

/// List and edit whom this machine trusts
///
/// The files in the trust folder are the truth; an editor or `git pull` work just as well.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust add release.pub --for 'registry.example.org/store/**'
  larder trust remove release --dry-run
  larder trust list")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    edit: Edit,
}

#[derive(Debug, Subcommand)]
enum Edit {
    Add(Add),
    AddRoot(roots::AddRoot),
    Remove(Remove),
    List(List),
    Allow(Allow),
}

/// Trust a public key
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust add cosign.pub --name release
  larder trust add release.pub --for 'registry.example.org/store/**' --for 'quay.io/acme/*'
  larder trust add release.pub --dry-run")]
struct Add {
    /// A PEM public key, as cosign.pub
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to call it [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The repositories that it is for [default: all]
    #[arg(long = "for", value_name = "GLOB")]
    scope: Vec<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// List all that changes, on a terminal too
    #[arg(long)]
    all: bool,
}

/// Trust a key, or a root, no longer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust remove release --dry-run
  larder trust remove release
  larder trust remove roots/public-good")]
struct Remove {
    /// The name, as `larder trust list` shows it; keys/NAME or roots/NAME where a key and a root share it
    #[arg(value_name = "NAME")]
    name: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// List all that changes, on a terminal too
    #[arg(long)]
    all: bool,
}

/// List keys, roots, policies and denials, and what is wrong with them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust list
  larder trust list --output json | jq '.keys[].name'")]
struct List {}

/// Accept what a glob names, unsigned
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder trust allow 'docker.io/library/**' --dry-run
  larder trust allow 'docker.io/library/**'
  larder trust allow 'registry.example.org/**' --yes")]
struct Allow {
    /// The repositories
    #[arg(value_name = "GLOB")]
    glob: String,
    /// Do it even where something revoked or untrusted would become accepted
    #[arg(long)]
    yes: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// List all that changes, on a terminal too
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    match arguments.edit {
        Edit::Add(arguments) => add(arguments, output).await,
        Edit::AddRoot(arguments) => roots::add(arguments, output).await,
        Edit::Remove(arguments) => remove(arguments, output).await,
        Edit::List(List {}) => list(output).await,
        Edit::Allow(arguments) => allow(arguments, output).await,
    }
}

fn listing(all: bool) -> Listing {
    if all { Listing::All } else { Listing::Cut }
}

async fn add(arguments: Add, output: &Output) -> Result<Exit, Error> {
    let file = arguments.file.display().to_string();
    let public_key = read_public_key(&arguments.file)?;
    let name = match arguments.name {
        Some(name) => name,
        None => default_name(&arguments.file)?,
    };
    let request = v1::AddKeyRequest {
        public_key: public_key.into(),
        name,
        r#for: arguments.scope.clone(),
        dry_run: arguments.dry_run,
    };
    let client = connect(output).await?;
    let added = client.trust().add_key(request).await.map_err(|status| match Error::from(status) {
        error if error.reason() == "invalid-key" => error.about(&file),
        error => error,
    })?;
    let added = added.into_inner();
    added.warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_json() {
        output.document(&json!({
            "name": added.name,
            "key": added.key.as_ref().map_or(Value::Null, key_json),
            "unchanged": added.unchanged,
            "effect": effect::to_json(added.effect.as_ref()),
            "warnings": added.warnings,
        }))?;
        return Ok(Exit::Done);
    }
    if added.unchanged {
        output.say(&format!("key {} is there already; nothing was changed", added.name));
        return Ok(Exit::Done);
    }
    let scope = if arguments.scope.is_empty() { "all repositories".to_owned() } else { arguments.scope.join(", ") };
    let edit = format!("trusting key {} for {scope}", added.name);
    effect::write(output, &edit, &added.effect.unwrap_or_default(), listing(arguments.all))?;
    Ok(Exit::Done)
}

/// Reads a public key file, and says what it is where it is something else: no private key goes to the daemon.
fn read_public_key(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = read_small(path, MAX_FILE)?;
    let name = path.display();
    let wrong = |what: &str, hint: &str| {
        Err(Error::new("invalid-key", format!("{name} {what}")).hint(format!("{hint}; nothing was changed")))
    };
    match pem::parse(&bytes) {
        Ok(pem) if pem.tag().ends_with("PUBLIC KEY") => Ok(bytes),
        Ok(pem) if pem.tag().ends_with("PRIVATE KEY") => {
            wrong("is a private key; trust needs the public one", "`cosign public-key --key FILE` prints it")
        }
        Ok(_) => {
            wrong("is not a public key: it is PEM of another kind", "`cosign public-key --key cosign.key` prints one")
        }
        Err(_) => wrong("is not a public key: no PEM block in it", "`cosign public-key --key cosign.key` prints one"),
    }
}

fn default_name(path: &Path) -> Result<String, Error> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut letters = stem.chars();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    if first && letters.all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter)) {
        return Ok(stem.to_owned());
    }
    Err(Error::usage(format!("{} gives no name for a key", path.display()))
        .hint("`--name` gives one, of letters, digits, `.`, `_` and `-`"))
}

async fn remove(arguments: Remove, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let (what, name) = what_is(&client, &arguments.name).await?;
    let dry_run = arguments.dry_run;
    let (effect, warnings) = match what {
        What::Key => {
            let request = v1::RemoveKeyRequest { name: name.clone(), dry_run };
            let removed = client.trust().remove_key(request).await?.into_inner();
            (removed.effect, removed.warnings)
        }
        What::Root => {
            let request = v1::RemoveRootRequest { name: name.clone(), dry_run };
            let removed = client.trust().remove_root(request).await?.into_inner();
            (removed.effect, removed.warnings)
        }
    };
    warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_json() {
        output.document(&json!({
            "name": name,
            "effect": effect::to_json(effect.as_ref()),
            "warnings": warnings,
        }))?;
        return Ok(Exit::Done);
    }
    let edit = format!("removing {} {name}", what.noun());
    effect::write(output, &edit, &effect.unwrap_or_default(), listing(arguments.all))?;
    Ok(Exit::Done)
}

/// What a name in the trust folder is.
#[derive(Clone, Copy)]
enum What {
    Key,
    Root,
}

impl What {
    fn noun(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Root => "root",
        }
    }
}

/// Says what a name means: a key's, unless only a root has it.
async fn what_is(client: &Client, name: &str) -> Result<(What, String), Error> {
    if let Some(name) = name.strip_prefix("keys/") {
        return Ok((What::Key, name.to_owned()));
    }
    if let Some(name) = name.strip_prefix("roots/") {
        return Ok((What::Root, name.to_owned()));
    }
    let trust = client.trust().list_trust(v1::ListTrustRequest {}).await?.into_inner();
    let is_key = trust.keys.iter().any(|key| key.name == name);
    let is_root = trust.roots.iter().any(|root| root.name == name);
    match (is_key, is_root) {
        (true, true) => Err(Error::new("ambiguous-name", format!("{name} is a key and a root"))
            .hint(format!("say keys/{name} or roots/{name}; nothing was changed"))),
        (false, true) => Ok((What::Root, name.to_owned())),
        (_, false) => Ok((What::Key, name.to_owned())),
    }
}

/// Refuses a reference where a glob over repositories is meant: a policy for a tag matches nothing, silently.
fn of_repositories(glob: &str) -> Result<(), Error> {
    let begins = glob.rfind('/').map_or(0, |slash| slash + 1);
    match glob.get(begins..).and_then(|last| last.find(':')) {
        Some(colon) if !glob.contains('@') => {
            let repository = glob.get(..begins + colon).unwrap_or_default();
            Err(Error::usage(format!("{glob} names a tag; policies are for repositories, or for one digest of them"))
                .hint(format!("`larder trust allow {}`; nothing was changed", text::quoted(repository))))
        }
        _ => Ok(()),
    }
}

async fn allow(arguments: Allow, output: &Output) -> Result<Exit, Error> {
    of_repositories(&arguments.glob)?;
    let client = connect(output).await?;
    let request = v1::AllowRequest { glob: arguments.glob.clone(), dry_run: arguments.dry_run, consent: arguments.yes };
    let allowed = match client.trust().allow(request.clone()).await.map_err(Error::from) {
        Ok(allowed) => allowed.into_inner(),
        Err(error) if error.reason() == "needs-consent" && prompt::somebody_answers() => {
            if !asked(&client, request.clone(), listing(arguments.all), output).await? {
                output.say("nothing was changed");
                return Ok(Exit::Error);
            }
            let request = v1::AllowRequest { consent: true, ..request };
            client.trust().allow(request).await?.into_inner()
        }
        Err(error) if error.reason() == "needs-consent" => {
            let glob = text::quoted(&arguments.glob);
            return Err(error.hint(format!(
                "`larder trust allow {glob} --dry-run` lists them; `larder trust allow {glob} --yes` accepts them"
            )));
        }
        Err(error) => return Err(error),
    };
    allowed.warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_json() {
        output.document(&json!({
            "policy": allowed.policy,
            "effect": effect::to_json(allowed.effect.as_ref()),
            "warnings": allowed.warnings,
        }))?;
        return Ok(Exit::Done);
    }
    let edit = format!("allowing {} unsigned (policies/{}.yaml)", arguments.glob, allowed.policy);
    effect::write(output, &edit, &allowed.effect.unwrap_or_default(), listing(arguments.all))?;
    Ok(Exit::Done)
}

/// Shows what would become accepted, and asks.
async fn asked(client: &Client, request: v1::AllowRequest, listing: Listing, output: &Output) -> Result<bool, Error> {
    let request = v1::AllowRequest { dry_run: true, ..request };
    let would = client.trust().allow(request.clone()).await?.into_inner();
    effect::preview(
        output,
        &format!("allowing {} unsigned", request.glob),
        &would.effect.unwrap_or_default(),
        listing,
    )?;
    prompt::confirmed("Something that is revoked or untrusted would become accepted. Do it?")
}

async fn list(output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let trust = client.trust().list_trust(v1::ListTrustRequest {}).await?.into_inner();
    if output.is_json() {
        output.document(&to_json(&trust))?;
        return Ok(Exit::Done);
    }
    output.data(&lines(&trust, output.columns(), jiff::Timestamp::now()).join("\n"))?;
    Ok(Exit::Done)
}

fn lines(trust: &v1::ListTrustResponse, columns: Option<usize>, now: jiff::Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let health = trust.health.clone().unwrap_or_default();
    let colour = if health.condition == "settled" { "" } else { state::WAITING };
    let end = if colour.is_empty() { "" } else { state::END };
    lines.push(format!("{}  {colour}{}{end}", health.folder, health.condition));
    lines.extend(health.faults.iter().map(|fault| format!("  {}: {}", fault.path, fault.message)));
    lines.extend(section("keys", &trust.keys.iter().map(key_row).collect::<Vec<_>>(), columns));
    let roots = trust.roots.iter().map(|root| roots::row(root, now));
    lines.extend(section("roots", &roots.collect::<Vec<_>>(), columns));
    let policies = trust.policies.iter().map(|policy| {
        vec![policy.name.clone(), policy.globs.join(", "), policy.mode.clone(), policy.authorities.join("; ")]
    });
    lines.extend(section("policies", &policies.collect::<Vec<_>>(), columns));
    for policy in &trust.policies {
        lines.extend(policy.warnings.iter().map(|warning| format!("  {}: {warning}", policy.name)));
    }
    let denials = trust.denials.iter().map(|one| vec![one.kind.clone(), one.what.clone(), one.reason.clone()]);
    lines.extend(section("denied", &denials.collect::<Vec<_>>(), columns));
    if trust.keys.is_empty() && trust.policies.is_empty() {
        lines.push("nobody is trusted yet: `larder trust add KEY.pub`".to_owned());
    }
    lines
}

fn key_row(key: &v1::Key) -> Vec<String> {
    let scope = if key.r#for.is_empty() { "all repositories".to_owned() } else { key.r#for.join(", ") };
    let mut notes = Vec::new();
    if !key.revoked.is_empty() {
        notes.push(format!("{}{}{}", state::BAD, key.revoked, state::END));
    }
    for (word, end) in [("from", &key.valid_from), ("until", &key.valid_until)] {
        notes.extend(time::read(end.as_ref()).map(|time| format!("valid {word} {time}")));
    }
    if !key.policies.is_empty() {
        notes.push(format!("counts only through {}", key.policies.join(", ")));
    }
    vec![
        key.name.clone(),
        text::short(&key.id),
        key.algorithm.clone(),
        scope,
        text::count(key.signatures, "signature"),
        notes.join("; "),
    ]
}

fn key_json(key: &v1::Key) -> Value {
    json!({
        "name": key.name,
        "id": key.id,
        "algorithm": key.algorithm,
        "for": key.r#for,
        "valid_from": json::time_of(key.valid_from.as_ref()),
        "valid_until": json::time_of(key.valid_until.as_ref()),
        "revoked": json::text_of(&key.revoked),
        "policies": key.policies,
        "signatures": key.signatures,
    })
}

fn to_json(trust: &v1::ListTrustResponse) -> Value {
    let policy = |policy: &v1::Policy| {
        json!({
            "name": policy.name,
            "globs": policy.globs,
            "mode": policy.mode,
            "authorities": policy.authorities,
            "warnings": policy.warnings,
        })
    };
    let denial = |one: &v1::Denial| json!({"kind": one.kind, "what": one.what, "reason": json::text_of(&one.reason)});
    json!({
        "keys": trust.keys.iter().map(key_json).collect::<Vec<_>>(),
        "roots": trust.roots.iter().map(json::root).collect::<Vec<_>>(),
        "policies": trust.policies.iter().map(policy).collect::<Vec<_>>(),
        "denials": trust.denials.iter().map(denial).collect::<Vec<_>>(),
        "health": json::trust_health(trust.health.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_called_as_its_file() {
        assert_eq!(default_name(Path::new("/x/release-2026.pub")).expect("a name"), "release-2026");
        for odd in [".pub", "a b.pub", "-x.pub", "é.pub", "/"] {
            assert_eq!(default_name(Path::new(odd)).expect_err("no name").exit(), Exit::Usage, "{odd}");
        }
    }

    #[test]
    fn a_tag_is_no_glob_over_repositories() {
        for glob in ["docker.io/library/**", "registry:5000/app", "r.io/app@sha256:00", "**"] {
            assert!(of_repositories(glob).is_ok(), "{glob}");
        }
        let Err(Error::Told(told)) = of_repositories("registry:5000/app:1.4") else { panic!("a tag") };
        assert_eq!(
            (told.exit, told.hint.as_str()),
            (Exit::Usage, "`larder trust allow registry:5000/app`; nothing was changed")
        );
    }

    #[test]
    fn only_public_keys_are_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("a file");
            read_public_key(&path)
        };
        assert!(read(include_bytes!("../../../tests/fixtures/cosign/keys/p256.pub")).is_ok());
        for (bytes, words) in [
            (&include_bytes!("../../../tests/fixtures/cosign/keys/p256.key")[..], "is a private key"),
            (b"hello", "no PEM block"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "another kind"),
        ] {
            let Err(Error::Told(told)) = read(bytes) else { panic!("{words}") };
            assert!(told.message.contains(words) && !told.hint.is_empty(), "{told:?}");
        }
        let large = vec![b'x'; MAX_FILE as usize + 1];
        assert_eq!(read(&large).expect_err("too large").reason(), "file");
        assert_eq!(read_public_key(Path::new("/no/such/file.pub")).expect_err("absent").reason(), "file");
    }

    #[test]
    fn a_list_for_people() {
        let key = v1::Key {
            name: "release".to_owned(),
            id: "3f9a0123456789".to_owned(),
            algorithm: "ECDSA P-256".to_owned(),
            r#for: vec!["registry.example.org/store/**".to_owned()],
            signatures: 2,
            ..v1::Key::default()
        };
        let health =
            v1::TrustHealth { condition: "settled".to_owned(), folder: "/h/trust".to_owned(), ..Default::default() };
        let trust = v1::ListTrustResponse { keys: vec![key], health: Some(health), ..Default::default() };
        assert_eq!(
            lines(&trust, None, jiff::Timestamp::UNIX_EPOCH),
            [
                "/h/trust  settled",
                "keys",
                "  release  3f9a01234567  ECDSA P-256  registry.example.org/store/**  2 signatures",
            ]
        );
    }
}
