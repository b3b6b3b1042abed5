//! What a client asks of signatures, and what came of it: between the API's messages and the domain.

use jiff::Timestamp;
use larder_core::asked::{Asked, Claims, Signers, Strictness, Wanted};
use larder_core::key::PublicKey;
use larder_core::keyless::{Identity, MAX_ROOT_BYTES, Pattern, RootFiles, TrustedRoot};
use larder_core::signature::predicate;
use larder_proto::v1;

use super::status::ApiError;
use crate::ops::verify_asked::{Accepted, Answered};

/// The most keys, or identities, of one request.
const MAX_SIGNERS: usize = 100;

/// Reads a request.
pub(super) fn asked(request: &v1::VerifySignaturesRequest, now: Timestamp) -> Result<Asked, ApiError> {
    let (keys, identities) = (&request.public_keys, &request.identities);
    if keys.is_empty() == identities.is_empty() {
        return Err(ApiError::invalid("invalid-argument", "either keys or identities must be given"));
    }
    if keys.len().max(identities.len()) > MAX_SIGNERS {
        return Err(ApiError::invalid(
            "invalid-argument",
            format!("at most {MAX_SIGNERS} keys or identities are taken"),
        ));
    }
    let given = root(request)?;
    let strictness = Strictness {
        ignore_log: request.ignore_log,
        ignore_sct: request.ignore_sct,
        signed_timestamps: request.signed_timestamps,
        certificate_chain: request.certificate_chain,
    };
    let identities = identities.iter().map(identity).collect::<Result<_, _>>()?;
    let demands = strictness.demands(identities, given.as_ref(), now);
    let signers = match keys.is_empty() {
        true => Signers::Identities,
        false => Signers::Keys(keys.iter().map(|pem| public_key(pem.as_bytes())).collect::<Result<_, _>>()?),
    };
    let predicate_type = Some(predicate::uri_of(&request.predicate_type)).filter(|text| !text.is_empty());
    let says = match (request.attestations, request.bundles_sign) {
        (true, _) => Wanted::Attestation(predicate_type.map(str::to_owned)),
        (false, true) => Wanted::SignatureOrBundle,
        (false, false) => Wanted::Signature,
    };
    Ok(Asked {
        signers,
        root: given.unwrap_or_default(),
        demands,
        claims: if request.ignore_claims { Claims::Ignored } else { Claims::Checked },
        annotations: request.annotations.clone().into_iter().collect(),
        says,
    })
}

fn public_key(pem: &[u8]) -> Result<PublicKey, ApiError> {
    PublicKey::from_pem(pem)
        .map_err(|error| ApiError::invalid("invalid-key", format!("a public key cannot be read: {error}")))
}

fn identity(identity: &v1::Identity) -> Result<Identity, ApiError> {
    let pattern = |exact: &str, expression: &str| {
        Pattern::new(Some(exact), Some(expression))
            .map_err(|error| ApiError::invalid("invalid-identity", error.to_string()))
    };
    let subject = pattern(&identity.subject, &identity.subject_regexp)?;
    let issuer = pattern(&identity.issuer, &identity.issuer_regexp)?;
    if subject.is_any() || issuer.is_any() {
        let message = "an identity needs both a subject and an issuer: one alone lets in whoever has the other";
        return Err(ApiError::invalid("invalid-identity", message));
    }
    let extensions = identity.extensions.iter().map(|(number, text)| {
        let number =
            u8::try_from(*number).map_err(|_| ApiError::invalid("invalid-identity", "there is no such extension"))?;
        Ok((number, text.clone()))
    });
    Ok(Identity { subject, issuer, extensions: extensions.collect::<Result<_, ApiError>>()? })
}

/// Reads the root that is given, if one is.
fn root(request: &v1::VerifySignaturesRequest) -> Result<Option<TrustedRoot>, ApiError> {
    let invalid = |message: String| ApiError::invalid("invalid-root", message);
    if !request.trusted_root.is_empty() {
        if request.trusted_root.len() > MAX_ROOT_BYTES {
            return Err(invalid("the trusted root is longer than 4 MiB".to_owned()));
        }
        let root = TrustedRoot::parse(&request.trusted_root);
        return root.map(Some).map_err(|error| invalid(format!("the trusted root cannot be read: {error}")));
    }
    let Some(files) = &request.root_files else { return Ok(None) };
    let files = RootFiles {
        authority: &files.authority,
        timestamp_authority: &files.timestamp_authority,
        log: &files.log,
        ct_log: &files.ct_log,
    };
    files.root().map(Some).map_err(|error| invalid(error.to_string()))
}

/// Renders what came of it.
pub(super) fn answer(answered: Answered, asked_annotations: bool) -> v1::VerifySignaturesResponse {
    let Answered { subject, held, accepted, refused, refused_total, others, looked_at } = answered;
    let refused = refused.into_iter().map(|one| v1::RefusedSignature {
        format: one.format.to_owned(),
        found_at: one.found_at,
        check: one.finding.reason().to_owned(),
        message: one.finding.words,
    });
    v1::VerifySignaturesResponse {
        repository: subject.repository.to_string(),
        tag: subject.tag.map(|tag| tag.to_string()).unwrap_or_default(),
        digest: subject.digest.to_string(),
        held,
        accepted: accepted.into_iter().map(|one| accepted_signature(one, asked_annotations)).collect(),
        refused: refused.collect(),
        refused_total,
        others,
        looked_at,
    }
}

fn accepted_signature(one: Accepted, asked_annotations: bool) -> v1::AcceptedSignature {
    let Accepted { found, matched, annotations, found_at } = one;
    let checks = matched.checks(asked_annotations).into_iter().map(str::to_owned).collect();
    let (log_entry, timestamp) = matched.written(&found);
    let certificate = matched.certificate;
    let (subject, issuer, extensions) = match certificate {
        None => Default::default(),
        Some(facts) => (facts.identity.unwrap_or_default(), facts.issuer.unwrap_or_default(), facts.extensions),
    };
    v1::AcceptedSignature {
        format: found.format.name().to_owned(),
        predicate_type: found.predicate_type().unwrap_or_default().to_owned(),
        payload: found.payload,
        signature: found.signature,
        annotations: annotations.into_iter().collect(),
        key_id: matched.key.map(|key| key.to_string()).unwrap_or_default(),
        subject,
        issuer,
        extensions: extensions.into_iter().map(|(number, text)| (u32::from(number), text)).collect(),
        found_at,
        log_entry,
        timestamp,
        checks,
        broken: matched.broken.iter().map(|one| format!("{}: {}", one.reason(), one.words)).collect(),
    }
}
