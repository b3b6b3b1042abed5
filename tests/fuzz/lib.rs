//! What the fuzz targets share: a parser may refuse, and must not panic, hang or take memory without bound.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_core::policy::{TrustFiles, TrustSet};
use larder_core::signature::Format;
use larder_core::signature::found::{self, SignatureLayer};
use larder_core::{Descriptor, Digest, manifest};

#[path = "../../cli/src/key_file/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a part of a program, of which only the readers are called")]
mod key_file_of_the_client;

/// Reads a layer of signatures as the daemon does; at least one row comes out, and one that is faulty names nothing.
pub fn layer(format: Format, data: &[u8]) {
    let descriptor = Descriptor::new("", Digest::of(data), data.len() as u64);
    let layer = SignatureLayer { place: 0, format, descriptor: &descriptor };
    let rows = layer.read(Some(Bytes::copy_from_slice(data)));
    assert!(!rows.is_empty(), "a signature that is there is never none");
    for row in rows {
        assert!(format == Format::SimpleSigning || row.fault.is_none() || row.names.is_none());
        let _ = row.signed();
    }
}

/// Reads a private key's file, without its password.
pub fn key_file(data: &[u8]) {
    let _ = key_file_of_the_client::EncryptedKey::parse(data);
    let _ = key_file_of_the_client::import(data);
}

/// Reads each kind of YAML in a trust folder.
pub fn trust(data: &[u8]) {
    let key = include_bytes!("../fixtures/cosign/keys/p256.pub");
    let data = Bytes::copy_from_slice(data);
    let files = [
        ("keys/a.pub", Bytes::from_static(key)),
        ("keys/a.yaml", data.clone()),
        ("policies/p.yaml", data.clone()),
        ("deny.yaml", data),
    ];
    let files: BTreeMap<String, Bytes> = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let _ = TrustSet::read(&TrustFiles(files));
}

/// Reads a manifest, and goes through what it lists and what signatures it holds.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = manifest::Manifest::parse(Bytes::copy_from_slice(data), None) {
        let _ = (manifest.successors().count(), manifest.children().len(), found::read(&manifest, |_| None));
    }
}
