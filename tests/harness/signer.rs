//! Classic cosign signatures by P-256 keys, written independently of the code under test.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use serde_json::{Value, json};

use crate::image::{Content, OCI_CONFIG, describe};

/// `application/vnd.dev.cosign.simplesigning.v1+json`
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds a classic signature.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// A key pair; the same name gives the same key.
#[derive(Clone, Debug)]
pub struct Signer {
    key: SigningKey,
}

/// A signature: payload, and what the annotation says.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The signed bytes.
    pub payload: Bytes,
    /// Base64 of ASN.1 DER, or whatever a test puts here.
    pub base64: String,
}

impl Signer {
    /// Makes the key of a name.
    pub fn new(name: &str) -> Self {
        let seed = Digest::of(format!("a key for tests only: {name}").as_bytes());
        Self { key: SigningKey::from_slice(seed.as_bytes()).expect("a hash is a scalar, but for one in 2^32") }
    }

    /// Returns the public key, PEM.
    pub fn public_pem(&self) -> String {
        p256::PublicKey::from(self.key.verifying_key()).to_public_key_pem(LineEnding::LF).expect("PEM")
    }

    /// Signs bytes: ASN.1 DER.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.key.sign(bytes);
        signature.as_bytes().to_vec()
    }

    /// Signs a digest, as cosign's classic format does.
    pub fn sign(&self, digest: &Digest) -> Signature {
        self.sign_with(digest, &Value::Null)
    }

    /// Signs a digest with annotations.
    pub fn sign_with(&self, digest: &Digest, optional: &Value) -> Signature {
        let payload = json!({"critical": {
            "identity": {"docker-reference": "registry.example/tests"},
            "image": {"docker-manifest-digest": digest.to_string()},
            "type": "cosign container image signature"}, "optional": optional});
        let payload = Bytes::from(payload.to_string());
        let base64 = STANDARD.encode(self.sign_bytes(&payload));
        Signature { payload, base64 }
    }

    /// Signs content and returns what belongs at its `.sig` tag.
    pub fn signature_of(&self, content: &Content) -> Content {
        signature_image(&[self.sign(&content.digest())])
    }
}

/// Puts signatures into one manifest, as cosign writes it at a `.sig` tag.
pub fn signature_image(signatures: &[Signature]) -> Content {
    let layers: Vec<Value> = signatures
        .iter()
        .map(|signature| {
            let mut layer = describe(SIMPLE_SIGNING, &signature.payload);
            layer["annotations"] = json!({SIGNATURE_ANNOTATION: signature.base64});
            layer
        })
        .collect();
    let config = Bytes::from(
        json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids":
            signatures.iter().map(|signature| Digest::of(&signature.payload).to_string()).collect::<Vec<_>>()}})
        .to_string(),
    );
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, &config), "layers": layers});
    let mut blobs = vec![config];
    blobs.extend(signatures.iter().map(|signature| signature.payload.clone()));
    Content::of(OCI_MANIFEST, &manifest, blobs)
}
