//! `larder clean`.

use clap::{Args, ValueEnum};
use larder_proto::v1;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::indented;
use crate::output::{Output, json, text};
use crate::prompt;

/// Take away what is attached to something that is held: signatures, attestations, SBOMs
///
/// Here, and not at the registry, unlike `cosign clean`: verdicts follow at once, and the next pull brings back what the
/// registry still offers. The bytes stay until they are collected.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder clean registry.example.org/store/app:1.4
  larder clean --type sbom --yes registry.example.org/store/app:1.4
  larder clean --dry-run registry.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// What is taken away
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Kind::All)]
    kind: Kind,
    /// Do not ask
    #[arg(short = 'y', long, visible_short_alias = 'f', visible_alias = "force")]
    yes: bool,
    /// Show what would be taken away, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Classic signatures, and bundles that sign
    Signature,
    /// Classic attestations, and bundles that attest
    Attestation,
    /// SBOMs
    Sbom,
    /// Whatever refers to it
    Referrer,
    /// Everything
    All,
}

impl Kind {
    fn of_api(self) -> v1::CleanKind {
        match self {
            Self::Signature => v1::CleanKind::Signature,
            Self::Attestation => v1::CleanKind::Attestation,
            Self::Sbom => v1::CleanKind::Sbom,
            Self::Referrer => v1::CleanKind::Referrer,
            Self::All => v1::CleanKind::All,
        }
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let kind = arguments.kind.of_api().into();
    let looks = v1::CleanRequest { reference: arguments.reference.clone(), kind, dry_run: true };
    let would = client.attachments().clean(looks.clone()).await?.into_inner();
    if arguments.dry_run || would.removed.is_empty() {
        tell(&would, false, output)?;
        return Ok(Exit::Done);
    }
    if !arguments.yes && !consents(&would, output)? {
        output.say("nothing was changed");
        return Ok(Exit::Error);
    }
    let cleaned = client.attachments().clean(v1::CleanRequest { dry_run: false, ..looks }).await?.into_inner();
    tell(&cleaned, cleaned.seq > 0, output)?;
    Ok(Exit::Done)
}

/// Shows what would go, and asks; where nobody answers, it has to be said before.
fn consents(would: &v1::CleanResponse, output: &Output) -> Result<bool, Error> {
    if !prompt::somebody_answers() {
        let count = text::count(would.removed.len() as u64, "thing");
        let message = format!("{count} attached to {} would be taken away", name(would));
        return Err(Error::new("needs-consent", message)
            .hint("`--dry-run` lists it, `--yes` takes it away; nothing was changed"));
    }
    for line in lines(would, false, output.columns()) {
        output.say(&line);
    }
    prompt::confirmed("Take it away?")
}

fn tell(cleaned: &v1::CleanResponse, applied: bool, output: &Output) -> Result<(), Error> {
    if output.is_json() {
        return output.document(&to_json(cleaned, applied));
    }
    if cleaned.removed.is_empty() {
        output.say(&format!("nothing of that kind is attached to {}; nothing was changed", name(cleaned)));
    } else {
        output.data(&lines(cleaned, applied, output.columns()).join("\n"))?;
        if !applied {
            output.data("nothing was changed")?;
        }
    }
    if !cleaned.elsewhere.is_empty() {
        let elsewhere = cleaned.elsewhere.join(", ");
        output.say(&format!("signatures of the same digest count as before where else they are found: {elsewhere}"));
    }
    if applied {
        output.say(
            "  the next `larder pull` brings back what the registry still offers; `larder log` has this on record",
        );
    }
    Ok(())
}

fn name(cleaned: &v1::CleanResponse) -> String {
    format!("{}@{}", cleaned.repository, text::short(&cleaned.digest))
}

fn lines(cleaned: &v1::CleanResponse, applied: bool, columns: Option<usize>) -> Vec<String> {
    let verb = if applied { "took away from" } else { "would take away from" };
    let rows: Vec<Vec<String>> = cleaned.removed.iter().map(row).collect();
    let mut lines = vec![format!("{verb} {}", name(cleaned))];
    lines.extend(indented(&rows, columns));
    lines
}

fn row(one: &v1::CleanedManifest) -> Vec<String> {
    let found = if one.tag.is_empty() { "referrer".to_owned() } else { text::short_digests(&one.tag) };
    let holds = match (one.kind.as_str(), one.signatures) {
        (_, 0) => String::new(),
        ("attestation", count) => text::count(u64::from(count), "attestation"),
        (_, count) => text::count(u64::from(count), "signature"),
    };
    vec![one.kind.clone(), text::short(&one.manifest), found, holds]
}

fn to_json(cleaned: &v1::CleanResponse, applied: bool) -> Value {
    let one = |one: &v1::CleanedManifest| {
        json!({
            "manifest": one.manifest,
            "kind": one.kind,
            "tag": json::text_of(&one.tag),
            "signatures": one.signatures,
        })
    };
    json!({
        "applied": applied,
        "repository": cleaned.repository,
        "digest": cleaned.digest,
        "removed": cleaned.removed.iter().map(one).collect::<Vec<_>>(),
        "elsewhere": cleaned.elsewhere,
        "seq": cleaned.seq,
    })
}
