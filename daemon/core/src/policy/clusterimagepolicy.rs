//! `policies/<name>.yaml`: a ClusterImagePolicy (facts/sigstore.md 8.1).
//!
//! What this version does not evaluate never helps: inside an authority it makes that authority
//! unsatisfiable, elsewhere the whole policy. So the document is walked field by field, and what no
//! rule asks for is *unsupported*; a value that is not what its field takes is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    AttestationDemand, Authority, AuthorityKind, KeyProof, Keyless, Mode, Policy, Proof, SignatureFormat, key_file,
    yaml,
};
use crate::check::SignedHash;
use crate::key::PublicKey;
use crate::keyless::{Identity, Pattern};
use crate::reference::Repository;
use crate::rego::{Condition, Query};
use crate::signature::predicate;

const API_VERSIONS: [&str; 2] = ["policy.sigstore.dev/v1beta1", "policy.sigstore.dev/v1alpha1"];
const KIND: &str = "ClusterImagePolicy";
/// The longest name of a field that is repeated in a message.
const MAX_SHOWN: usize = 80;

/// A policy, and what is odd in its file.
pub(super) struct Parsed {
    pub(super) policy: Policy,
    pub(super) warnings: Vec<String>,
}

/// A map of the document, whose fields are taken out one by one.
struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    fn of(path: &str, value: Value) -> Result<Self, String> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            _ => Err(format!("{} is not a map of fields", if path.is_empty() { "the document" } else { path })),
        }
    }

    fn at(&self, field: &str) -> String {
        let field: String = field.chars().take(MAX_SHOWN).collect();
        if self.path.is_empty() { field } else { format!("{}.{field}", self.path) }
    }

    /// Takes a field; `null` is the same as its absence, as Kubernetes has it.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field).filter(|value| !value.is_null())
    }

    fn take_text(&mut self, field: &str) -> Result<Option<String>, String> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{} is not a text; put it in quotes", self.at(field))),
        }
    }

    fn take_list(&mut self, field: &str) -> Result<Vec<Value>, String> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(format!("{} is not a list", self.at(field))),
        }
    }

    fn take_fields(&mut self, field: &str) -> Result<Option<Self>, String> {
        let path = self.at(field);
        self.take(field).map(|value| Self::of(&path, value)).transpose()
    }

    /// Returns the first field that nobody took.
    fn rest(&self) -> Option<String> {
        self.map.keys().next().map(|field| self.at(field))
    }
}

/// Reads a policy file.
pub(super) fn read(bytes: &[u8]) -> Result<Parsed, String> {
    let mut document = Fields::of("", yaml::parse(bytes)?)?;
    let mut warnings = Vec::new();
    match document.take_text("apiVersion")? {
        Some(version) if API_VERSIONS.contains(&version.as_str()) => {}
        _ => return Err(format!("apiVersion is not {}", API_VERSIONS[0])),
    }
    if document.take_text("kind")?.as_deref() != Some(KIND) {
        return Err(format!("kind is not {KIND}, the one kind that is read here"));
    }
    // What a cluster keeps about the object says nothing about images.
    let (_, _) = (document.take("metadata"), document.take("status"));
    let Some(mut spec) = document.take_fields("spec")? else {
        return Err("spec is missing: it lists images and authorities".to_owned());
    };
    let mut unsupported = document.rest();
    let mode = match spec.take_text("mode")?.as_deref() {
        None | Some("enforce") => Mode::Enforce,
        Some("warn") => Mode::Warn,
        Some(_) => return Err("spec.mode is neither enforce nor warn".to_owned()),
    };
    let mut globs = Vec::new();
    for (place, image) in spec.take_list("images")?.into_iter().enumerate() {
        let path = format!("spec.images[{place}]");
        let mut image = Fields::of(&path, image)?;
        let Some(text) = image.take_text("glob")? else { return Err(format!("{path} has no glob")) };
        globs.push(key_file::glob(&text, &mut warnings).map_err(|error| format!("{path}.glob: {error}"))?);
        unsupported = unsupported.or_else(|| image.rest());
    }
    if globs.is_empty() {
        return Err(
            "spec.images lists no globs, so the policy is for nothing; list some, or remove the file".to_owned()
        );
    }
    let authorities = spec.take_list("authorities")?;
    if authorities.is_empty() {
        return Err("spec.authorities is empty, so nothing could hold; list some, or remove the file".to_owned());
    }
    let authorities = authorities
        .into_iter()
        .enumerate()
        .map(|(place, value)| authority(place, value, &mut warnings))
        .collect::<Result<Vec<_>, _>>()?;
    if spec.take("match").is_some() {
        warnings.push("spec.match is ignored: the policy is for these images wherever they run".to_owned());
    }
    // In the words of a person who looks for the field in the file.
    let unsupported = unsupported.or_else(|| spec.rest()).map(|field| strip(&field, "spec."));
    if let Some(field) = &unsupported {
        warnings.push(format!("{field} is not evaluated by this version, so nothing satisfies this policy"));
    }
    for authority in &authorities {
        if let Some(field) = &authority.unsupported {
            warnings
                .push(format!("{}: {field} is not evaluated by this version, so nothing satisfies it", authority.name));
        }
    }
    Ok(Parsed { policy: Policy { globs, mode, authorities, unsupported }, warnings })
}

fn strip(field: &str, prefix: &str) -> String {
    field.strip_prefix(prefix).unwrap_or(field).to_owned()
}

fn authority(place: usize, value: Value, warnings: &mut Vec<String>) -> Result<Authority, String> {
    let path = format!("spec.authorities[{place}]");
    let mut fields = Fields::of(&path, value)?;
    let name = fields.take_text("name")?.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("authority-{place}"));
    let key = fields.take_fields("key")?;
    let fixed = fields.take_fields("static")?;
    let keyless = fields.take_fields("keyless")?;
    let mut unsupported = None;
    let attestations = attestations(&mut fields, &mut unsupported)?;
    let sources = sources(&mut fields, &mut unsupported)?;
    let format = match fields.take_text("signatureFormat")?.as_deref() {
        None => None,
        Some("legacy") => Some(SignatureFormat::Legacy),
        Some("bundle") => Some(SignatureFormat::Bundle),
        Some(_) => return Err(format!("{} is neither legacy nor bundle", fields.at("signatureFormat"))),
    };
    // Beside `static` it is left unread, and so unsupported.
    let proven = match keyless.is_some() || key.is_some() {
        true => proof(&mut fields, &mut unsupported)?,
        false => None,
    };
    unsupported = unsupported.or_else(|| fields.rest());
    // More than one at once is no valid policy; the key is what is kept of it, for naming a key file confines that file.
    if key.is_some() && fixed.is_some() {
        unsupported = unsupported.or_else(|| fixed.as_ref().map(|fixed| fixed.path.clone()));
    }
    if keyless.is_some() && (key.is_some() || fixed.is_some()) {
        unsupported = unsupported.or_else(|| keyless.as_ref().map(|keyless| keyless.path.clone()));
    }
    // What is let in unsigned cannot be asked for more, and must not be let in without it either.
    if fixed.is_some() {
        let asked = [
            (!attestations.is_empty(), "attestations"),
            (!sources.is_empty(), "source"),
            (format.is_some(), "signatureFormat"),
        ];
        let asked = asked.into_iter().find(|(is, _)| *is).map(|(_, field)| fields.at(field));
        unsupported = unsupported.or(asked);
    }
    let by_key = key.is_some();
    let key_proof = proven.clone().filter(|_| by_key);
    let kind = match (key, fixed, keyless) {
        (Some(key), ..) => key_authority(key, &mut unsupported)?,
        (None, Some(fixed), _) => static_authority(fixed, &mut unsupported)?,
        (None, None, Some(keyless)) => keyless_authority(keyless, proven, &mut unsupported, warnings)?,
        (None, None, None) => {
            unsupported = unsupported.or_else(|| Some(format!("{path} without key, keyless or static")));
            AuthorityKind::Other
        }
    };
    let unsupported = unsupported.map(|field| strip(&field, &format!("{path}.")));
    Ok(Authority { name, kind, attestations, format, sources, proof: key_proof, unsupported })
}

fn attestations(fields: &mut Fields, unsupported: &mut Option<String>) -> Result<Vec<AttestationDemand>, String> {
    let path = fields.at("attestations");
    let mut demands = Vec::new();
    for (place, value) in fields.take_list("attestations")?.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        let mut entry = Fields::of(&path, value)?;
        let Some(predicate_type) = entry.take_text("predicateType")?.filter(|text| !text.is_empty()) else {
            return Err(format!("{path} has no predicateType"));
        };
        let name = entry.take_text("name")?.unwrap_or_else(|| format!("attestation-{place}"));
        let predicate_type = predicate::uri_of(&predicate_type).to_owned();
        let condition = condition(&mut entry, &predicate_type, unsupported)?;
        demands.push(AttestationDemand { name, predicate_type, condition });
        if unsupported.is_none() {
            *unsupported = entry.rest();
        }
    }
    Ok(demands)
}

/// Reads an attestation's `policy`: Rego that is written into the file. Everything else is unsupported, and so is Rego that
/// cannot be parsed here: OPA may know more of it.
fn condition(
    entry: &mut Fields,
    predicate_type: &str,
    unsupported: &mut Option<String>,
) -> Result<Option<Arc<Condition>>, String> {
    let Some(mut policy) = entry.take_fields("policy")? else { return Ok(None) };
    let mut note = |field: String| {
        unsupported.get_or_insert(field);
    };
    match policy.take_text("type")?.as_deref() {
        Some("rego") => {}
        Some("cue") => note(format!("{}.type cue", policy.path)),
        _ => return Err(format!("{} is neither rego nor cue", policy.at("type"))),
    }
    let data = policy.take_text("data")?;
    policy.rest().into_iter().for_each(&mut note);
    let parsed = data.as_deref().map(|text| Condition::parse(text, Query::IsCompliant, predicate_type));
    match parsed {
        Some(Ok(condition)) => return Ok(Some(Arc::new(condition))),
        Some(Err(words)) => note(format!("{}.data ({words})", policy.path)),
        None => note(policy.path.clone()),
    }
    Ok(None)
}

fn sources(fields: &mut Fields, unsupported: &mut Option<String>) -> Result<Vec<Repository>, String> {
    let path = fields.at("source");
    let mut sources = Vec::new();
    for (place, value) in fields.take_list("source")?.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        let mut entry = Fields::of(&path, value)?;
        let Some(text) = entry.take_text("oci")? else { return Err(format!("{path} has no oci")) };
        sources.push(text.parse().map_err(|error| format!("{path}.oci: {error}"))?);
        // What a cluster pulls them with; Larder asks with its user's own credentials.
        let _ = entry.take("signaturePullSecrets");
        if unsupported.is_none() {
            *unsupported = entry.rest();
        }
    }
    Ok(sources)
}

/// Reads `ctlog` and `rfc3161timestamp`: what proves the signature's time, and by which root; none where neither is there.
///
/// Where both are, the timestamp takes the log's place, as with policy-controller; they must name one root.
fn proof(fields: &mut Fields, unsupported: &mut Option<String>) -> Result<Option<KeyProof>, String> {
    let mut by: Option<KeyProof> = None;
    for (name, proof) in [("ctlog", Proof::Log), ("rfc3161timestamp", Proof::Timestamp)] {
        let Some(mut given) = fields.take_fields(name)? else { continue };
        let log = if proof == Proof::Log { given.take_text("url")? } else { None };
        let root = given.take_text("trustRootRef")?;
        let (known_root, known_log) = by.map_or((None, None), |by| (by.root, by.log));
        if let (Some(one), Some(other)) = (&root, &known_root)
            && one != other
        {
            *unsupported = unsupported.take().or_else(|| Some(format!("{} of another trust root", given.path)));
        }
        by = Some(KeyProof { proof, root: root.or(known_root), log: log.or(known_log) });
        if unsupported.is_none() {
            *unsupported = given.rest();
        }
    }
    Ok(by)
}

fn keyless_authority(
    mut keyless: Fields,
    proven: Option<KeyProof>,
    unsupported: &mut Option<String>,
    warnings: &mut Vec<String>,
) -> Result<AuthorityKind, String> {
    let path = keyless.path.clone();
    let authority = keyless.take_text("url")?;
    let root = keyless.take_text("trustRootRef")?;
    let sct = match keyless.take("insecureIgnoreSCT") {
        None | Some(Value::Bool(false)) => true,
        Some(Value::Bool(true)) => false,
        Some(_) => return Err(format!("{} is neither true nor false", keyless.at("insecureIgnoreSCT"))),
    };
    let mut identities = Vec::new();
    for (place, value) in keyless.take_list("identities")?.into_iter().enumerate() {
        let mut fields = Fields::of(&format!("{path}.identities[{place}]"), value)?;
        let mut pattern = |exact: &str, expression: &str| {
            let (text, regexp) = (fields.take_text(exact)?, fields.take_text(expression)?);
            let pattern = Pattern::new(text.as_deref(), regexp.as_deref())
                .map_err(|error| format!("{}: {error}", fields.at(expression)))?;
            if pattern.is_any() {
                return Err(format!("{} has neither {exact} nor {expression}, so it would be anybody", fields.path));
            }
            if pattern.is_unanchored() {
                warnings.push(format!("{} matches anywhere in the text; ^ and $ anchor it", fields.at(expression)));
            }
            Ok(pattern)
        };
        let issuer = pattern("issuer", "issuerRegExp")?;
        let subject = pattern("subject", "subjectRegExp")?;
        if unsupported.is_none() {
            *unsupported = fields.rest();
        }
        identities.push(Identity { subject, issuer, extensions: BTreeMap::new() });
    }
    if unsupported.is_none() {
        *unsupported = keyless.rest();
    }
    if identities.is_empty() && unsupported.is_none() {
        *unsupported = Some(format!("{path} without identities"));
    }
    let KeyProof { proof, root: proof_root, log } =
        proven.unwrap_or(KeyProof { proof: Proof::Log, root: None, log: None });
    if let (Some(one), Some(other)) = (&root, &proof_root)
        && one != other
    {
        *unsupported = unsupported.take().or_else(|| Some(format!("{path} by two different trust roots")));
    }
    Ok(AuthorityKind::Keyless(Keyless { identities, root: root.or(proof_root), authority, log, sct, proof }))
}

fn key_authority(mut key: Fields, unsupported: &mut Option<String>) -> Result<AuthorityKind, String> {
    let mut note = |field: Option<String>| {
        if unsupported.is_none() {
            *unsupported = field;
        }
    };
    let hash = match key.take_text("hashAlgorithm")?.map(|name| name.to_ascii_lowercase()).as_deref() {
        None => None,
        Some("sha256") => Some(SignedHash::Sha256),
        Some("sha384") => Some(SignedHash::Sha384),
        Some("sha512") => Some(SignedHash::Sha512),
        Some(_) => {
            note(Some(key.at("hashAlgorithm")));
            None
        }
    };
    let data = key.take_text("data")?;
    let file = match key.take_fields("secretRef")? {
        None => None,
        Some(mut secret) => {
            let name = secret.take_text("name")?;
            note(secret.rest());
            Some(name.ok_or_else(|| format!("{} has no name", secret.path))?)
        }
    };
    let data = data
        .map(|pem| PublicKey::from_pem(pem.as_bytes()).map_err(|error| format!("{}: {error}", key.at("data"))))
        .transpose()?;
    note(key.rest());
    Ok(match (file, data) {
        (Some(name), data) => {
            note(data.map(|_| key.at("data")));
            AuthorityKind::KeyFile { name, hash }
        }
        (None, Some(key)) => AuthorityKind::KeyData { key, hash },
        (None, None) => {
            note(Some(key.path.clone()));
            AuthorityKind::Other
        }
    })
}

fn static_authority(mut fixed: Fields, unsupported: &mut Option<String>) -> Result<AuthorityKind, String> {
    let message = fixed.take_text("message")?;
    let kind = match fixed.take_text("action")?.as_deref() {
        Some("pass") => AuthorityKind::StaticPass,
        Some("fail") => AuthorityKind::StaticFail { message },
        _ => return Err(format!("{} is neither pass nor fail", fixed.at("action"))),
    };
    if unsupported.is_none() {
        *unsupported = fixed.rest();
    }
    Ok(kind)
}
