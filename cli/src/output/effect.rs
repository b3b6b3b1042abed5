//! What an edit of the trust folder changes.

use larder_proto::v1::{Effect, State, SubjectChange};
use serde_json::{Value, json};

use super::json::{reasons, state_of};
use super::table::fit;
use super::{Output, state, text};
use crate::error::Error;

/// How many changes a person sees unless they ask for all.
const TOLD: usize = 10;

/// Ends what only would change.
const UNCHANGED: &str = "nothing was changed";

/// Whether all changes are listed, or the first few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// The first few, on a terminal.
    Cut,
    /// All.
    All,
}

/// Writes what changes, or would.
///
/// # Errors
/// Fails where stdout cannot be written.
pub(crate) fn write(output: &Output, edit: &str, effect: &Effect, listing: Listing) -> Result<(), Error> {
    let cut = if listing == Listing::Cut && output.is_read_by_a_person() { TOLD } else { usize::MAX };
    output.data(&lines(edit, effect, cut, output.columns()).join("\n"))
}

/// Writes what would change, before a question.
///
/// # Errors
/// Fails where stdout cannot be written.
pub(crate) fn preview(output: &Output, edit: &str, effect: &Effect, listing: Listing) -> Result<(), Error> {
    let cut = if listing == Listing::Cut && output.is_read_by_a_person() { TOLD } else { usize::MAX };
    let mut lines = lines(edit, effect, cut, output.columns());
    // That nothing was changed goes without saying while it is asked.
    lines.pop_if(|line| line == UNCHANGED);
    output.data(&lines.join("\n"))
}

fn lines(edit: &str, effect: &Effect, cut: usize, columns: Option<usize>) -> Vec<String> {
    let verb = if effect.applied { "changes" } else { "would change" };
    let mut lines =
        vec![format!("{edit} {verb} {} of {}", text::number(effect.changed), text::count(effect.subjects, "subject"))];
    let arrow = |from: State, to: State| format!("{} → {}", first_or_name(from), state::coloured(to, 0));
    let counts: Vec<Vec<String>> = effect
        .transitions
        .iter()
        .map(|one| vec![format!("  {}", arrow(one.from(), one.to())), text::number(one.count)])
        .collect();
    lines.extend(fit(&counts, columns));
    let row = |change: &SubjectChange| {
        let subject = text::subject(&change.repository, &change.tags, &change.digest);
        vec![format!("  {subject}"), arrow(change.from(), change.to())]
    };
    let rows: Vec<Vec<String>> = effect.changes.iter().take(cut).map(row).collect();
    let shown = rows.len() as u64;
    lines.extend(fit(&rows, columns));
    let more = effect.changed.saturating_sub(shown);
    if more > 0 && rows.len() < effect.changes.len() {
        lines.push(format!("  … {} more: add --all", text::number(more)));
    } else if more > 0 {
        lines.push(format!("  … {} more; the first {} are listed", text::number(more), text::number(shown)));
    }
    if !effect.applied {
        lines.push(UNCHANGED.to_owned());
    }
    lines
}

fn first_or_name(state: State) -> &'static str {
    if state == State::Unspecified { "new" } else { state::name(state) }
}

/// Returns an effect as JSON.
pub(crate) fn to_json(effect: Option<&Effect>) -> Value {
    let Some(effect) = effect else { return Value::Null };
    let transitions: Vec<Value> = effect
        .transitions
        .iter()
        .map(|one| json!({"from": state_of(one.from), "to": state_of(one.to), "count": one.count}))
        .collect();
    let changes: Vec<Value> = effect
        .changes
        .iter()
        .map(|change| {
            json!({
                "repository": change.repository,
                "tags": change.tags,
                "digest": change.digest,
                "from": state_of(change.from),
                "to": state_of(change.to),
                "reasons": reasons(&change.reasons),
            })
        })
        .collect();
    json!({
        "applied": effect.applied,
        "subjects": effect.subjects,
        "changed": effect.changed,
        "transitions": transitions,
        "changes": changes,
    })
}

#[cfg(test)]
mod tests {
    use larder_proto::v1::Transition;

    use super::*;

    fn effect(changed: u64, listed: usize) -> Effect {
        let change = |number: usize| SubjectChange {
            repository: "registry.example.org/store/app".to_owned(),
            tags: vec![format!("1.{number}")],
            digest: "sha256:00".to_owned(),
            from: State::Verified.into(),
            to: State::Untrusted.into(),
            reasons: vec![],
        };
        let transition = Transition { from: State::Verified.into(), to: State::Untrusted.into(), count: changed };
        Effect {
            subjects: 1204,
            changed,
            transitions: vec![transition],
            changes: (0..listed).map(change).collect(),
            applied: false,
        }
    }

    #[test]
    fn a_dry_run_in_words() {
        let to = "\u{1b}[31muntrusted\u{1b}[0m";
        assert_eq!(
            lines("removing key release", &effect(212, 3), 2, None),
            [
                "removing key release would change 212 of 1,204 subjects".to_owned(),
                format!("  verified → {to}  212"),
                format!("  registry.example.org/store/app:1.0  verified → {to}"),
                format!("  registry.example.org/store/app:1.1  verified → {to}"),
                "  … 210 more: add --all".to_owned(),
                "nothing was changed".to_owned(),
            ]
        );
        let all = lines("x", &effect(5, 3), usize::MAX, None);
        assert_eq!(all[5], "  … 2 more; the first 3 are listed");
    }
}
