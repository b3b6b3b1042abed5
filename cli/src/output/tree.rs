//! Trees: of a judgement, of an artifact.

use larder_proto::v1::ExplainNode;
use larder_proto::v1::explain_node::Mark;

use super::state::{BAD, END, GOOD, WAITING};
use super::table::width;
use super::wrap::hanging;

/// The widest that labels push outcomes to the right.
const MAX_COLUMN: usize = 76;
/// The deepest that is drawn: the daemon's trees are a few levels deep.
const MAX_DEPTH: usize = 64;

/// A branch: what it is at the left, what came of it at the right, and what hangs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Branch {
    /// What it is.
    pub(crate) left: String,
    /// What came of it; may be empty.
    pub(crate) right: String,
    /// What hangs on it.
    pub(crate) children: Vec<Self>,
}

/// Makes a judgement's tree ready to be drawn.
pub(crate) fn of_judgement(node: &ExplainNode, for_a_person: bool) -> Branch {
    fn below(node: &ExplainNode, for_a_person: bool, depth: usize) -> Branch {
        let children = if depth < MAX_DEPTH { node.children.as_slice() } else { &[] };
        Branch {
            left: node.label.clone(),
            right: outcome(node, for_a_person),
            children: children.iter().map(|child| below(child, for_a_person, depth + 1)).collect(),
        }
    }
    below(node, for_a_person, 0)
}

/// Draws a tree: branches at the left, what came of them in a column at the right, or beneath where the terminal has no
/// room beside.
pub(crate) fn draw(root: &Branch, columns: Option<usize>) -> Vec<String> {
    let mut rows = Vec::new();
    collect(root, "", "", 0, &mut rows);
    let columns = columns.unwrap_or(usize::MAX);
    let beside = |row: &&Row<'_>| row.width() + 2 + width(row.right) <= columns;
    let lefts = rows.iter().filter(beside).map(Row::width).filter(|width| *width <= MAX_COLUMN);
    let column = lefts.max().unwrap_or(0);
    rows.iter().flat_map(|row| row.lines(column, columns)).collect()
}

struct Row<'a> {
    /// What its first line begins with.
    fork: String,
    /// What its other lines begin with.
    beneath: String,
    left: &'a str,
    right: &'a str,
}

impl Row<'_> {
    fn lines(&self, column: usize, columns: usize) -> Vec<String> {
        let (left, right) = (self.width(), width(self.right));
        let whole = format!("{}{}", self.fork, self.left);
        if right == 0 && left <= columns {
            return vec![whole];
        }
        if left.max(column) + 2 + right <= columns {
            return vec![format!("{whole}{}  {}", " ".repeat(column.saturating_sub(left)), self.right)];
        }
        if left + 2 + right <= columns {
            return vec![format!("{whole}  {}", self.right)];
        }
        let hang = format!("{}  ", self.beneath);
        let mut lines = hanging(&self.fork, self.left, columns, &hang);
        if right > 0 {
            lines.extend(hanging(&hang, self.right, columns, &hang));
        }
        lines
    }

    /// Counts the columns of its left side.
    fn width(&self) -> usize {
        width(&self.fork) + width(self.left)
    }
}

fn collect<'a>(branch: &'a Branch, fork: &str, below: &str, depth: usize, rows: &mut Vec<Row<'a>>) {
    let stem = if branch.children.is_empty() { "" } else { "│" };
    let (fork, beneath) = (fork.to_owned(), format!("{below}{stem}"));
    rows.push(Row { fork, beneath, left: &branch.left, right: &branch.right });
    if depth >= MAX_DEPTH {
        return;
    }
    for (index, child) in branch.children.iter().enumerate() {
        let last = index + 1 == branch.children.len();
        let (fork, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        collect(child, &format!("{below}{fork}"), &format!("{below}{under}"), depth + 1, rows);
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

    fn tree(root: &ExplainNode, for_a_person: bool, columns: Option<usize>) -> Vec<String> {
        draw(&of_judgement(root, for_a_person), columns)
    }

    fn judgement() -> ExplainNode {
        let signature = node("signature 41d0", Mark::Bad, "made by another key", vec![]);
        let policy = vec![signature, node("b", Mark::Pending, "", vec![])];
        node(
            "quay.io/acme/tool  9c07fe41ab20",
            Mark::Bad,
            "untrusted",
            vec![node("acme.yaml", Mark::Bad, "no authority holds", policy), node("note", Mark::None, "", vec![])],
        )
    }

    #[test]
    fn branches_and_outcomes() {
        let root = judgement();
        assert_eq!(
            tree(&root, false, None),
            [
                "quay.io/acme/tool  9c07fe41ab20  no: untrusted",
                "├─ acme.yaml                     no: no authority holds",
                "│  ├─ signature 41d0             no: made by another key",
                "│  └─ b                          pending",
                "└─ note",
            ]
        );
        assert_eq!(tree(&root, true, None)[0], "quay.io/acme/tool  9c07fe41ab20  \u{1b}[31m✘ untrusted\u{1b}[0m");
        assert!(tree(&root, true, None)[3].ends_with("\u{1b}[33m…\u{1b}[0m"));
    }

    #[test]
    fn outcomes_go_beneath_where_the_terminal_is_narrow() {
        assert_eq!(
            tree(&judgement(), false, Some(34)),
            [
                "quay.io/acme/tool  9c07fe41ab20",
                "│  no: untrusted",
                "├─ acme.yaml",
                "│  │  no: no authority holds",
                "│  ├─ signature 41d0",
                "│  │    no: made by another key",
                "│  └─ b  pending",
                "└─ note",
            ]
        );
    }

    #[test]
    fn a_tree_without_end_is_cut() {
        let mut root = node("x", Mark::None, "", vec![]);
        for _ in 0..200 {
            root = node("x", Mark::None, "", vec![root]);
        }
        assert_eq!(tree(&root, false, None).len(), MAX_DEPTH + 1);
    }
}
