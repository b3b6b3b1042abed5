//! The tree of a judgement.

use larder_proto::v1::ExplainNode;
use larder_proto::v1::explain_node::Mark;

use super::state::{BAD, END, GOOD, WAITING};
use super::table::width;

/// The widest that labels push outcomes to the right.
const MAX_COLUMN: usize = 76;
/// The deepest that is drawn: the daemon's trees are a few levels deep.
const MAX_DEPTH: usize = 64;

/// Draws a tree: labels with branches at the left, marks and outcomes in a column at the right.
pub(crate) fn tree(root: &ExplainNode, for_a_person: bool) -> Vec<String> {
    let mut rows = Vec::new();
    draw(root, "", "", 0, &mut rows);
    let column = rows.iter().map(|(left, _)| width(left)).filter(|width| *width <= MAX_COLUMN).max().unwrap_or(0);
    rows.into_iter()
        .map(|(left, node)| {
            let right = outcome(node, for_a_person);
            if right.is_empty() {
                left
            } else {
                format!("{left}{}  {right}", " ".repeat(column.saturating_sub(width(&left))))
            }
        })
        .collect()
}

fn draw<'a>(node: &'a ExplainNode, branch: &str, below: &str, depth: usize, rows: &mut Vec<(String, &'a ExplainNode)>) {
    rows.push((format!("{branch}{}", node.label), node));
    if depth >= MAX_DEPTH {
        return;
    }
    for (index, child) in node.children.iter().enumerate() {
        let last = index + 1 == node.children.len();
        let (fork, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(child, &format!("{below}{fork}"), &format!("{below}{under}"), depth + 1, rows);
    }
}

fn outcome(node: &ExplainNode, for_a_person: bool) -> String {
    let (colour, mark, word) = match node.mark() {
        Mark::Good => (GOOD, "✔", "yes:"),
        Mark::Bad => (BAD, "✘", "no:"),
        Mark::Pending => (WAITING, "…", "pending:"),
        Mark::None | Mark::Unspecified => return node.outcome.clone(),
    };
    if for_a_person {
        format!("{colour}{mark} {}{END}", node.outcome).replace(" \u{1b}", "\u{1b}")
    } else if node.outcome.is_empty() {
        word.trim_end_matches(':').to_owned()
    } else {
        format!("{word} {}", node.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(label: &str, mark: Mark, outcome: &str, children: Vec<ExplainNode>) -> ExplainNode {
        ExplainNode {
            kind: "note".to_owned(),
            label: label.to_owned(),
            mark: mark.into(),
            outcome: outcome.to_owned(),
            code: String::new(),
            children,
        }
    }

    #[test]
    fn branches_and_outcomes() {
        let signature = node("signature 41d0", Mark::Bad, "made by another key", vec![]);
        let root = node(
            "quay.io/acme/tool  9c07fe41ab20",
            Mark::Bad,
            "untrusted",
            vec![
                node(
                    "acme.yaml",
                    Mark::Bad,
                    "no authority holds",
                    vec![signature, node("b", Mark::Pending, "", vec![])],
                ),
                node("note", Mark::None, "", vec![]),
            ],
        );
        assert_eq!(
            tree(&root, false),
            [
                "quay.io/acme/tool  9c07fe41ab20  no: untrusted",
                "├─ acme.yaml                     no: no authority holds",
                "│  ├─ signature 41d0             no: made by another key",
                "│  └─ b                          pending",
                "└─ note",
            ]
        );
        assert_eq!(tree(&root, true)[0], "quay.io/acme/tool  9c07fe41ab20  \u{1b}[31m✘ untrusted\u{1b}[0m");
        assert!(tree(&root, true)[3].ends_with("\u{1b}[33m…\u{1b}[0m"));
    }

    #[test]
    fn a_tree_without_end_is_cut() {
        let mut root = node("x", Mark::None, "", vec![]);
        for _ in 0..200 {
            root = node("x", Mark::None, "", vec![root]);
        }
        assert_eq!(tree(&root, false).len(), MAX_DEPTH + 1);
    }
}
