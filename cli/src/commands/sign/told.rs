//! What is told of a signature that was made.

use larder_proto::v1;
use serde_json::{Value, json};

use super::{Saying, Target};
use crate::error::Error;
use crate::output::{self, Output, text};
use crate::sigstore::Testimony;

/// Tells where a signature was put, by whom it is, and who witnessed it.
///
/// # Errors
/// Fails where stdout does.
pub(super) fn tell(
    target: &Target<'_>,
    testimony: &Testimony,
    key_id: &Option<String>,
    saying: &Saying,
    attached: &v1::AttachSignatureResponse,
    output: &Output,
) -> Result<(), Error> {
    if output.is_json() {
        return output.document(&to_json(target, testimony, key_id, saying, attached));
    }
    let subject = format!("{}@{}", target.repository, text::short(target.digest));
    let signer = match (&testimony.holder, key_id) {
        (Some(holder), _) => format!("as {} ({})", holder.subject, holder.issuer),
        (None, Some(id)) => format!("with key {}", text::short(id)),
        (None, None) => String::new(),
    };
    let (done, noun) = match saying {
        Saying::Signature(_) => ("signed", "signature"),
        Saying::Attestation(_) => ("attested", "attestation"),
    };
    let place = match attached.tag.as_str() {
        "" => format!("bundle is in the referrer {}", text::short(&attached.digest)),
        tag => format!("{noun} is at {}", text::short_digests(tag)),
    };
    output.say(&if attached.added {
        format!("{done} {subject} {signer}; the {place}")
    } else {
        let key = key_id.as_deref().map(text::short).unwrap_or_default();
        format!("{subject} had this {noun} by key {key} already; nothing was changed")
    });
    for index in &testimony.entries {
        output.say(&format!("  a transparency log took it in, as entry {index}: everybody can see it there"));
    }
    for time in &testimony.times {
        output.say(&format!("  a timestamp authority says that it was there at {time}"));
    }
    Ok(())
}

fn to_json(
    target: &Target<'_>,
    testimony: &Testimony,
    key_id: &Option<String>,
    saying: &Saying,
    attached: &v1::AttachSignatureResponse,
) -> Value {
    let mut document = json!({
        "repository": target.repository,
        "digest": target.digest,
        "key_id": key_id,
        "format": if target.format == v1::SignatureFormat::Bundle { "bundle" } else { "legacy" },
        "tag": output::json::text_of(&attached.tag),
        "manifest": attached.digest,
        "added": attached.added,
    });
    if let Some(holder) = &testimony.holder {
        document["subject"] = holder.subject.clone().into();
        document["issuer"] = holder.issuer.clone().into();
    }
    if !testimony.entries.is_empty() {
        document["log_entries"] = testimony.entries.clone().into();
    }
    if !testimony.times.is_empty() {
        document["timestamps"] = testimony.times.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    }
    if let Saying::Attestation(predicate) = saying {
        document["predicate_type"] = predicate.kind.clone().into();
    }
    document
}
