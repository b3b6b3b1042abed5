//! `--policy`: conditions in Rego over what is attested, as cosign asks them.

use std::path::{Path, PathBuf};

use larder_core::rego::{Condition, MAX_CONDITION_BYTES, Query};
use larder_proto::v1;

use crate::commands::read_small;
use crate::error::Error;
use crate::exit::Exit;

/// A condition, and the file that it was read from.
pub(super) struct Policy {
    name: String,
    condition: Condition,
}

/// What a policy looks like.
const SHAPE: &str =
    "a policy is a file `NAME.rego`: `package signature`, and a rule `allow { … }` over `input`, the statement";

/// Reads the files.
///
/// # Errors
/// Fails where one cannot be read, is in CUE, or is no Rego.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Policy>, Error> {
    files.iter().map(|path| read_one(path)).collect()
}

fn read_one(path: &Path) -> Result<Policy, Error> {
    let name = path.display().to_string();
    let told = |message: String| Error::new("policy", message).exits(Exit::Error);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("rego") => {}
        Some("cue") => {
            return Err(told(format!("{name} is in CUE, which is not evaluated here"))
                .hint("no maintained Rust library evaluates CUE; write the condition in Rego (.rego)"));
        }
        _ => return Err(told(format!("{name}: invalid policy format, expected .rego")).hint(SHAPE)),
    }
    let bytes = read_small(path, MAX_CONDITION_BYTES as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| told(format!("{name} is no UTF-8 text")).hint(SHAPE))?;
    // Which predicate types are looked at, `--type` has said.
    let condition = Condition::parse(&text, Query::Allow, "")
        .map_err(|words| told(format!("{name} cannot be read as Rego: {words}")).hint(SHAPE))?;
    Ok(Policy { name, condition })
}

/// Holds every attestation against every policy, as cosign does: one that does not hold refuses all.
///
/// # Errors
/// Fails with what does not hold.
pub(super) fn check(policies: &[Policy], answer: &v1::VerifySignaturesResponse) -> Result<(), Error> {
    let pairs = answer.accepted.iter().flat_map(|one| policies.iter().map(move |policy| (one, policy)));
    let unmet = pairs.filter_map(|(one, policy)| {
        let error = policy.condition.check(&one.payload).err()?;
        Some(format!("{}, of the attestation at {}: {error}", policy.name, one.found_at))
    });
    let unmet: Vec<String> = unmet.collect();
    match unmet.as_slice() {
        [] => Ok(()),
        all => Err(Error::new("policy", format!("{} validation errors occurred: {}", all.len(), all.join("; ")))
            .exits(Exit::Error)
            .hint(
                "the rule data.signature.allow must be true; `| jq -r .payload | base64 -d` shows what is asked about",
            )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rego_is_read_and_cue_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let good = write("good.rego", "package signature\nallow { input.predicateType == \"t\" }\n");
        let policies = read(&[good]).expect("a policy");
        let attested = |payload: &'static str| v1::AcceptedSignature { payload: payload.into(), ..Default::default() };
        let answer = |payloads: &[&'static str]| v1::VerifySignaturesResponse {
            accepted: payloads.iter().map(|payload| attested(payload)).collect(),
            ..Default::default()
        };
        assert!(check(&policies, &answer(&["{\"predicateType\": \"t\"}"])).is_ok());
        let two = answer(&["{\"predicateType\": \"t\"}", "{\"predicateType\": \"u\"}"]);
        assert_eq!(check(&policies, &two).expect_err("one does not hold").exit(), Exit::Error);
        for (name, text, words) in [
            ("a.cue", "predicate: {}", "CUE"),
            ("a.txt", "x", "invalid policy format"),
            ("a.rego", "allow {", "cannot be read as Rego"),
        ] {
            let Err(Error::Told(told)) = read(&[write(name, text)]) else { panic!("{name}") };
            assert!(told.message.contains(words), "{name}: {told:?}");
        }
        assert!(read(&[folder.path().join("absent.rego")]).is_err());
    }
}
