//! What is written where: data on stdout, talk on stderr.
//!
//! In come lines that may hold text of registries, files and keys. Whatever could steer a terminal is replaced here,
//! at the one place that writes; only this client's own colours pass, and they are dropped where no terminal is.

pub(crate) mod effect;
pub(crate) mod json;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod tree;
pub(crate) mod words;
pub(crate) mod wrap;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Error, Told};

/// How results are written: for people, or for scripts with whole digests, RFC 3339 times and stable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What `--output` says: how results are written, or, where a verb writes files, where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputArgument {
    Format(Format),
    Place(PathBuf),
}

impl OutputArgument {
    /// Reads the argument of a verb that writes files: a format's name is the format, as with every verb.
    pub(crate) fn place_or_format(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty".to_owned()),
            "text" => Ok(Self::Format(Format::Text)),
            "json" => Ok(Self::Format(Format::Json)),
            place => Ok(Self::Place(place.into())),
        }
    }

    /// Returns how results are written, where it says so.
    pub(crate) fn format(&self) -> Option<Format> {
        match self {
            Self::Format(format) => Some(*format),
            Self::Place(_) => None,
        }
    }
}

/// How much is said beside results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talk {
    /// Only results and errors.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// What was asked of whom, too.
    Verbose,
}

/// Where results and talk go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// As it was asked for; text where it was not.
    format: Option<Format>,
    talk: Talk,
    /// The width of the terminal that results go to; `None` where they go elsewhere.
    data_columns: Option<usize>,
    /// The width of the terminal that talk goes to; `None` where it goes elsewhere.
    talk_columns: Option<usize>,
}

impl Output {
    /// Builds the output of this process.
    pub(crate) fn new(format: Option<Format>, talk: Talk) -> Self {
        let data_columns = io::stdout().is_terminal().then(|| wrap::columns_of(io::stdout()));
        let talk_columns = io::stderr().is_terminal().then(|| wrap::columns_of(io::stderr()));
        Self { format, talk, data_columns, talk_columns }
    }

    /// Says whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Some(Format::Json)
    }

    /// Says whether text was asked for, where a verb of cosign's has another default.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Some(Format::Text)
    }

    /// Says whether only results are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.talk == Talk::Quiet
    }

    /// Says whether a person reads the results as they come; pipes get everything, and no marks.
    pub(crate) fn is_read_by_a_person(&self) -> bool {
        self.data_columns.is_some() && !self.is_json()
    }

    /// Says whether talk goes to a terminal, on which bars can be drawn.
    pub(crate) fn talks_on_terminal(&self) -> bool {
        self.talk_columns.is_some()
    }

    /// Returns the width that results are laid out for; `None` where pipes get everything in full.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.data_columns.filter(|_| !self.is_json())
    }

    /// Writes lines of results; on a terminal, those that are too wide are wrapped.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn data(&self, lines: &str) -> Result<(), Error> {
        let mut stdout = anstream::stdout().lock();
        let written = fitting(lines, self.data_columns).try_for_each(|line| writeln!(stdout, "{line}"));
        written.map_err(cannot_write)
    }

    /// Writes content as it is; on a terminal, without what could steer it.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn content(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        let written = match self.data_columns {
            Some(_) => String::from_utf8_lossy(bytes).lines().try_for_each(|line| writeln!(stdout, "{}", plain(line))),
            None => stdout.write_all(bytes),
        };
        written.and_then(|()| stdout.flush()).map_err(cannot_write)
    }

    /// Writes a whole result as JSON.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn document(&self, value: &Value) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        let text = serde_json::to_string_pretty(value).map_err(|error| cannot_write(error.into()))?;
        writeln!(stdout, "{}", escaped(&text)).and_then(|()| stdout.flush()).map_err(cannot_write)
    }

    /// Writes one JSON value on one line and flushes it.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn json_line(&self, value: &Value) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", escaped(&value.to_string())).and_then(|()| stdout.flush()).map_err(cannot_write)
    }

    /// Says something beside the results.
    pub(crate) fn say(&self, lines: &str) {
        if self.talk >= Talk::Normal {
            self.always(lines);
        }
    }

    /// Says what only `--verbose` asks for.
    pub(crate) fn detail(&self, lines: &str) {
        if self.talk >= Talk::Verbose {
            self.always(lines);
        }
    }

    /// Warns, even with `--quiet`.
    pub(crate) fn warn(&self, lines: &str) {
        self.always(&format!("warning: {lines}"));
    }

    /// Tells an error.
    pub(crate) fn error(&self, told: &Told) {
        if self.is_json() {
            // Where stderr is closed too, the exit code is all there is.
            let _ = writeln!(io::stderr().lock(), "{}", escaped(&told.to_json().to_string()));
            return;
        }
        let mut text = format!("{}error:{} {}", state::BAD, state::END, told.message.replace('\n', "\n  "));
        text.push_str(&format!("\n  hint: {}", told.hint.replace('\n', "\n        ")));
        self.always(&text);
    }

    fn always(&self, lines: &str) {
        let mut stderr = anstream::stderr().lock();
        for line in fitting(lines, self.talk_columns) {
            // Talk that nobody can read is no reason to stop.
            let _ = writeln!(stderr, "{line}");
        }
    }
}

/// Parts text into lines that a terminal may get, and that fit into it.
fn fitting(lines: &str, columns: Option<usize>) -> impl Iterator<Item = String> {
    lines.split('\n').map(clean).flat_map(move |line| match columns {
        Some(columns) => wrap::wrap(&line, columns),
        None => vec![line],
    })
}

/// Replaces what could steer a terminal; tabs stay, and no colour is known here.
fn plain(line: &str) -> String {
    let steers = |character: char| turns(character) || (character.is_control() && character != '\t');
    line.chars().map(|character| if steers(character) { '\u{fffd}' } else { character }).collect()
}

fn cannot_write(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::ClosedPipe;
    }
    Error::file("the result cannot be written to stdout", &error).hint("what came out is not whole")
}

/// Replaces what could steer a terminal or turn the direction of writing. A tag, a key's name or a registry's message
/// might hold an escape sequence that rewrites the lines above it into something that looks accepted.
fn clean(line: &str) -> String {
    let mut cleaned = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        if let Some(style) = state::STYLES.iter().find(|style| rest.starts_with(**style)) {
            cleaned.push_str(style);
            rest = &rest[style.len()..];
            continue;
        }
        cleaned.push(if turns(character) || character.is_control() { '\u{fffd}' } else { character });
        rest = &rest[character.len_utf8()..];
    }
    cleaned
}

/// Says whether a character turns the direction of writing.
fn turns(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes in JSON what JSON lets through and a terminal obeys; it is the same JSON. All of these stand in strings.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if turns(character) || matches!(character, '\u{7f}'..='\u{9f}') {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(clean("a\u{1b}[2Ab\u{7}\r\u{9b}c\u{202e}d"), "a\u{fffd}[2Ab\u{fffd}\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(clean("alpine:3.22 ✔ …"), "alpine:3.22 ✔ …");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "\u{9b}1m\u{7f}\u{202e}é\n"});
        let text = escaped(&value.to_string());
        assert_eq!(text, r#"{"a":"\u009b1m\u007f\u202eé\n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn own_colours_pass() {
        let line = format!("{}verified{}", state::GOOD, state::END);
        assert_eq!(clean(&line), line);
    }
}
