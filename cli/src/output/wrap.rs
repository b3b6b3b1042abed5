//! Fitting lines into a terminal: words move to the next line whole, below where they belong.

use std::env;
use std::os::fd::AsFd;

use super::table::width;

/// How much further than its line's beginning a continuation begins.
const HANG: usize = 4;
/// The width of a terminal that does not say.
const DEFAULT: usize = 80;
/// The narrowest that anything is laid out for.
const NARROWEST: usize = 20;

/// Returns the width of a terminal: `COLUMNS`, else what the terminal says, else 80.
pub(super) fn columns_of(terminal: impl AsFd) -> usize {
    let named = env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse::<usize>().ok());
    let said = || rustix::termios::tcgetwinsize(terminal).ok().map(|size| usize::from(size.ws_col));
    let columns = named.filter(|columns| *columns > 0).or_else(said).filter(|columns| *columns > 0);
    columns.unwrap_or(DEFAULT).max(NARROWEST)
}

/// Breaks a line between words, where it is wider than `columns`; what follows is indented beneath. A word that is
/// wider by itself stays whole, so that it can be copied.
pub(crate) fn wrap(line: &str, columns: usize) -> Vec<String> {
    if width(line) <= columns {
        return vec![line.to_owned()];
    }
    let text = line.trim_start_matches([' ', '│', '├', '└', '─']);
    let head = line.strip_suffix(text).unwrap_or_default();
    // A branch of a tree goes on, and does not fork again.
    let mut hang = head.replace('├', "│").replace(['└', '─'], " ");
    if width(head) + HANG + NARROWEST <= columns {
        hang.push_str(&" ".repeat(HANG));
    }
    hanging(head, text, columns, &hang)
}

/// Breaks a line as [`wrap`] does, which begins with `head`; what follows begins with `hang`.
pub(super) fn hanging(head: &str, text: &str, columns: usize, hang: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = head.to_owned();
    let mut gap = String::new();
    let mut has_word = false;
    for part in text.split_inclusive(' ') {
        let word = part.trim_end_matches(' ');
        if !word.is_empty() {
            if has_word && width(&current) + gap.len() + width(word) > columns {
                lines.push(std::mem::replace(&mut current, hang.to_owned()));
                gap.clear();
            }
            // What the head ends in is gap enough.
            current.push_str(if has_word { &gap } else { "" });
            current.push_str(word);
            gap.clear();
            has_word = true;
        }
        if part.ends_with(' ') {
            gap.push(' ');
        }
    }
    lines.push(current);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_move_whole_and_hang_below() {
        assert_eq!(wrap("short", 20), ["short"]);
        assert_eq!(
            wrap("  hint: `larder pull x` brings it, `larder ls` lists what is here", 30),
            ["  hint: `larder pull x` brings", "      it, `larder ls` lists", "      what is here"]
        );
        assert_eq!(wrap("a  b   a-longer-word-that-moves", 26), ["a  b", "    a-longer-word-that-moves"], "gaps stay");
    }

    #[test]
    fn a_long_word_stays_whole() {
        let long = "registry.example.org/store/app@sha256:4bcff63911fcb4448bd4fdacec207030";
        assert_eq!(wrap(&format!("see {long} there"), 30), ["see", &format!("    {long}"), "    there"]);
    }

    #[test]
    fn branches_go_on() {
        assert_eq!(wrap("│  ├─ a word and another", 20), ["│  ├─ a word and", "│  │  another"]);
        let long = "│    localhost/team/app:sha256-36edfae8df6b….sig";
        assert_eq!(wrap(long, 20), [long]);
    }

    #[test]
    fn colours_take_no_room() {
        let line = format!("{}verified{} by release", super::super::state::GOOD, super::super::state::END);
        assert_eq!(wrap(&line, 19), [line]);
    }
}
