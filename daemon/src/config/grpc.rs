//! `[grpc]`: the API over TCP, with mutual TLS and a role for each certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// The most clients that are listed.
const MAX_CLIENTS: usize = 1000;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask, list, read what the gate lets through, and watch.
    Reader,
    /// Everything.
    Operator,
}

/// What a certificate is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// A URI among its subject alternative names, exactly as it stands there.
    Uri(String),
    /// A DNS name among them, in lower case; no wildcards.
    Dns(String),
    /// The SHA-256 of its SubjectPublicKeyInfo, in hex.
    Key(String),
}

/// One `[[grpc.client]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcClient {
    /// The certificate.
    pub name: CertificateName,
    /// What its holder may do.
    pub role: Role,
}

/// `[grpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server's certificate and what leads from it to its CA, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM; readable by its owner only.
    pub key_file: PathBuf,
    /// The CAs that sign clients' certificates, PEM.
    pub client_ca_file: PathBuf,
    /// Who may do what; the first that matches counts.
    pub clients: Vec<GrpcClient>,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    address: Spanned<String>,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: PathBuf,
    #[serde(default)]
    client: Vec<Spanned<ClientTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    uri: Option<String>,
    dns: Option<String>,
    key: Option<String>,
    role: Role,
}

impl Table {
    /// Reads the table; paths are relative to `home`.
    ///
    /// # Errors
    /// Fails with where in the file it is wrong, and how.
    pub(super) fn read(self, home: &Path) -> Result<GrpcConfig, (usize, String)> {
        let at = self.address.span().start;
        let address = self.address.get_ref();
        let address = address
            .parse()
            .map_err(|_| (at, format!("{address:?} is no address; write HOST:PORT, as in 0.0.0.0:4471")))?;
        if self.client.len() > MAX_CLIENTS {
            return Err((at, format!("there are more than {MAX_CLIENTS} clients")));
        }
        let mut clients = Vec::with_capacity(self.client.len());
        for table in self.client {
            let at = table.span().start;
            clients.push(table.into_inner().read().map_err(|message| (at, message))?);
        }
        Ok(GrpcConfig {
            address,
            cert_file: home.join(self.cert_file),
            key_file: home.join(self.key_file),
            client_ca_file: home.join(self.client_ca_file),
            clients,
        })
    }
}

impl ClientTable {
    fn read(self) -> Result<GrpcClient, String> {
        let name = match (self.uri, self.dns, self.key) {
            (Some(uri), None, None) if uri.contains(':') => CertificateName::Uri(uri),
            (Some(uri), None, None) => return Err(format!("{uri:?} is no URI, as in \"spiffe://site/builder\"")),
            (None, Some(dns), None) if !dns.is_empty() && !dns.contains('*') => {
                CertificateName::Dns(dns.to_ascii_lowercase())
            }
            (None, Some(dns), None) => return Err(format!("{dns:?} is no name; wildcards are not taken")),
            (None, None, Some(key)) if key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                CertificateName::Key(key.to_ascii_lowercase())
            }
            (None, None, Some(_)) => {
                return Err("key is the SHA-256 of a certificate's public key, 64 hex digits".to_owned());
            }
            _ => return Err("a client has a role and one of uri, dns, key".to_owned()),
        };
        Ok(GrpcClient { name, role: self.role })
    }
}
