//! JSON as Go's `encoding/json` writes it, for bytes that must equal cosign's.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes `value` compactly, with `<`, `>`, `&`, U+2028 and U+2029 escaped as `json.Marshal` escapes them.
pub(super) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing structs of strings and numbers into memory has no way to fail.
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, HtmlSafe));
    debug_assert!(written.is_ok(), "{written:?}");
    bytes
}

struct HtmlSafe;

impl Formatter for HtmlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = special.chars();
            if let Some(character) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_as_go_does() {
        let text = "a<b>&\u{2028}\u{2029}\"\\\n\u{1}\u{7f}é/";
        assert_eq!(
            String::from_utf8(super::to_vec(&text)).expect("UTF-8"),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\u0001\u{7f}é/\""
        );
    }
}
