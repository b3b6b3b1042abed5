use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

use super::sealed::{NONCE_BYTES, OLD_TAG, TAG};
use super::*;

macro_rules! cosign_key {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/cosign/keys/", $name)).as_slice()
    };
}

fn decrypt(file: &[u8], password: &str) -> Result<PrivateKey, KeyFileError> {
    EncryptedKey::parse(file)?.decrypt(password.as_bytes())
}

fn refused(file: &[u8], password: &str) -> KeyFileError {
    decrypt(file, password).err().expect("refused")
}

/// A key: cosign's own file, its public half, the plain file that cosign imported, and what verifies its signatures.
type Kind = (&'static [u8], &'static [u8], &'static [u8], &'static dyn VerificationAlgorithm);

/// Returns keys of every kind.
fn every_kind() -> [Kind; 8] {
    let rsa = &RSA_PKCS1_2048_8192_SHA256;
    [
        (cosign_key!("imp-sec1.key"), cosign_key!("imp-sec1.pub"), cosign_key!("sec1.pem"), &ECDSA_P256_SHA256_ASN1),
        (cosign_key!("p256.key"), cosign_key!("p256.pub"), &[], &ECDSA_P256_SHA256_ASN1),
        (
            cosign_key!("imp-ec-P-384.key"),
            cosign_key!("imp-ec-P-384.pub"),
            cosign_key!("ec-P-384.pem"),
            &ECDSA_P384_SHA256_ASN1,
        ),
        (
            cosign_key!("imp-ec-P-521.key"),
            cosign_key!("imp-ec-P-521.pub"),
            cosign_key!("ec-P-521.pem"),
            &ECDSA_P521_SHA256_ASN1,
        ),
        (cosign_key!("imp-rsa2048.key"), cosign_key!("imp-rsa2048.pub"), cosign_key!("rsa2048.pem"), rsa),
        (cosign_key!("imp-rsa4096.key"), cosign_key!("imp-rsa4096.pub"), cosign_key!("rsa4096.pem"), rsa),
        (cosign_key!("imp-pkcs1.key"), cosign_key!("imp-pkcs1.pub"), cosign_key!("pkcs1.pem"), rsa),
        (cosign_key!("imp-ed25519.key"), cosign_key!("imp-ed25519.pub"), cosign_key!("ed25519.pem"), &ED25519),
    ]
}

#[test]
fn keys_of_cosign_are_read_and_sign_what_cosign_verifies() {
    for (file, public, _, algorithm) in every_kind() {
        let key = decrypt(file, "larder").map_err(|error| error.to_string()).expect("the key");
        assert_eq!(key.public_pem().as_bytes(), public);
        let signature = key.sign(b"payload").expect("a signature");
        let public = ParsedPublicKey::new(algorithm, &key.spki).expect("a public key");
        public.verify_sig(b"payload", &signature).expect("a good signature");
        assert!(public.verify_sig(b"another", &signature).is_err());
    }
    for (file, public, password) in [
        (cosign_key!("other.key"), cosign_key!("other.pub"), "other"),
        (cosign_key!("nopass.key"), cosign_key!("nopass.pub"), ""),
    ] {
        let key = decrypt(file, password).map_err(|error| error.to_string()).expect("the key");
        assert_eq!(key.public_pem().as_bytes(), public);
    }
}

#[test]
fn what_cosign_imports_is_imported_and_read_again() {
    for (file, public, plain, _) in every_kind().into_iter().filter(|(_, _, plain, _)| !plain.is_empty()) {
        let key = import(plain).map_err(|error| error.to_string()).expect("the key");
        assert_eq!(key.public_pem().as_bytes(), public);
        let sealed = key.encrypt(b"s3cret").expect("a file");
        let again = decrypt(sealed.as_bytes(), "s3cret").map_err(|error| error.to_string()).expect("the key");
        assert_eq!(again.public_pem(), key.public_pem());
        let cosigns = decrypt(file, "larder").map_err(|error| error.to_string()).expect("cosign's");
        assert_eq!(cosigns.pkcs8.len(), key.pkcs8.len(), "as long as cosign writes it");
    }
    let text = String::from_utf8(cosign_key!("sec1.pem").to_vec()).expect("UTF-8");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (what, text) in [
        ("parameters before it", format!("{parameters}{text}")),
        ("line ends of Windows", text.replace('\n', "\r\n")),
        ("words around it", format!("my key\n{text}\nmy key\n")),
    ] {
        assert!(import(text.as_bytes()).is_ok(), "{what}");
    }
}

#[test]
fn what_cannot_be_imported_says_what_it_is() {
    let refused = |text: &[u8]| import(text).err().expect("refused");
    assert_eq!(refused(cosign_key!("p256.key")), KeyFileError::Encrypted);
    assert_eq!(refused(cosign_key!("p256.pub")), KeyFileError::Public);
    for (text, error) in [
        (String::new(), KeyFileError::NotPem),
        ("no key".to_owned(), KeyFileError::NotPem),
        ("-----BEGIN PRIVATE KEY-----\nAAAA".to_owned(), KeyFileError::Malformed),
        (block("PRIVATE KEY", "AAAA"), KeyFileError::Malformed),
        (block("PRIVATE KEY", "A*AA"), KeyFileError::Malformed),
        (block("RSA PRIVATE KEY", "AAAA"), KeyFileError::Malformed),
        (block("EC PRIVATE KEY", "AAAA"), KeyFileError::OtherAlgorithm),
        (block("CERTIFICATE", "AAAA"), KeyFileError::OtherPem),
        (block("ENCRYPTED PRIVATE KEY", "AAAA"), KeyFileError::OtherEncryption),
        (block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA"), KeyFileError::OtherEncryption),
    ] {
        assert_eq!(refused(text.as_bytes()), error, "{text}");
    }
    // X25519 agrees on keys and signs nothing.
    let x25519 = "MC4CAQAwBQYDK2VuBCIEIHB3p9Y2cTQ0yzLgU0ppQV6bBbpBQ5ozbyRcbBNlvVlP";
    assert_eq!(refused(block("PRIVATE KEY", x25519).as_bytes()), KeyFileError::OtherAlgorithm);
    for cut in [10, 60, 100] {
        let text = cosign_key!("ec-P-384.pem");
        assert!(import(&text[..text.len() - cut]).is_err());
    }
}

fn block(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn what_is_no_key_of_cosigns_says_what_it_is() {
    assert_eq!(refused(cosign_key!("p256.key"), "wrong"), KeyFileError::WrongPassword);
    assert_eq!(refused(cosign_key!("p256.key"), "larder\n"), KeyFileError::WrongPassword);
    assert_eq!(refused(cosign_key!("p256.pub"), ""), KeyFileError::Public);
    assert_eq!(refused(cosign_key!("ec-P-256.pem"), ""), KeyFileError::NotEncrypted);
    assert_eq!(refused(b"no key", ""), KeyFileError::NotPem);
    assert_eq!(refused(b"", ""), KeyFileError::NotPem);
    let pem = |json: &str| pem::encode(&Pem::new(TAG, json));
    assert_eq!(refused(pem("{}").as_bytes(), ""), KeyFileError::Damaged);
    assert_eq!(refused(pem::encode(&Pem::new("CERTIFICATE", "x")).as_bytes(), ""), KeyFileError::OtherPem);
}

#[test]
fn a_file_cannot_choose_what_it_costs() {
    let sealed = |n: u64, r: u32, p: u32| {
        let json = format!(
            r#"{{"kdf":{{"name":"scrypt","params":{{"N":{n},"r":{r},"p":{p}}},"salt":"AAAA"}},"cipher":{{"name":"nacl/secretbox","nonce":"{}"}},"ciphertext":"AAAA"}}"#,
            STANDARD.encode([0; NONCE_BYTES])
        );
        EncryptedKey::parse(pem::encode(&Pem::new(TAG, json)).as_bytes()).err()
    };
    assert_eq!(sealed(32_768, 8, 1), None);
    assert_eq!(sealed(131_072, 8, 1), None);
    for (n, r, p) in [(1 << 40, 8, 1), (65_536, 1 << 30, 1), (65_536, 8, 1 << 30), (65_535, 8, 1), (0, 8, 1)] {
        assert_eq!(sealed(n, r, p), Some(KeyFileError::UnknownEncryption), "{n} {r} {p}");
    }
}

#[test]
fn all_settings_of_scrypt_and_the_old_label_are_read() {
    let key = PrivateKey::generate().expect("a key");
    for log_n in 15..=17 {
        let file = key.encrypt_with(b"", log_n).expect("a file").replace(TAG, OLD_TAG);
        let read = decrypt(file.as_bytes(), "").map_err(|error| error.to_string()).expect("the key");
        assert_eq!(read.id(), key.id());
    }
}

#[test]
fn a_new_key_round_trips() {
    let key = PrivateKey::generate().expect("a key");
    let file = key.encrypt(b"s3cret").expect("a file");
    assert!(
        file.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJrZGYiOnsibmFtZSI6InNjcnlwdCIs"),
        "{file}"
    );
    assert!(file.lines().all(|line| line.len() <= PEM_COLUMNS) && !file.contains('\r'));
    assert_eq!(key.pkcs8.len(), 138, "with the public key in it, as Go writes it");
    assert_eq!(refused(file.as_bytes(), ""), KeyFileError::WrongPassword);
    let read = decrypt(file.as_bytes(), "s3cret").map_err(|error| error.to_string()).expect("the key");
    assert_eq!((read.id(), read.id().len()), (key.id(), 64));
    assert_eq!(read.public_pem(), key.public_pem());
}

/// facts/sigstore.md, annex A.
#[test]
fn the_key_of_annex_a() {
    let file = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
OCwicCI6MX0sInNhbHQiOiJZMGVhMXBvSkN5V0NkK3lQdW0rWlFab3YreVNKZ1ZF
R1Y4bEV6TkVVanBjPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiJlRGQ3VWxkWHRKUkNmNGtCVDVmWG1TanprNDBVNjFIaSJ9LCJj
aXBoZXJ0ZXh0IjoiOHRPUjN1UmdWbnorS0p3ZnlZdkdyK2FjTTJVMzcwQmRsbEFD
czVDVHJubWlqNUZjMU9WZ2RzV3dSMjhZRFo2QnFwamFnbjArd0Z5RmhzaFZTR0hY
ODRvU0FqTE1UZjRkZHY3dWVMNjNteXUvdzE3YldEclZOVzFEbGZpWDFNZU5zRG8r
THVoQjFxZ2hDTG5BRmlBT2tzOVVrWGZ4UkVtSW5HVFU0SEtuTVltVENjQXpMbnp1
eVdETWFsRFlKbkRMRWdYREh5NXErTUNvTHc9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
";
    let key = decrypt(file.as_bytes(), "sample-pass").map_err(|error| error.to_string()).expect("the key");
    let hint = STANDARD.encode(Sha256::digest(&key.spki));
    assert_eq!(hint, "xROF8CkpjgP9nZ+yLkAkcoSqM7ncq1TtSP3M6lPixf4=");
}

/// The private keys among `tests/fixtures/vectors/vectors.json`: each is refused, by the error that it names.
#[test]
fn each_vector_is_refused_by_the_error_that_it_names() {
    let vectors: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../../tests/fixtures/vectors/vectors.json")).expect("JSON");
    assert!(decrypt(cosign_key!("nopass.key"), "").is_ok(), "what they were changed from");
    let mut count = 0;
    for vector in vectors.as_array().expect("a list").iter().filter(|vector| vector["format"] == "private-key") {
        let text = vector["text"].as_str().expect("text");
        assert_eq!(format!("{:?}", refused(text.as_bytes(), "")), vector["check"], "{}", vector["name"]);
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

/// Every byte of a key file, changed to another one: it is refused, or is the same key. Whole files are decrypted only where
/// that says anything, for a decryption takes a tenth of a second by design.
#[test]
fn no_changed_byte_of_a_key_file_makes_another_key() {
    let file = cosign_key!("nopass.key");
    let sealed = |file: &[u8]| pem::parse(file).map(Pem::into_contents).expect("PEM");
    let whole = sealed(file);
    let key = decrypt(file, "").map_err(|error| error.to_string()).expect("the key");
    let (mut parsed, mut decrypted) = (0_usize, 0);
    for place in 0..file.len() {
        let mut changed = file.to_vec();
        changed[place] ^= u8::try_from(place % 255).expect("a byte") + 1;
        let Ok(other) = EncryptedKey::parse(&changed) else { continue };
        parsed += 1;
        // What is in the PEM block is the same: so is the key. Of the others, every eighth is decrypted.
        if sealed(&changed) == whole || parsed % 8 != 0 {
            continue;
        }
        decrypted += 1;
        match other.decrypt(b"") {
            Ok(again) => assert_eq!(again.spki, key.spki, "byte {place}"),
            Err(error) => assert_eq!(error, KeyFileError::WrongPassword, "byte {place}"),
        }
    }
    println!("{} bytes: {parsed} changes parse, {decrypted} of them were decrypted", file.len());
    assert!(decrypted > 0);
}
