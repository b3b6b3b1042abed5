//! Certificates of a CA that is made on the spot.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

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
        self.issue_for_years(home, file, names, (1975, 4096))
    }

    /// Makes one that is valid from the first day of one year to that of another.
    pub fn issue_for_years(&self, home: &Home, file: &str, names: &[&str], (from, to): (i32, i32)) -> Identity {
        let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let mut params =
            CertificateParams::new(others.into_iter().map(str::to_owned).collect::<Vec<_>>()).expect("names");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        }
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: home.write_beside(&format!("{file}.crt"), certificate.pem()),
            key: home.secret_beside(&format!("{file}.key"), key.serialize_pem()),
        }
    }
}
