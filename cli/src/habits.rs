//! cosign's habits: flags that change nothing here and are taken, flags that are not taken and why, and the words of a
//! command line that mean something else here.
//!
//! What only says how cosign should work (which log, which cache, how many workers) is taken in silence. What would tighten a
//! check, or change what is written, is either done or an error that names the way that is there: it is never passed over.
//! `docs/cosign.md` lists all of them; `tests/interop/flags.rs` compares with what cosign prints.

use std::ffi::OsString;

use clap::Args;

use crate::error::Error;
use crate::output::Output;

/// A flag of cosign's that is not taken.
struct Refused {
    flag: &'static str,
    why: &'static str,
    remedy: &'static str,
}

const fn refused(flag: &'static str, why: &'static str, remedy: &'static str) -> Refused {
    Refused { flag, why, remedy }
}

const SECURITY_KEYS: &str = "Larder reads keys from files, not from security keys";
const KEY_FILES: &str = "`--key FILE`, or `--key env://NAME`";
const NO_FILE: &str = "what is signed is made of the digest, and what is verified is attached to the image";
const ATTACH_FIRST: &str = "`larder attach signature` attaches what lies in files, with its certificate; then verify";
const NO_BROWSER: &str = "Larder opens no browser and asks nobody who you are: the token that says so is given to it";
const TOKEN: &str = "`--identity-token TOKEN|FILE`";
const OWN_CONNECTIONS: &str = "a timestamp authority is spoken with under the system's certificates";
const PRINTED: &str = "what is made is kept here, beside its image";
const PRINT: &str = "`larder download signature REF` prints it";
const WHOLE: &str = "a copy takes all that is attached along";

/// Flags of cosign's that some verb does not take. A verb that does is never asked for here.
const REFUSED: [Refused; 28] = [
    refused(
        "--attachment-tag-prefix",
        "signatures are kept, and looked for, under cosign's usual tags and as referrers only",
        "what lies under other tags can be copied to the usual ones",
    ),
    refused(
        "--sct",
        "a certificate transparency log's promise is read from the certificate only",
        "leave it out: the promise in the certificate is checked all the same",
    ),
    refused("--sk", SECURITY_KEYS, KEY_FILES),
    refused("--slot", SECURITY_KEYS, KEY_FILES),
    refused("--kms", "Larder makes keys in files, not in a key management service", "`larder key generate`"),
    refused("--signature", NO_FILE, ATTACH_FIRST),
    refused("--payload", NO_FILE, ATTACH_FIRST),
    refused("--certificate", "a certificate comes with its signature, and not beside it", ATTACH_FIRST),
    refused("--certificate-chain", "a certificate comes with its signature, and not beside it", ATTACH_FIRST),
    refused("--bundle", PRINTED, PRINT),
    refused("--output-signature", PRINTED, PRINT),
    refused("--output-payload", PRINTED, PRINT),
    refused("--output-certificate", PRINTED, PRINT),
    refused(
        "--sign-container-identity",
        "a payload names the repository that the signed image is in here",
        "`larder tag` gives the image another name, which is then signed",
    ),
    refused(
        "--replace",
        "an attestation that was made stays: whoever has seen it goes on counting it",
        "leave it out: the new one is added beside those that are there",
    ),
    refused(
        "--no-upload",
        "what is attested is kept here, and goes to a registry with --push only",
        "leave it out: without --push nothing goes to the registry",
    ),
    refused(
        "--statement",
        "Larder makes the statement itself, of a predicate and the digest that is held",
        "`--predicate FILE --type TYPE`; one that is signed already, `larder attach attestation` attaches",
    ),
    refused("--rekor-entry-type", "Larder chooses the type of a log's entry by the log", "leave it out"),
    refused("--output-file", "results go to standard output", "`> FILE` of the shell"),
    refused("--oidc-client-secret-file", NO_BROWSER, TOKEN),
    refused("--oidc-redirect-url", NO_BROWSER, TOKEN),
    refused(
        "--issue-certificate",
        "with --key the key itself signs; an identity signs with a key that is made for it",
        "leave out --key, or --issue-certificate",
    ),
    refused("--timestamp-client-cacert", OWN_CONNECTIONS, "leave it out"),
    refused("--timestamp-client-cert", OWN_CONNECTIONS, "leave it out"),
    refused("--timestamp-client-key", OWN_CONNECTIONS, "leave it out"),
    refused("--timestamp-server-name", OWN_CONNECTIONS, "leave it out"),
    refused("--only", WHOLE, "leave it out; `larder push --signatures` pushes what is attached, and no image"),
    refused("--sig-only", WHOLE, "`larder push --signatures` pushes what is attached, and no image"),
];

/// Says why a flag that a verb does not know is not taken, where it is one of cosign's.
pub(crate) fn explain(flag: &str) -> Option<Error> {
    let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
    let refused = REFUSED.iter().find(|refused| refused.flag == flag)?;
    Some(Error::usage(format!("{flag} is not taken: {}", refused.why)).hint(refused.remedy))
}

/// Flags about registries and how they are spoken to. Larder has its own credentials and certificates for them, and finds
/// out by itself what a registry can do.
#[derive(Debug, Args)]
pub(crate) struct Registry {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_http_registry: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_insecure_registry: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    k8s_keychain: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental_oci11: Option<bool>,
    #[arg(long, hide = true)]
    registry_referrers_mode: Option<String>,
    #[arg(long, hide = true)]
    registry_username: Option<String>,
    #[arg(long, hide = true)]
    registry_password: Option<String>,
    #[arg(long, hide = true)]
    registry_token: Option<String>,
    #[arg(long, hide = true)]
    registry_cacert: Option<String>,
    #[arg(long, hide = true)]
    registry_client_cert: Option<String>,
    #[arg(long, hide = true)]
    registry_client_key: Option<String>,
    #[arg(long, hide = true)]
    registry_server_name: Option<String>,
}

impl Registry {
    /// Says which of them somebody may have counted on.
    pub(crate) fn tell(&self, output: &Output) {
        let credentials = [&self.registry_username, &self.registry_password, &self.registry_token];
        if credentials.into_iter().any(|given| given.as_ref().is_some_and(|text| !text.is_empty())) {
            output
                .warn("--registry-username, -password and -token are not used: `larder login HOST` keeps credentials");
        }
        let certificates =
            [&self.registry_cacert, &self.registry_client_cert, &self.registry_client_key, &self.registry_server_name];
        if certificates.into_iter().any(|given| given.as_ref().is_some_and(|text| !text.is_empty())) {
            output.warn("--registry-cacert, -client-… and -server-name are not used: config.toml says a registry's certificates");
        }
    }
}

/// Puts Larder's words in the place of cosign's where the same words mean something else here: `import-key-pair -o PREFIX`.
pub(crate) fn translated(arguments: Vec<OsString>) -> Vec<OsString> {
    const PREFIX: &str = "--output-key-prefix";
    let verb = arguments.iter().position(|argument| argument == "import-key-pair");
    let Some(verb) = verb else { return arguments };
    // Nothing but global flags stands before a verb.
    let behind_flags =
        arguments.iter().take(verb).skip(1).all(|argument| argument.as_encoded_bytes().starts_with(b"-"));
    if !behind_flags {
        return arguments;
    }
    let translate = |(place, argument): (usize, OsString)| match argument.to_str() {
        Some("-o") if place > verb => PREFIX.into(),
        Some(text) if place > verb => match text.strip_prefix("-o") {
            Some(value) => format!("{PREFIX}={}", value.strip_prefix('=').unwrap_or(value)).into(),
            None => argument,
        },
        _ => argument,
    };
    arguments.into_iter().enumerate().map(translate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_prefix_of_cosigns_is_no_format() {
        for (given, expected) in [
            ("larder import-key-pair -o mine", "larder import-key-pair --output-key-prefix mine"),
            ("larder -v import-key-pair -o=mine", "larder -v import-key-pair --output-key-prefix=mine"),
            ("larder import-key-pair -omine --key k", "larder import-key-pair --output-key-prefix=mine --key k"),
            ("larder -o json import-key-pair", "larder -o json import-key-pair"),
            ("larder key import -o json", "larder key import -o json"),
            ("larder trust add import-key-pair -o json", "larder trust add import-key-pair -o json"),
        ] {
            assert_eq!(translated(words(given)), words(expected));
        }
    }

    #[test]
    fn what_is_not_taken_is_explained() {
        let error = explain("--sct=file").expect("one of cosign's");
        assert_eq!((error.reason(), error.exit().code()), ("usage", 2));
        assert!(explain("--no-such-flag").is_none());
    }
}
