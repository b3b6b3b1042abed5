//! Predicates: what cosign makes of a file, by its type (facts/sigstore.md 4.1).

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use larder_core::signature::predicate;
use serde_json::{Map, Value, json};

use crate::commands::sign::Predicate;
use crate::error::Error;
use crate::prompt::PASSWORD_VARIABLE;

/// The largest file that is attested.
const MAX_PREDICATE: u64 = 16 << 20;

/// What a predicate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// One that cosign has a name for.
    Named(&'static Known),
    /// Any other, by its URI.
    Uri(String),
}

/// A predicate type that cosign has a name for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    name: &'static str,
    body: Body,
}

/// How a file becomes a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Its text, with the time, in an object.
    Custom,
    /// Its text, as a JSON string.
    Text,
    /// A JSON object with at least these fields.
    Object(&'static [&'static str]),
    /// SLSA provenance 1.0.
    Provenance1,
}

const SLSA_02: Body = Body::Object(&["builder", "buildType"]);

/// cosign's names, in the order of its own help.
const KNOWN: [Known; 10] = [
    Known { name: "custom", body: Body::Custom },
    Known { name: "slsaprovenance", body: SLSA_02 },
    Known { name: "slsaprovenance02", body: SLSA_02 },
    Known { name: "slsaprovenance1", body: Body::Provenance1 },
    Known { name: "spdx", body: Body::Text },
    Known { name: "spdxjson", body: Body::Object(&[]) },
    Known { name: "cyclonedx", body: Body::Object(&[]) },
    Known {
        name: "link",
        body: Body::Object(&["_type", "name", "materials", "products", "byproducts", "command", "environment"]),
    },
    Known { name: "vuln", body: Body::Object(&["invocation", "scanner", "metadata"]) },
    Known { name: "openvex", body: Body::Object(&[]) },
];

impl Type {
    /// Reads one of cosign's names, or a URI.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(known) = KNOWN.iter().find(|known| known.name == text) {
            return Ok(Self::Named(known));
        }
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'))
        };
        match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(Self::Uri(text.to_owned()))
            }
            _ => Err("it is neither one of cosign's names nor a URI".to_owned()),
        }
    }

    fn uri(&self) -> &str {
        match self {
            Self::Named(known) => predicate::uri_of(known.name),
            Self::Uri(uri) => uri,
        }
    }

    fn body(&self) -> Body {
        match self {
            Self::Named(known) => known.body,
            Self::Uri(_) => Body::Object(&[]),
        }
    }
}

/// Reads a predicate's file; `-` is stdin, from which the password cannot come as well.
///
/// # Errors
/// Fails where it cannot be read, is too long, or is not what its type asks for.
pub(super) fn read(path: &Path, kind: &Type) -> Result<Predicate, Error> {
    let name = path.display().to_string();
    let failed = |error: io::Error| Error::file(&name, &error).and_hint("nothing was signed");
    let bytes = if name == "-" {
        if env::var_os(PASSWORD_VARIABLE).is_none() {
            return Err(Error::usage("the predicate and the password cannot both come from stdin")
                .hint("COSIGN_PASSWORD may hold the password, even if it is empty"));
        }
        bounded(io::stdin().lock()).map_err(failed)?
    } else {
        File::open(path).and_then(bounded).map_err(failed)?
    };
    let name = if name == "-" { "stdin".to_owned() } else { name };
    if bytes.len() as u64 > MAX_PREDICATE {
        return Err(Error::new(
            "predicate",
            format!("{name} has more than 16 MiB, which is the most that is attested"),
        )
        .hint("is it the right file? nothing was signed"));
    }
    let body = body(&bytes, kind.body(), Timestamp::now()).map_err(|wrong| {
        Error::new("predicate", format!("{name} is no predicate of the type {}: {wrong}", kind.uri()))
            .hint("`--type` says what it is; nothing was signed")
    })?;
    Ok(Predicate { kind: kind.uri().to_owned(), body })
}

fn bounded(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_PREDICATE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a file's bytes a predicate; JSON stays as it is, byte for byte.
fn body(bytes: &[u8], body: Body, now: Timestamp) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())?;
    match body {
        Body::Custom => {
            let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            Ok(json!({"Data": text, "Timestamp": now}).to_string().into_bytes())
        }
        Body::Text => Ok(json!(text).to_string().into_bytes()),
        Body::Object(fields) => {
            object(text, fields)?;
            Ok(text.trim().as_bytes().to_vec())
        }
        Body::Provenance1 => {
            let mut provenance = object(text, &["buildDefinition", "runDetails"])?;
            let metadata = provenance.get_mut("runDetails").and_then(|run| run.get_mut("metadata"));
            let Some(metadata) = metadata.and_then(Value::as_object_mut) else {
                return Ok(text.trim().as_bytes().to_vec());
            };
            // Older tools write the name of in-toto's first Go library; the specification has the other.
            match metadata.remove("invocationID") {
                Some(id) => {
                    metadata.insert("invocationId".to_owned(), id);
                    Ok(Value::Object(provenance).to_string().into_bytes())
                }
                None => Ok(text.trim().as_bytes().to_vec()),
            }
        }
    }
}

fn object(text: &str, fields: &[&str]) -> Result<Map<String, Value>, String> {
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON object ({error})"))?;
    match fields.iter().find(|field| !object.contains_key(**field)) {
        Some(missing) => Err(format!("it has no field {missing:?}")),
        None => Ok(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: &str, text: &str) -> Result<String, String> {
        let now = "2026-01-02T03:04:05.9Z".parse().expect("a time");
        let body = body(text.as_bytes(), Type::parse(kind).expect("a type").body(), now)?;
        Ok(String::from_utf8(body).expect("UTF-8"))
    }

    #[test]
    fn what_cosign_makes_of_a_file() {
        assert_eq!(
            made("custom", "any\n\"text\"").as_deref(),
            Ok(r#"{"Data":"any\n\"text\"","Timestamp":"2026-01-02T03:04:05Z"}"#)
        );
        assert_eq!(made("spdx", "SPDXVersion: SPDX-2.3\n").as_deref(), Ok(r#""SPDXVersion: SPDX-2.3\n""#));
        let kept = "{ \"big\": 123456789012345678901234567890, \"b\": \"<\" }";
        for kind in ["spdxjson", "cyclonedx", "openvex", "https://example.org/x?y"] {
            assert_eq!(made(kind, &format!("\n{kept}\n")).as_deref(), Ok(kept), "{kind}");
        }
        let provenance = r#"{"buildDefinition":{},"runDetails":{"builder":{},"metadata":{"invocationID":"7"}}}"#;
        assert_eq!(made("slsaprovenance1", provenance), Ok(provenance.replace("ID", "Id")));
        assert_eq!(made("slsaprovenance1", &provenance.replace("ID", "Id")), Ok(provenance.replace("ID", "Id")));
    }

    #[test]
    fn what_is_no_predicate_is_one_clear_error() {
        for kind in ["spdxjson", "cyclonedx", "openvex", "link", "vuln", "slsaprovenance", "slsaprovenance1", "a:b"] {
            for text in ["", "[]", "\"text\"", "{", "{}{}", "no JSON", &"[".repeat(100_000)] {
                let wrong = made(kind, text).expect_err(kind);
                assert!(wrong.contains("JSON object") && wrong.len() < 200, "{kind}: {wrong}");
            }
        }
        assert!(made("vuln", "{}").expect_err("no fields").contains("invocation"));
        assert!(made("slsaprovenance", r#"{"builder":{}}"#).expect_err("one field").contains("buildType"));
        let not_text = body(b"\xff", Body::Custom, Timestamp::UNIX_EPOCH);
        assert!(not_text.expect_err("no text").contains("UTF-8"));
    }

    #[test]
    fn types_are_names_or_uris() {
        assert_eq!(Type::parse("spdxjson").expect("a name").uri(), "https://spdx.dev/Document");
        assert_eq!(Type::parse("urn:x:y").expect("a URI").uri(), "urn:x:y");
        for wrong in ["", "spdx-json", "a b:c", ":x", "1:x", "x:", "https:// x"] {
            assert!(Type::parse(wrong).is_err(), "{wrong}");
        }
    }
}
