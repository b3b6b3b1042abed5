//! YAML from an operator's file, bounded: one document, no doubled keys, no aliases, no merge keys.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options};

use super::files::MAX_FILE_BYTES;

/// The most nodes (maps, lists, scalars) in a file.
const MAX_NODES: usize = 50_000;
/// How deep maps and lists may be nested.
const MAX_DEPTH: usize = 32;
/// The longest message passed on from the parser.
const MAX_MESSAGE: usize = 400;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_FILE_BYTES),
            max_events: 4 * MAX_NODES,
            max_aliases: 0,
            max_anchors: 100,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: 4 * MAX_FILE_BYTES,
            flow_nesting_limit: MAX_DEPTH,
            max_depth: MAX_DEPTH,
            max_documents: 2,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: MAX_FILE_BYTES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        with_snippet: false,
    }
}

/// Reads one document; the error says where and what.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("it has {} bytes; {MAX_FILE_BYTES} are the most that are read", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    // An empty file is most likely one that is being written, and would confine and revoke nothing.
    let is_empty = |line: &str| {
        let line = line.trim_start_matches('\u{feff}').trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    };
    if text.lines().all(is_empty) {
        return Err("it is empty; remove it, or write {} if it is to say nothing".to_owned());
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| clean(&error.to_string()))
}

fn clean(message: &str) -> String {
    let line: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Reads a field that may be left out but, where it is there, must say something: `revoked:` with nothing behind it is a
/// mistake that must not read as "not revoked".
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::<T>::deserialize(deserializer)? {
        Some(value) => Ok(Some(value)),
        None => Err(serde::de::Error::custom("the field has no value; give it one, or take it out")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn error(text: &str) -> String {
        parse::<Value>(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn one_small_plain_document() {
        assert!(parse::<Value>(b"a: [1, {b: c}]\n").is_ok());
        assert!(parse::<Value>(b"# a comment\n{}\n").is_ok());
        assert!(error("a: 1\na: 2\n").contains("line 2"), "{}", error("a: 1\na: 2\n"));
        assert!(error("a: 1\n---\nb: 2\n").contains("document"), "{}", error("a: 1\n---\nb: 2\n"));
        assert!(error("a: [1\nb: 2").contains("line"));
        for text in
            ["", "\n", "# only a comment\n", "---\n", "a: &x 1\nb: *x\n", "<<: {a: 1}\nb: 2\n", "a: !!binary !\n"]
        {
            error(text);
        }
        assert!(parse::<Value>(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(100_000);
        let many = format!("[{}]", "1,".repeat(100_000));
        let laughs: String =
            (1..10).map(|n| format!("l{n}: &l{n} [{}]\n", format!("*l{},", n - 1).repeat(9))).collect();
        let large = "a".repeat(MAX_FILE_BYTES + 1);
        for text in [deep, many, format!("l0: &l0 x\n{laughs}"), large] {
            assert!(error(&text).len() < 2 * MAX_MESSAGE);
        }
    }
}
