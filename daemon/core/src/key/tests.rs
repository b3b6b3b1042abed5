use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cosign/keys/");
    std::fs::read(format!("{folder}{name}")).expect(name)
}

fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&fixture(name)).expect(name)
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    pem::encode(&pem::Pem::new(label, der)).into_bytes()
}

/// Writes one DER element, its length in the shortest form.
fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut bytes = vec![tag];
    match u16::try_from(content.len()).expect("short").to_be_bytes() {
        [0, length @ 0..128] => bytes.push(length),
        [0, length] => bytes.extend([0x81, length]),
        [high, low] => bytes.extend([0x82, high, low]),
    }
    bytes.extend(content);
    bytes
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const NULL: [u8; 2] = [5, 0];
const EC: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const SECP256K1: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x0a];

fn spki(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(SEQUENCE, algorithm), &tlv(BIT_STRING, &[&[0], key])])
}

fn read_spki(algorithm: &[&[u8]], key: &[u8]) -> Result<PublicKey, KeyError> {
    PublicKey::from_pem(&pem("PUBLIC KEY", &spki(algorithm, key)))
}

#[test]
fn every_key_of_cosign_and_back() {
    for (name, algorithm, bits) in [
        ("p256.pub", KeyAlgorithm::EcdsaP256, 256),
        ("imp-sec1.pub", KeyAlgorithm::EcdsaP256, 256),
        ("imp-ec-P-384.pub", KeyAlgorithm::EcdsaP384, 384),
        ("imp-ec-P-521.pub", KeyAlgorithm::EcdsaP521, 521),
        ("imp-rsa2048.pub", KeyAlgorithm::Rsa, 2048),
        ("imp-rsa4096.pub", KeyAlgorithm::Rsa, 4096),
        ("imp-pkcs1.pub", KeyAlgorithm::Rsa, 2048),
        ("imp-ed25519.pub", KeyAlgorithm::Ed25519, 256),
    ] {
        let file = fixture(name);
        let key = key(name);
        assert_eq!((key.algorithm(), key.bits()), (algorithm, bits), "{name}");
        let der = pem::parse(&file).expect(name).into_contents();
        assert_eq!(key.to_der(), der, "{name}");
        assert_eq!(key.id(), AnchorId(Sha256::digest(der).into()), "{name}");
        assert_eq!(key.to_pem().as_bytes(), file, "{name}");
    }
    assert_eq!(KeyAlgorithm::EcdsaP256.to_string(), "ECDSA P-256");
}

#[test]
fn one_key_has_one_id_however_it_is_written() {
    let canonical = key("p256.pub");
    let (head, point) = canonical.to_der().split_at(canonical.to_der().len() - 65);
    assert_eq!(head, &spki(&[EC, P256], point)[..head.len()]);
    let mut compressed = vec![2 + (point[64] & 1)];
    compressed.extend(&point[1..33]);
    let read = read_spki(&[EC, P256], &compressed).expect("compressed");
    assert_eq!((read.id(), read.to_pem()), (canonical.id(), canonical.to_pem()));
    // The hybrid form of X9.62.
    let hybrid = [&[6 + (point[64] & 1)], &point[1..]].concat();
    assert!(matches!(read_spki(&[EC, P256], &hybrid), Err(KeyError::Malformed(_))));

    let rsa = key("imp-rsa2048.pub");
    let pkcs1 = rsa_pkcs1(&rsa);
    let bare = PublicKey::from_pem(&pem("RSA PUBLIC KEY", &pkcs1)).expect("PKCS#1");
    assert_eq!((bare.id(), bare.to_pem()), (rsa.id(), rsa.to_pem()));
    assert!(matches!(read_spki(&[RSA], &pkcs1), Err(KeyError::Malformed(_))), "no parameters");
    assert!(matches!(read_spki(&[RSA, &[5, 1, 0]], &pkcs1), Err(KeyError::Malformed(_))));

    let ed25519 = key("imp-ed25519.pub");
    let bytes = &ed25519.to_der()[12..];
    assert_eq!(read_spki(&[ED25519], bytes), Ok(ed25519.clone()));
    assert!(matches!(read_spki(&[ED25519, &NULL], bytes), Err(KeyError::Malformed(_))));
}

/// Takes the RSAPublicKey out of an RSA key's SubjectPublicKeyInfo.
fn rsa_pkcs1(key: &PublicKey) -> Vec<u8> {
    // SEQUENCE (4), AlgorithmIdentifier (15), BIT STRING (4) with its count of unused bits (1).
    key.to_der()[24..].to_vec()
}

#[test]
fn text_around_the_block_and_other_line_ends() {
    let file = String::from_utf8(fixture("p256.pub")).expect("text");
    let expected = key("p256.pub");
    for text in [format!("# our key\n{file}\n\n"), file.replace('\n', "\r\n"), file.trim_end().to_owned()] {
        assert_eq!(PublicKey::from_pem(text.as_bytes()), Ok(expected.clone()));
    }
}

#[test]
fn says_what_it_is_instead() {
    let file = fixture("p256.pub");
    let two = [file.as_slice(), &fixture("other.pub")].concat();
    let der = pem::parse(&file).expect("PEM").into_contents();
    let text = String::from_utf8(file.clone()).expect("text");
    let cut = text.find("-----END").expect("END");
    for (bytes, expected) in [
        (Vec::new(), "empty"),
        (b" \n\t\n".to_vec(), "empty"),
        (b"hello".to_vec(), "no PEM block"),
        (vec![0xff, 0xfe, 0], "no PEM block"),
        (b"ssh-ed25519 AAAAC3Nza me@here\n".to_vec(), "OpenSSH public key"),
        (b"ecdsa-sha2-nistp256 AAAA me@here\n".to_vec(), "OpenSSH public key"),
        (der, "binary DER"),
        (two, "2 PEM blocks"),
        (fixture("p256.key"), "private key (ENCRYPTED SIGSTORE PRIVATE KEY)"),
        (fixture("sec1.pem"), "private key"),
        (fixture("rsa2048.pem"), "private key"),
        (pem("OPENSSH PRIVATE KEY", b"x"), "private key"),
        (pem("CERTIFICATE", b"x"), "openssl x509"),
        (pem("PGP PUBLIC KEY BLOCK", b"x"), "PGP PUBLIC KEY BLOCK"),
        (pem("PUBLIC KEY", b""), "malformed"),
        (pem("PUBLIC KEY", b"0\x80\0\0"), "malformed"),
        (pem("RSA PUBLIC KEY", b"x"), "malformed"),
        (pem("RSA PUBLIC KEY", &pem::parse(&file).expect("PEM").into_contents()), "malformed"),
        (text.as_bytes()[..cut].to_vec(), "malformed"),
        (text.replace("END PUBLIC", "END PRIVATE").into_bytes(), "malformed"),
        (text.replacen("MFk", "M!k", 1).into_bytes(), "malformed"),
        (b"-----BEGIN PUBLIC KEY".to_vec(), "malformed"),
        (vec![b'x'; MAX_KEY_BYTES + 1], "too many"),
    ] {
        let error = PublicKey::from_pem(&bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn refuses_keys_that_are_unsafe_or_unknown() {
    let canonical = key("p256.pub");
    let point = canonical.to_der()[canonical.to_der().len() - 65..].to_vec();
    let mut off = point.clone();
    off[64] ^= 1;
    let trailing = [canonical.to_der(), &[0]].concat();
    let malformed =
        |read: Result<PublicKey, KeyError>| assert!(matches!(read, Err(KeyError::Malformed(_))), "{read:?}");
    malformed(read_spki(&[EC, P256], &off));
    malformed(read_spki(&[EC, P256], &[]));
    malformed(read_spki(&[EC, P256], &[0]));
    malformed(read_spki(&[EC, P256], key("imp-ec-P-384.pub").to_der()));
    malformed(PublicKey::from_pem(&pem("PUBLIC KEY", &trailing)));
    for parameters in [&[EC, SECP256K1][..], &[EC], &[EC, &NULL], &[EC, &tlv(SEQUENCE, &[&[2, 1, 1]])]] {
        let read = read_spki(parameters, &point);
        assert!(matches!(read, Err(KeyError::UnsupportedCurve(_))), "{read:?}");
    }
    let pss = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    assert_eq!(read_spki(&[&pss], b"x"), Err(KeyError::UnsupportedAlgorithm("RSA-PSS".into())));
    let odd = read_spki(&[&[6, 2, 0x2a, 3]], b"x").expect_err("unknown");
    assert_eq!(odd, KeyError::UnsupportedAlgorithm("OID 1.2.3".into()));

    malformed(read_spki(&[ED25519], &[1; 31]));
    assert_eq!(read_spki(&[ED25519], &[0; 32]), Err(KeyError::Weak), "a point of order 4");
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(read_spki(&[ED25519], &one), Err(KeyError::Weak), "the neutral point");
    // A y-coordinate below 19 has a second spelling, y + p, that still fits into 255 bits.
    let mut respelled = 0;
    for y in 0..19 {
        let (mut canonical, mut beyond) = ([0; 32], [0xff; 32]);
        canonical[0] = y;
        (beyond[0], beyond[31]) = (0xed + y, 0x7f);
        if read_spki(&[ED25519], &canonical).is_ok() {
            malformed(read_spki(&[ED25519], &beyond));
            respelled += 1;
        }
    }
    assert!(respelled > 3, "{respelled}");
}

#[test]
fn rsa_numbers_are_bounded() {
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let numbers = tlv(SEQUENCE, &[&tlv(INTEGER, &[modulus]), &tlv(INTEGER, &[exponent])]);
        PublicKey::from_pem(&pem("RSA PUBLIC KEY", &numbers))
    };
    let modulus = |bytes: usize| [vec![0], vec![0xff; bytes]].concat();
    let usual = [1, 0, 1];
    assert_eq!(rsa(&modulus(256), &usual).map(|key| key.bits()), Ok(2048));
    assert_eq!(rsa(&modulus(1024), &usual).map(|key| key.bits()), Ok(8192));
    assert_eq!(rsa(&modulus(128), &usual), Err(KeyError::RsaSize(1024)));
    assert_eq!(rsa(&modulus(1025), &usual), Err(KeyError::RsaSize(8200)));
    let mut short = modulus(256);
    short[1] = 0x7f;
    assert_eq!(rsa(&short[1..], &usual), Err(KeyError::RsaSize(2047)));
    for exponent in [&[0][..], &[1], &[2], &[1, 0, 0], &[0, 0xff, 0xff, 0xff, 0xff], &[1; 200]] {
        assert_eq!(rsa(&modulus(256), exponent), Err(KeyError::RsaExponent), "{exponent:?}");
    }
    assert!(matches!(rsa(&[0xff; 256], &usual), Err(KeyError::Malformed(_))), "negative");
    assert!(matches!(rsa(&modulus(256), &[]), Err(KeyError::Malformed(_))));
    let mut even = modulus(256);
    even[256] = 0xfe;
    assert!(matches!(rsa(&even, &usual), Err(KeyError::Malformed(_))));
    let three = tlv(SEQUENCE, &[&tlv(INTEGER, &[&modulus(256)]), &tlv(INTEGER, &[&usual]), &tlv(INTEGER, &[&usual])]);
    assert!(matches!(PublicKey::from_pem(&pem("RSA PUBLIC KEY", &three)), Err(KeyError::Malformed(_))));
}

#[test]
fn no_flipped_bit_panics_or_makes_another_spelling() {
    for name in ["p256.pub", "imp-ec-P-521.pub", "imp-rsa2048.pub", "imp-ed25519.pub"] {
        let key = key(name);
        for at in 0..key.to_der().len() * 8 {
            let mut der = key.to_der().to_vec();
            der[at / 8] ^= 1 << (at % 8);
            if let Ok(other) = PublicKey::from_pem(&pem("PUBLIC KEY", &der)) {
                assert!(other != key, "{name}: bit {at} made another spelling of the key");
            }
        }
    }
}
