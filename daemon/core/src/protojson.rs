//! Protobuf's JSON, read strictly: what Sigstore's bundles and trusted roots are written in.
//!
//! The rules are those of Go's protojson, for cosign refuses what it refuses: a field is named in lowerCamelCase or in
//! snake_case, once; an unknown field is an error; `null` is an absent field; 64-bit numbers may be text; bytes are
//! base64 of either alphabet, with padding or without. Every error names the field that it is about.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Base64 as Go reads it: the last bits may be anything, padding may be absent.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
/// The most characters of foreign text that an error repeats.
const MAX_SHOWN: usize = 80;

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct FieldError {
    /// The field's path from the top, as in `verificationMaterial.tlogEntries[0].logIndex`.
    pub field: String,
    /// What is wrong with it, in words that follow its name.
    pub fault: String,
}

/// Any JSON value; an object keeps its fields in order and none twice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Parses a document; objects and lists may be 128 deep (serde_json's limit).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number),
            Json::Text(text) => Self::String(text),
            Json::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Object(fields) => {
                Self::Object(fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (mut fields, mut names) = (Vec::new(), BTreeSet::new());
        while let Some(name) = entries.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("the field {:?} is there twice", shown(&name))));
            }
            fields.push((name, entries.next_value()?));
        }
        Ok(Json::Object(fields))
    }
}

/// One message, whose fields are taken out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Message {
    path: String,
    fields: Vec<(String, Json)>,
    names: Names,
}

/// How fields may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// In lowerCamelCase or in snake_case: protobuf's JSON.
    Either,
    /// As they are asked for: other JSON.
    One,
}

impl Message {
    /// Opens the message at `path`; the top's path is empty.
    pub(crate) fn open(json: Json, path: String) -> Result<Self, FieldError> {
        Self::open_as(json, path, Names::Either)
    }

    /// Opens a document whose fields have one name only.
    pub(crate) fn open_plain(json: Json) -> Result<Self, FieldError> {
        Self::open_as(json, String::new(), Names::One)
    }

    fn open_as(json: Json, path: String, names: Names) -> Result<Self, FieldError> {
        match json {
            Json::Object(fields) => Ok(Self { path, fields, names }),
            other => Err(fault(path, format!("is {}, not an object", other.kind()))),
        }
    }

    /// Returns an error about one of its fields.
    pub(crate) fn fault(&self, name: &str, words: impl Into<String>) -> FieldError {
        fault(join(&self.path, name), words.into())
    }

    /// Takes text whose field is called so in the .proto file too, and has no second name; absent is `None`.
    pub(crate) fn text_of_one_name(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        match self.fields.iter().any(|(given, _)| given == name) {
            true => self.text(name),
            false => Ok(None),
        }
    }

    /// Takes a field by its lowerCamelCase name, which may be written in snake_case too; `null` is absent.
    fn take(&mut self, name: &str) -> Result<Option<Json>, FieldError> {
        let snake = snake_case(name);
        let mut found = None;
        let is_it = |given: &String| given == name || self.names == Names::Either && *given == snake;
        while let Some(place) = self.fields.iter().position(|(given, _)| is_it(given)) {
            if found.replace(self.fields.remove(place).1).is_some() {
                return Err(self.fault(name, "is there twice"));
            }
        }
        Ok(found.filter(|json| *json != Json::Null))
    }

    /// Takes a message; absent is `None`.
    pub(crate) fn message(&mut self, name: &str) -> Result<Option<Self>, FieldError> {
        let (path, names) = (join(&self.path, name), self.names);
        self.take(name)?.map(|json| Self::open_as(json, path, names)).transpose()
    }

    /// Takes a message that must be there.
    pub(crate) fn needed_message(&mut self, name: &str) -> Result<Self, FieldError> {
        self.message(name)?.ok_or_else(|| self.fault(name, "is missing"))
    }

    /// Takes a list of messages, at most `limit`; absent is empty.
    pub(crate) fn messages(&mut self, name: &str, limit: usize) -> Result<Vec<Self>, FieldError> {
        let (path, names) = (join(&self.path, name), self.names);
        let items = self.list(name, limit)?;
        let open = |(place, json)| Self::open_as(json, format!("{path}[{place}]"), names);
        items.into_iter().enumerate().map(open).collect()
    }

    /// Takes a list of bytes, at most `limit`; absent is empty.
    pub(crate) fn bytes_list(&mut self, name: &str, limit: usize) -> Result<Vec<Bytes>, FieldError> {
        let path = join(&self.path, name);
        let items = self.list(name, limit)?;
        let decode = |(place, json)| to_bytes(json).map_err(|words| fault(format!("{path}[{place}]"), words));
        items.into_iter().enumerate().map(decode).collect()
    }

    fn list(&mut self, name: &str, limit: usize) -> Result<Vec<Json>, FieldError> {
        match self.take(name)? {
            None => Ok(Vec::new()),
            Some(Json::List(items)) if items.len() <= limit => Ok(items),
            Some(Json::List(items)) => {
                Err(self.fault(name, format!("has {} items; at most {limit} are read", items.len())))
            }
            Some(other) => Err(self.fault(name, format!("is {}, not a list", other.kind()))),
        }
    }

    /// Takes text; absent is `None`.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        match self.take(name)? {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.fault(name, format!("is {}, not text", other.kind()))),
        }
    }

    /// Takes bytes; absent is `None`.
    pub(crate) fn bytes(&mut self, name: &str) -> Result<Option<Bytes>, FieldError> {
        self.take(name)?.map(|json| to_bytes(json).map_err(|words| self.fault(name, words))).transpose()
    }

    /// Takes bytes that must be there, and not be empty.
    pub(crate) fn needed_bytes(&mut self, name: &str) -> Result<Bytes, FieldError> {
        match self.bytes(name)? {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            Some(_) => Err(self.fault(name, "is empty")),
            None => Err(self.fault(name, "is missing")),
        }
    }

    /// Takes a 64-bit number that is not negative, written as a number or as text; absent is 0, as everywhere in protobuf.
    pub(crate) fn number(&mut self, name: &str) -> Result<u64, FieldError> {
        let value = match self.take(name)? {
            None => return Ok(0),
            Some(Json::Number(number)) => number.as_i64(),
            Some(Json::Text(text)) => text.parse::<i64>().ok().filter(|_| is_plain_number(&text)),
            Some(_) => None,
        };
        let value = value.ok_or_else(|| self.fault(name, "is not a 64-bit number"))?;
        u64::try_from(value).map_err(|_| self.fault(name, "is negative"))
    }

    /// Takes an enumeration's value, by name or by number, from `names` (in the order of their numbers); absent is the first.
    pub(crate) fn choice(&mut self, name: &str, names: &[&'static str]) -> Result<&'static str, FieldError> {
        let found = match self.take(name)? {
            None => names.first(),
            Some(Json::Text(text)) => names.iter().find(|known| **known == text && !text.is_empty()),
            Some(Json::Number(number)) => number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .and_then(|number| names.get(number))
                .filter(|name| !name.is_empty()),
            Some(_) => None,
        };
        found.copied().ok_or_else(|| self.fault(name, "is not a value that is known"))
    }

    /// Ends the message: what nobody took is unknown.
    pub(crate) fn finish(self) -> Result<(), FieldError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(fault(join(&self.path, &shown(name)), "is an unknown field".to_owned())),
        }
    }
}

/// Decodes base64 as Go's protojson does: the alphabet is told by `-` and `_`, line ends are skipped.
pub(crate) fn base64(text: &str) -> Option<Bytes> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let decoded = match text.contains(['\r', '\n']) {
        true => engine.decode(text.replace(['\r', '\n'], "")),
        false => engine.decode(text),
    };
    decoded.ok().map(Bytes::from)
}

fn to_bytes(json: Json) -> Result<Bytes, String> {
    match json {
        Json::Text(text) => base64(&text).ok_or_else(|| "is no base64".to_owned()),
        other => Err(format!("is {}, not base64", other.kind())),
    }
}

/// Says whether text is digits with at most one sign, for Rust's parser would take `+1` too.
fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn fault(field: String, fault: String) -> FieldError {
    FieldError { field: if field.is_empty() { "the document".to_owned() } else { field }, fault }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len() + 4), |mut text, character| {
        if character.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
        text
    })
}

/// Returns the start of foreign text, without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Message {
        Message::open(Json::parse(text.as_bytes()).expect("JSON"), String::new()).expect("an object")
    }

    #[test]
    fn both_names_are_one_field() {
        assert_eq!(open(r#"{"logIndex":"7"}"#).number("logIndex"), Ok(7));
        assert_eq!(open(r#"{"log_index":7}"#).number("logIndex"), Ok(7));
        let doubled = open(r#"{"log_index":7,"logIndex":7}"#).number("logIndex").expect_err("doubled");
        assert_eq!(doubled.to_string(), "logIndex is there twice");
        assert!(Json::parse(br#"{"a":{"b":1,"b":1}}"#).expect_err("doubled").contains("\"b\" is there twice"));
    }

    #[test]
    fn numbers_are_whole_and_not_negative() {
        assert_eq!(open("{}").number("n"), Ok(0));
        assert_eq!(open(r#"{"n":null}"#).number("n"), Ok(0));
        for text in [r#""-1""#, "-1", "1.5", r#""+1""#, r#""""#, r#""1e3""#, r#""9223372036854775808""#, "true", "[]"] {
            assert!(open(&format!(r#"{{"n":{text}}}"#)).number("n").is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_of_either_alphabet() {
        for text in ["+/8=", "-_8=", "+/8", "-_8", "+/\\n8="] {
            assert_eq!(open(&format!(r#"{{"b":"{text}"}}"#)).needed_bytes("b"), Ok(Bytes::from_static(&[0xfb, 0xff])));
        }
        for text in ["+_8=", "%", "A"] {
            assert!(open(&format!(r#"{{"b":"{text}"}}"#)).needed_bytes("b").is_err(), "{text}");
        }
        assert_eq!(open("{}").needed_bytes("b").expect_err("absent").to_string(), "b is missing");
    }

    #[test]
    fn choices_are_names_or_numbers() {
        let names = &["NONE", "ONE", "", "THREE"];
        assert_eq!(open(r#"{"c":"ONE"}"#).choice("c", names), Ok("ONE"));
        assert_eq!(open(r#"{"c":3}"#).choice("c", names), Ok("THREE"));
        assert_eq!(open("{}").choice("c", names), Ok("NONE"));
        for text in ["2", "4", r#""TWO""#, r#""""#, "1.0", "{}"] {
            assert!(open(&format!(r#"{{"c":{text}}}"#)).choice("c", names).is_err(), "{text}");
        }
    }

    #[test]
    fn what_nobody_takes_is_unknown() {
        let mut message = open(r#"{"a":{"x":1}}"#);
        let inner = message.needed_message("a").expect("a");
        assert_eq!(inner.finish().expect_err("unknown").to_string(), "a.x is an unknown field");
        message.finish().expect("all taken");
    }
}
