//! Many references: one line for each, and at the end what came of all.

use std::collections::BTreeMap;

use larder_proto::v1;

use crate::error::Told;
use crate::output::{Output, state, text, words};

/// What came of all so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ended: u64,
    failed: u64,
    bytes: u64,
    /// By name, and whether that is accepted.
    states: BTreeMap<&'static str, (u64, bool)>,
}

impl Tally {
    /// Counts one.
    pub(super) fn add(&mut self, ended: &Result<v1::Finished, Told>) {
        self.ended += 1;
        let Ok(finished) = ended else {
            self.failed += 1;
            return;
        };
        self.bytes = self.bytes.saturating_add(finished.bytes_moved);
        if let Some(verdict) = &finished.verdict {
            let judged = verdict.state();
            let count = self.states.entry(state::name(judged)).or_insert_with(|| (0, state::is_accepted(judged)));
            count.0 += 1;
        }
    }

    /// Says it.
    pub(super) fn tell(&self, output: &Output) {
        output.say(&self.line());
        if self.states.values().any(|(_, is_accepted)| !is_accepted) {
            output.say(
                "  hint: `larder status --not-accepted` lists what is not accepted, `larder explain REF` says why",
            );
        }
    }

    fn line(&self) -> String {
        let mut parts: Vec<String> =
            self.states.iter().map(|(name, (count, _))| format!("{} {name}", text::number(*count))).collect();
        if self.failed > 0 {
            parts.push(format!("{} failed", text::number(self.failed)));
        }
        let moved = if self.bytes == 0 {
            "nothing had to move".to_owned()
        } else {
            format!("{} moved", text::bytes(self.bytes))
        };
        format!("{}: {}; {moved}", text::count(self.ended, "reference"), parts.join(", "))
    }
}

/// Says in a line what came of one reference.
pub(super) fn line(reference: &str, finished: &v1::Finished, for_a_person: bool) -> String {
    let verdict = finished.verdict.clone().unwrap_or_default();
    let mut line =
        format!("{}  {reference}  {}", state::marked(verdict.state(), 10, for_a_person), text::short(&verdict.digest));
    if finished.bytes_moved > 0 {
        line.push_str(&format!("  {} moved", text::bytes(finished.bytes_moved)));
    }
    if !state::is_accepted(verdict.state()) {
        line.push_str(&format!("  {}", words::because(&verdict.reasons)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn finished(state: v1::State, bytes_moved: u64) -> v1::Finished {
        let digest = "sha256:4bcff63911fcb444".to_owned();
        let verdict = v1::Verdict { state: state.into(), digest, ..v1::Verdict::default() };
        v1::Finished { verdict: Some(verdict), bytes_moved, ..v1::Finished::default() }
    }

    #[test]
    fn a_line_for_each_and_one_for_all() {
        let held = finished(v1::State::Verified, 0);
        assert_eq!(line("a/b:1", &held, false), "verified    a/b:1  4bcff63911fc");
        let moved = finished(v1::State::Allowed, 160 << 10);
        assert_eq!(line("a/b:2", &moved, false), "allowed     a/b:2  4bcff63911fc  160.0 KiB moved");
        let mut tally = Tally::default();
        let told = Told { reason: "x".into(), message: "y".into(), hint: "z".into(), exit: Exit::Error };
        [Ok(held.clone()), Ok(held), Ok(moved), Err(told)].iter().for_each(|ended| tally.add(ended));
        assert_eq!(tally.line(), "4 references: 1 allowed, 2 verified, 1 failed; 160.0 KiB moved");
    }
}
