//! Certificates of a CA that is made on the spot.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::Home;

/// A certificate authority.
#[derive(Debug)]
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key as files, and the CA that both sides trust.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Makes the authority.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a CA").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes its own certificate beside the home.
    pub fn ca(&self, home: &Home, name: &str) -> PathBuf {
        home.write_beside(&format!("{name}.crt"), &self.certificate)
    }

    /// Makes a certificate for names (DNS, addresses, URIs) and writes it and its key beside the home.
    pub fn issue(&self, home: &Home, file: &str, names: &[&str]) -> Identity {
        let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let mut params =
            CertificateParams::new(others.into_iter().map(str::to_owned).collect::<Vec<_>>()).expect("names");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: home.write_beside(&format!("{file}.crt"), certificate.pem()),
            key: home.secret_beside(&format!("{file}.key"), key.serialize_pem()),
        }
    }
}
