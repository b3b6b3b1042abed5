//! Transcripts of runs, compared with what was written down: `tests/fixtures/cli/<name>.txt`.
//!
//! A transcript reads as a session does: the command behind `$`, results behind `|`, talk behind `!`, and the exit code.
//! What differs from run to run (ports, folders, times, process ids, numbers of the journal) is replaced by a word or by
//! as many other digits, so that columns stay as wide. `UPDATE_SNAPSHOTS=1` writes down what is there.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::binaries::workspace;
use crate::cli::Output;

/// A session that is being written down.
#[derive(Debug, Default)]
pub struct Transcript {
    text: String,
    hidden: Vec<(String, String)>,
}

/// What is looked for (`D` is a digit, `D+` one or more), and what stands there instead; `N` repeats for each digit.
const RUNNING: [(&str, &str); 16] = [
    ("DDDD-DD-DDTDD:DD:DD.D+Z", "TIME"),
    ("DDDD-DD-DDTDD:DD:DDZ", "TIME"),
    ("DD:DD:DD", "00:00:00"),
    ("today DD:DD", "today 00:00"),
    ("yesterday DD:DD", "today 00:00"),
    ("D+ min ago", "just now"),
    ("#D+", "#"),
    ("pid D+", "pid N"),
    ("\"pid\": D+", "\"pid\": N"),
    ("\"seq\": D+", "\"seq\": N"),
    ("\"seq\":D+", "\"seq\":N"),
    ("\"journal_seq\": D+", "\"journal_seq\": N"),
    ("\"previous\": D+", "\"previous\": N"),
    ("\"store_bytes\": D+", "\"store_bytes\": N"),
    ("store: D+.D KiB", "store: SIZE"),
    ("uid D+", "uid N"),
];

impl Transcript {
    /// Replaces a text, wherever it shows, by another one; of the same length, where columns are to stay as wide.
    pub fn hide(&mut self, text: &str, instead: &str) {
        self.hidden.push((text.to_owned(), instead.to_owned()));
        // The longest first: a folder before what lies in it.
        self.hidden.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// Writes down a run.
    pub fn note(&mut self, words: &[&str], output: &Output) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(self.text, "{}", format!("$ larder {}", words.join(" ")).trim_end());
        for (mark, stream) in [('|', &output.stdout), ('!', &output.stderr)] {
            for line in stream.lines() {
                self.text.push_str(format!("{mark} {line}").trim_end());
                self.text.push('\n');
            }
        }
        let _ = writeln!(self.text, "exit {}", output.code);
    }

    /// Compares it with what was written down under a name, and shows every line that differs.
    #[track_caller]
    pub fn matches(self, name: &str) {
        let path = file(name);
        let mut text = self.text;
        for (hidden, instead) in &self.hidden {
            text = text.replace(hidden, instead);
        }
        let text = settled(&text);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value != "0") {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of transcripts");
            fs::write(&path, text).expect("a transcript");
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            expected == text,
            "{} is another one now; UPDATE_SNAPSHOTS=1 writes it down\n{}",
            path.display(),
            difference(&expected, &text)
        );
    }
}

/// Returns where a transcript is kept.
pub fn file(name: &str) -> PathBuf {
    workspace().join("tests/fixtures/cli").join(format!("{name}.txt"))
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@=+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Replaces what differs from run to run.
fn settled(text: &str) -> String {
    let mut settled = String::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some(first) = rest.chars().next() {
        for (pattern, instead) in RUNNING {
            let Some(length) = length_of(rest, pattern) else { continue };
            settled.push_str(instead);
            if pattern.starts_with('#') {
                settled.push_str(&"N".repeat(length - 1));
            }
            rest = &rest[length..];
            continue 'text;
        }
        settled.push(first);
        rest = &rest[first.len_utf8()..];
    }
    settled
}

/// Returns how much of the beginning of a text fits a pattern.
fn length_of(text: &str, pattern: &str) -> Option<usize> {
    let mut length = 0;
    let mut wanted = pattern.bytes().peekable();
    while let Some(byte) = wanted.next() {
        let digits = text.as_bytes().get(length..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        length += match byte {
            b'D' if wanted.peek() == Some(&b'+') => {
                wanted.next();
                digits
            }
            b'D' => digits.min(1),
            byte => usize::from(text.as_bytes().get(length) == Some(&byte)),
        };
        let found = match byte {
            b'D' => digits > 0,
            byte => text.as_bytes().get(length.checked_sub(1)?) == Some(&byte),
        };
        if !found {
            return None;
        }
    }
    Some(length)
}

/// How many lines around a difference are shown.
const AROUND: usize = 3;

/// Lists the lines that are in one alone, marked by `-` (expected) and `+` (found), and those around them.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // How long the longest common rest is, from each pair of lines on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (at, line) in old.iter().enumerate().rev() {
        for (place, other) in new.iter().enumerate().rev() {
            common[at][place] = if line == other {
                common[at + 1][place + 1] + 1
            } else {
                common[at + 1][place].max(common[at][place + 1])
            };
        }
    }
    let (mut at, mut place, mut all) = (0, 0, Vec::new());
    while at < old.len() || place < new.len() {
        let (mark, line) = if at < old.len() && place < new.len() && old[at] == new[place] {
            at += 1;
            place += 1;
            (' ', new[place - 1])
        } else if place == new.len() || (at < old.len() && common[at + 1][place] >= common[at][place + 1]) {
            at += 1;
            ('-', old[at - 1])
        } else {
            place += 1;
            ('+', new[place - 1])
        };
        all.push((mark, line));
    }
    let differs = |at: usize| {
        let around = all.iter().skip(at.saturating_sub(AROUND)).take(at.min(AROUND) + 1 + AROUND);
        around.clone().any(|(mark, _)| *mark != ' ')
    };
    let mut shown = String::new();
    for (at, (mark, line)) in all.iter().enumerate().filter(|(at, _)| differs(*at)) {
        if at > 0 && !differs(at - 1) {
            shown.push_str("  …\n");
        }
        let _ = writeln!(shown, "{mark} {line}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_on_is_settled() {
        assert_eq!(settled("#12  today 17:01  (by uid 0, sign)"), "#NN  today 00:00  (by uid N, sign)");
        assert_eq!(settled(r#""time": "2026-11-23T17:01:02.123Z", "seq": 71"#), r#""time": "TIME", "seq": N"#);
        assert_eq!(settled("17:01:02  #8  sha256 1.4 é"), "00:00:00  #N  sha256 1.4 é");
        assert_eq!(settled("alpine:3.22 is 3.6 MiB"), "alpine:3.22 is 3.6 MiB");
    }

    #[test]
    fn differences_are_marked() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "  a\n- b\n+ x\n  c\n+ d\n");
        assert_eq!(difference("", "a\n"), "+ a\n");
        assert_eq!(difference("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n"), "  …\n  3\n  4\n  5\n- 6\n");
    }
}
