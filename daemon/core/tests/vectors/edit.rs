//! Changes to documents, as vectors write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// One change. Pointers are JSON pointers into the vector's documents, as `/bundle/mediaType`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Edit {
    /// Puts a value there, in place of what is there, if anything is.
    Set { at: String, value: Value },
    /// Takes a field or an item away.
    Remove { at: String },
    /// Inverts one bit of a byte of what is there in base64, or in PEM; from the end where the place is negative.
    Flip { at: String, byte: i64 },
    /// Appends an item to a list as often as is said: what is at `of`.
    Repeat { at: String, of: String, times: usize },
    /// Exchanges two values.
    Exchange { at: String, with: String },
    /// Turns a list, or the certificates of a PEM text, round.
    Reverse { at: String },
    /// Puts so many bytes of base64, or characters, there.
    Long { at: String, bytes: usize },
    /// Replaces a part of a document's text, which must be there; done last, so that a field can be there twice.
    Replace { text: String, old: String, new: String },
    /// Cuts a document's text after so many bytes.
    Cut { text: String, after: usize },
    /// Puts so many spaces before a document's text.
    Pad { text: String, bytes: usize },
}

/// Changes the documents; texts are for [`Edit::text`].
pub(crate) fn value(edit: &Edit, documents: &mut Value) {
    match edit {
        Edit::Set { at, value } => {
            let (parent, name) = at.rsplit_once('/').expect("a pointer");
            let parent = documents.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
            match parent {
                Value::Array(list) => list[name.parse::<usize>().expect("a place")] = value.clone(),
                other => other[name.replace("~1", "/")] = value.clone(),
            }
        }
        Edit::Remove { at } => {
            let (parent, name) = at.rsplit_once('/').expect("a pointer");
            let removed = match documents.pointer_mut(parent) {
                Some(Value::Object(fields)) => fields.remove(&name.replace("~1", "/")).is_some(),
                Some(Value::Array(list)) => {
                    list.remove(name.parse().expect("a place"));
                    true
                }
                _ => false,
            };
            assert!(removed, "nothing at {at}");
        }
        Edit::Flip { at, byte } => {
            let text = there(documents, at);
            *text = Value::from(flipped(text.as_str().expect("text"), *byte));
        }
        Edit::Repeat { at, of, times } => {
            let item = there(documents, of).clone();
            let list = there(documents, at).as_array_mut().expect("a list");
            list.extend(std::iter::repeat_n(item, *times));
        }
        Edit::Exchange { at, with } => {
            let one = there(documents, at).take();
            let other = std::mem::replace(there(documents, with), one);
            *there(documents, at) = other;
        }
        Edit::Reverse { at } => match there(documents, at) {
            Value::Array(list) => list.reverse(),
            text => {
                let mut blocks = pem::parse_many(text.as_str().expect("text")).expect("PEM");
                blocks.reverse();
                *text = Value::from(pem::encode_many(&blocks));
            }
        },
        Edit::Long { at, bytes } => *there(documents, at) = Value::from(STANDARD.encode(vec![0; *bytes])),
        Edit::Replace { .. } | Edit::Cut { .. } | Edit::Pad { .. } => {}
    }
}

/// Changes the text of the document of this name.
pub(crate) fn text(edit: &Edit, name: &str, written: &mut String) {
    match edit {
        Edit::Replace { text, old, new } if text == name => {
            assert!(written.contains(old), "{old} is not in the {name}");
            *written = written.replacen(old, new, 1);
        }
        Edit::Cut { text, after } if text == name => written.truncate(*after),
        Edit::Pad { text, bytes } if text == name => *written = " ".repeat(*bytes) + written,
        _ => {}
    }
}

fn there<'a>(documents: &'a mut Value, at: &str) -> &'a mut Value {
    documents.pointer_mut(at).unwrap_or_else(|| panic!("nothing at {at}"))
}

fn flipped(text: &str, byte: i64) -> String {
    let flip = |bytes: &mut Vec<u8>| {
        let length = i64::try_from(bytes.len()).expect("short");
        let place = usize::try_from(if byte < 0 { length + byte } else { byte }).expect("a place");
        bytes[place] ^= 1;
    };
    if let Ok(block) = pem::parse(text) {
        let mut bytes = block.contents().to_vec();
        flip(&mut bytes);
        return pem::encode(&pem::Pem::new(block.tag(), bytes));
    }
    let mut bytes = STANDARD.decode(text).expect("base64");
    flip(&mut bytes);
    STANDARD.encode(bytes)
}
