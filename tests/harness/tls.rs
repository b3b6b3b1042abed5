//! A server of which only the certificate matters: it shakes hands, and counts who goes on.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::pki::Identity;

/// The longest that one connection is waited with.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The server; every connection has a thread of its own, and is closed after the first bytes of a request.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
}

impl TlsServer {
    /// Starts one on loopback that shows this certificate.
    pub fn start(identity: &Identity) -> Self {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&identity.cert).and_then(Iterator::collect).expect("a certificate in PEM");
        let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key in PEM");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = Self { address, requests: Arc::default(), gone: Arc::default() };
        let (requests, gone) = (Arc::clone(&server.requests), Arc::clone(&server.gone));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if gone.load(Ordering::Relaxed) {
                    return;
                }
                let (config, requests) = (Arc::clone(&config), Arc::clone(&requests));
                std::thread::spawn(move || {
                    if listens(config, stream) {
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        server
    }

    /// Returns `HOST:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns how many clients said something after the handshake.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Shakes hands, and says whether the client then said anything.
fn listens(config: Arc<ServerConfig>, mut stream: TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(TIMEOUT));
    let Ok(mut connection) = ServerConnection::new(config) else { return false };
    let mut first = [0; 1];
    Stream::new(&mut connection, &mut stream).read(&mut first).is_ok_and(|count| count > 0)
}
