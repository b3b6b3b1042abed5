//! Where a key is: a file, or a variable of the environment, as cosign's `env://NAME` says it.

use std::env;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use super::read_small;
use crate::error::Error;

/// What a public key is.
pub(crate) const PUBLIC_KEYS: &str =
    "a public key is a PEM block, as `larder key generate` or `cosign public-key` write it";

/// Reads the key file that `--key` names.
///
/// # Errors
/// Fails where it cannot be read, is longer than `limit`, or is none: a key of a key management service, of Kubernetes or
/// of a security key is not to be had here, and nothing is fetched.
pub(crate) fn read(key: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let Some(text) = key.to_str() else { return read_small(key, limit) };
    let Some((scheme, rest)) = scheme(text) else { return read_small(key, limit) };
    if scheme == "env" {
        return variable(rest, limit);
    }
    let error = Error::new("key", format!("{text} is no file: Larder reads keys from files and from env://NAME"));
    Err(error.hint(match scheme {
        "http" | "https" => format!("`curl -fsSLo cosign.pub {text}`, look at it, then `--key cosign.pub`"),
        "k8s" => "to verify: `kubectl get secret NAME -n NAMESPACE -o jsonpath='{.data.cosign\\.pub}' | base64 -d > cosign.pub`"
            .to_owned(),
        _ => format!("to verify: `cosign public-key --key {text} > cosign.pub`, then `--key cosign.pub`"),
    }))
}

/// Returns the scheme of what is not a file's name, as cosign tells them apart, and what follows it.
fn scheme(key: &str) -> Option<(&str, &str)> {
    match key.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Some((scheme, rest))
        }
        _ => key.strip_prefix("pkcs11:").map(|rest| ("pkcs11", rest)),
    }
}

fn variable(name: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else {
        return Err(Error::new("key", format!("env://{name}: there is no such variable, or it is empty"))
            .hint(format!("`export {name}=\"$(cat cosign.pub)\"`, or name a file")));
    };
    let bytes = value.into_vec();
    if bytes.len() as u64 > limit {
        let message = format!("env://{name} is longer than {} KiB: it is no key", limit >> 10);
        return Err(Error::new("key", message).hint("it is the key itself, as PEM, and not a file's name"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_variables_and_services_are_told_apart() {
        for (key, expected) in [
            ("cosign.pub", None),
            ("/keys/a:b.pub", None),
            ("://odd", None),
            ("env://KEY", Some("env")),
            ("awskms://host/key", Some("awskms")),
            ("k8s://namespace/name", Some("k8s")),
            ("https://example.org/cosign.pub", Some("https")),
            ("pkcs11:token=a", Some("pkcs11")),
        ] {
            assert_eq!(scheme(key).map(|(scheme, _)| scheme), expected, "{key}");
        }
    }

    #[test]
    fn a_service_is_told_with_what_to_do() {
        for key in ["awskms://host/key", "pkcs11:token=a", "k8s://a/b", "https://example.org/cosign.pub"] {
            let Err(Error::Told(told)) = read(Path::new(key), 1) else { panic!("{key} was read") };
            assert!(told.message.contains(key) && told.hint.contains("cosign.pub"), "{key}");
        }
        assert!(read(Path::new("env://LARDER_NO_SUCH_VARIABLE"), 1).is_err());
    }
}
