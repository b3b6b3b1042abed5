//! `larder explain`.

use clap::Args;
use larder_proto::v1;

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::tree::{draw, of_judgement};
use crate::output::{Output, json, words};

/// Show how a verdict came about: policies, keys, and what was tried
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder explain quay.io/acme/tool:latest
  larder explain quay.io/acme/tool:latest --output json | jq .tree")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let request = v1::ExplainRequest { reference: arguments.reference };
    let explained = client.verification().explain(request).await?.into_inner();
    let verdict = explained.verdict.unwrap_or_default();
    let root = explained.tree.unwrap_or_default();
    if output.is_json() {
        let mut object = json::verdict(&verdict);
        object["tree"] = json::node(&root);
        output.document(&object)?;
        return Ok(Exit::Done);
    }
    let tree = of_judgement(&root, output.is_read_by_a_person());
    output.data(&draw(&tree, output.columns()).join("\n"))?;
    if let Some(remedy) = words::remedy(&verdict) {
        output.say(&format!("  hint: {remedy}"));
    }
    Ok(Exit::Done)
}
