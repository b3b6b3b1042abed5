//! The payload: what a classic signature says.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::digest::Digest;
use crate::signature::go_json;

/// What `critical.type` says in cosign's signatures.
const COSIGN_TYPE: &str = "cosign container image signature";
/// The most characters of a docker-reference that are kept.
const MAX_CLAIM: usize = 512;

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) digest: Digest,
    pub(super) docker_reference: Option<String>,
}

#[derive(Serialize)]
struct Payload<'a> {
    critical: Critical<'a>,
    /// Go writes `null` for a nil map, which is what cosign has without `-a`.
    optional: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct Critical<'a> {
    identity: Identity<'a>,
    image: Image<'a>,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Identity<'a> {
    docker_reference: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Image<'a> {
    docker_manifest_digest: &'a Digest,
}

/// Writes a payload as cosign does.
pub(super) fn write(docker_reference: &str, digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    go_json::to_vec(&Payload {
        critical: Critical {
            identity: Identity { docker_reference },
            image: Image { docker_manifest_digest: digest },
            kind: COSIGN_TYPE,
        },
        optional: (!annotations.is_empty()).then_some(annotations),
    })
}

/// Reads a payload; the error says what it is or lacks, to follow "its payload …".
///
/// As cosign does: names of fields in any case (signatures of early 2021 have capitals), unknown fields ignored,
/// `optional` an object or null. Stricter than cosign: a field that is there twice is refused at every level,
/// for of two digests every reader may take another one; and the type must be cosign's, for other tools sign
/// the same form with another meaning.
pub(super) fn read(bytes: &[u8]) -> Result<Claims, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let fields = Object(&["critical", "optional"])
        .deserialize(&mut deserializer)
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|error| format!("is malformed: {error}"))?;
    let [Some(Value::Object(critical)), optional] = fields.each(["critical", "optional"]) else {
        return Err("has no \"critical\" object".to_owned());
    };
    if !matches!(optional, None | Some(Value::Null | Value::Object(_))) {
        return Err("has something else than an object as \"optional\"".to_owned());
    }
    let [kind, image, identity] = critical.each(["type", "image", "identity"]);
    match kind {
        Some(Value::Text(kind)) if kind == COSIGN_TYPE => {}
        Some(Value::Text(kind)) => {
            let shown: String = kind.chars().take(80).collect();
            return Err(format!("is of the type {shown:?}, not {COSIGN_TYPE:?}"));
        }
        _ => return Err("has no \"type\"".to_owned()),
    }
    let Some(Value::Object(image)) = image else { return Err("names no image".to_owned()) };
    let [Some(Value::Text(digest))] = image.each(["docker-manifest-digest"]) else {
        return Err("names no docker-manifest-digest".to_owned());
    };
    let digest = digest.parse().map_err(|error| format!("names no digest: {error}"))?;
    let docker_reference = match identity {
        Some(Value::Object(identity)) => match identity.each(["docker-reference"]) {
            [Some(Value::Text(text))] => Some(text.chars().take(MAX_CLAIM).collect()),
            _ => None,
        },
        _ => None,
    };
    Ok(Claims { digest, docker_reference })
}

/// A JSON value, of which only what can matter is kept.
enum Value {
    Null,
    Text(String),
    Object(Fields),
    Other,
}

/// The fields of an object that have known names.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn each<const N: usize>(mut self, names: [&str; N]) -> [Option<Value>; N] {
        names.map(|name| {
            let at = self.0.iter().position(|(known, _)| *known == name)?;
            Some(self.0.swap_remove(at).1)
        })
    }
}

/// Which fields of an object are kept; the same for the objects inside it.
#[derive(Clone, Copy)]
struct Object(&'static [&'static str]);

/// The fields of `critical` and of what is in it; no name means two things.
const CRITICAL_FIELDS: &[&str] = &["type", "image", "identity", "docker-manifest-digest", "docker-reference"];

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        match deserializer.deserialize_any(Any(self))? {
            Value::Object(fields) => Ok(fields),
            _ => Err(D::Error::custom("it is no JSON object")),
        }
    }
}

/// Reads any value; in objects, the known fields are kept, and no name may be there twice.
#[derive(Clone, Copy)]
struct Any(Object);

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Object(known) = self.0;
        let mut seen = HashSet::new();
        let mut fields: Vec<(&'static str, Value)> = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let Some(&field) = known.iter().find(|field| field.eq_ignore_ascii_case(&name)) else {
                let _: Value = entries.next_value_seed(Self(Object(&[])))?;
                if !seen.insert(name) {
                    return Err(A::Error::custom("a field is there twice"));
                }
                continue;
            };
            if fields.iter().any(|(other, _)| *other == field) {
                return Err(A::Error::custom(format!("{field:?} is there twice")));
            }
            let inner = if field == "optional" { &[] } else { CRITICAL_FIELDS };
            fields.push((field, entries.next_value_seed(Self(Object(inner)))?));
        }
        Ok(Value::Object(Fields(fields)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(digest: &Digest) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"quay.io/a/b"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{COSIGN_TYPE}"}},"optional":null}}"#
        )
    }

    #[test]
    fn writes_what_cosign_writes() {
        let digest: Digest =
            "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc".parse().expect("digest");
        let bytes = write("registry.example.com/team/app", &digest, &BTreeMap::new());
        assert_eq!(bytes.len(), 245);
        assert_eq!(
            Digest::of(&bytes).hex(),
            "2afb12d05657344728d556946c7409a1c93b9697afb9a2c9fa69f55c8f65a7c4",
            "facts/sigstore.md, annex A.1"
        );
        let annotations = BTreeMap::from([("b".to_owned(), "<1&2>".to_owned()), ("a".to_owned(), "x".to_owned())]);
        let text = String::from_utf8(write("r/x", &digest, &annotations)).expect("UTF-8");
        assert!(text.ends_with(r#""optional":{"a":"x","b":"\u003c1\u00262\u003e"}}"#), "{text}");
        assert_eq!(read(text.as_bytes()).expect("readable").digest, digest);
    }

    #[test]
    fn reads_as_leniently_as_cosign() {
        let digest = Digest::of(b"image");
        let claims = Claims { digest, docker_reference: Some("quay.io/a/b".into()) };
        for text in [
            good(&digest),
            good(&digest).replace("critical", "Critical").replace("docker-manifest-digest", "Docker-manifest-digest"),
            good(&digest).replace("null", r#"{"creator":"x","timestamp":12,"deep":[{"a":[1,2.5,true,null]}]}"#),
            good(&digest).replace("null}", r#"null,"more":{"critical":1}}"#),
            good(&digest).replace(r#","optional":null"#, ""),
            format!(" {}\n", good(&digest)),
        ] {
            assert_eq!(
                read(text.as_bytes()),
                Ok(Claims { docker_reference: claims.docker_reference.clone(), ..claims })
            );
        }
        let nameless = good(&digest).replace(r#""identity":{"docker-reference":"quay.io/a/b"},"#, "");
        assert_eq!(read(nameless.as_bytes()), Ok(Claims { digest, docker_reference: None }));
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        let digest = Digest::of(b"image");
        let other = Digest::of(b"other");
        let good = good(&digest);
        let image = format!(r#""image":{{"docker-manifest-digest":"{digest}"}}"#);
        let other_image = format!(r#""image":{{"docker-manifest-digest":"{other}"}}"#);
        for (text, fault) in [
            (good.replace(&image, &format!("{image},{other_image}")), "twice"),
            (good.replace(&image, &format!("{image},{}", other_image.replace("image", "Image"))), "twice"),
            (
                good.replace(
                    &image,
                    &format!(r#""image":{{"docker-manifest-digest":"{digest}","Docker-Manifest-Digest":"{other}"}}"#),
                ),
                "twice",
            ),
            (good.replace("null", r#"{"a":1,"a":2}"#), "twice"),
            (good.replace("null", r#"[{"a":1,"a":2}]"#), "twice"),
            (good.replace("null}", r#"null,"Optional":{}}"#), "twice"),
            (good.replace("null", "[]"), "optional"),
            (good.replace(COSIGN_TYPE, "atomic container signature"), "type"),
            (good.replace(&format!(r#","type":"{COSIGN_TYPE}""#), ""), "type"),
            (good.replace(&image, r#""image":null"#), "image"),
            (good.replace(&digest.to_string(), "sha256:12"), "digest"),
            (good.replace(&format!("\"{digest}\""), "7"), "digest"),
            (format!("{good}{good}"), "malformed"),
            (format!("[{good}]"), "malformed"),
            (format!("{}{good}", "[".repeat(200)), "malformed"),
            (good.replace("null", &format!("{}{}", "[".repeat(500), "]".repeat(500))), "malformed"),
            (good[..100].to_owned(), "malformed"),
            (String::new(), "malformed"),
            ("null".to_owned(), "malformed"),
            ("{}".to_owned(), "critical"),
        ] {
            let error = read(text.as_bytes()).expect_err(&text);
            assert!(error.contains(fault), "{fault}: {error}: {text}");
        }
        assert!(read(b"{\"critical\":\"\xff\"}").is_err());
    }
}
