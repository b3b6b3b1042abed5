//! `larder tree`.

use clap::Args;
use larder_proto::v1;
use serde_json::{Value, json};

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::tree::{Branch, draw};
use crate::output::{Output, json, state, text};

/// Show what an artifact consists of, and what is attached to each part
///
/// Images, layers, and below each manifest its signatures, attestations, SBOMs and other referrers, with where they were
/// found. A verdict beside an attached thing is its own, and does not count for what it is attached to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder tree docker.io/library/alpine:3.22
  larder tree registry.example.org/store/app:1.4 --output json | jq .root.attached")]
pub(crate) struct Arguments {
    #[command(flatten)]
    registry: Registry,
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    arguments.registry.tell(output);
    let client = connect(output).await?;
    let request = v1::GetTreeRequest { reference: arguments.reference };
    let tree = client.artifacts().get_tree(request).await?.into_inner();
    let root = tree.root.clone().unwrap_or_default();
    if output.is_json() {
        output.document(&json!({
            "repository": tree.repository,
            "tag": json::text_of(&tree.tag),
            "cut": tree.cut,
            "root": node(&root),
        }))?;
        return Ok(Exit::Done);
    }
    let columns = output.columns();
    let mut branch = branch(&root, columns.is_some());
    branch.left = format!("{}  {}", name(&tree), branch.left);
    output.data(&draw(&branch, columns).join("\n"))?;
    if tree.cut {
        output.warn("it has more parts than are shown");
    }
    Ok(Exit::Done)
}

fn name(tree: &v1::GetTreeResponse) -> String {
    match tree.tag.as_str() {
        "" => tree.repository.clone(),
        tag => format!("{}:{tag}", tree.repository),
    }
}

fn branch(node: &v1::TreeNode, for_a_person: bool) -> Branch {
    let descriptor = node.descriptor.clone().unwrap_or_default();
    let digest = text::short(&descriptor.digest);
    let platform = descriptor.platform.as_ref().map(json::platform_name).filter(|name| name != "unknown/unknown");
    let is_leaf = matches!(node.kind.as_str(), "config" | "layer");
    let named = platform.as_ref().unwrap_or(&node.kind);
    let mut left = vec![if is_leaf { format!("{named:<6}") } else { named.clone() }, digest];
    if is_leaf {
        left.push(text::bytes(descriptor.size));
    } else if node.kind == "other" || node.kind == "artifact" {
        left.push(descriptor.artifact_type.clone());
    }
    if node.signatures > 0 {
        left.push(text::count(u64::from(node.signatures), "signature"));
    }
    let mut right = Vec::new();
    match (&node.verdict, node.held, node.left_out) {
        (Some(verdict), true, _) => right.push(state::marked(verdict.state(), 0, for_a_person)),
        (_, false, true) => right.push("left out".to_owned()),
        (_, false, false) => right.push("not held".to_owned()),
        (None, true, _) => {}
    }
    if let Some((first, more)) = node.found_at.split_first() {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        right.push(format!("at {}{more}", text::short_digests(first)));
    }
    let attached = node.attached.iter().chain(&node.successors);
    Branch {
        left: left.join("  ").trim_end().to_owned(),
        right: right.join("  "),
        children: attached.map(|child| branch(child, for_a_person)).collect(),
    }
}

fn node(of: &v1::TreeNode) -> Value {
    let mut object = of.descriptor.as_ref().map_or_else(|| json!({}), json::descriptor);
    object["kind"] = json!(of.kind);
    object["held"] = json!(of.held);
    object["left_out"] = json!(of.left_out);
    object["found_at"] = json!(of.found_at);
    object["signatures"] = json!(of.signatures);
    object["verdict"] = json::verdict_of(of.verdict.as_ref());
    object["successors"] = of.successors.iter().map(node).collect();
    object["attached"] = of.attached.iter().map(node).collect();
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(kind: &str, digest: &str) -> v1::TreeNode {
        let descriptor = v1::Descriptor { digest: format!("sha256:{digest}"), size: 1024, ..Default::default() };
        v1::TreeNode { descriptor: Some(descriptor), kind: kind.to_owned(), held: true, ..Default::default() }
    }

    #[test]
    fn parts_in_lines() {
        let hex = "4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
        let signature = v1::TreeNode {
            found_at: vec![format!("r.io/app:sha256-{hex}.sig"), format!("mirror.io/app@sha256:{hex}")],
            signatures: 2,
            ..leaf("signature", "41d0")
        };
        let mut missing = leaf("image", "bb");
        (missing.held, missing.left_out) = (false, true);
        if let Some(descriptor) = &mut missing.descriptor {
            let (os, architecture) = ("linux".to_owned(), "arm64".to_owned());
            descriptor.platform = Some(v1::Platform { os, architecture, variant: String::new() });
        }
        let verdict = v1::Verdict { state: v1::State::Verified.into(), ..Default::default() };
        let root = v1::TreeNode {
            verdict: Some(verdict),
            attached: vec![signature],
            successors: vec![leaf("layer", "aa"), missing],
            ..leaf("index", hex)
        };
        assert_eq!(
            draw(&branch(&root, false), None),
            [
                "index  4bcff63911fc               verified",
                "├─ signature  41d0  2 signatures  at r.io/app:sha256-4bcff63911fc….sig and 1 more",
                "├─ layer   aa  1.0 KiB",
                "└─ linux/arm64  bb                left out",
            ]
        );
        let json = node(&root);
        assert_eq!(json["attached"][0]["found_at"][1], format!("mirror.io/app@sha256:{hex}"));
        assert_eq!(json["successors"][1]["left_out"], json!(true));
    }
}
