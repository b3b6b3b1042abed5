//! What a Sigstore's services answer while signing, and the config that names them.
#![no_main]

use larder_core::keyless::{SigningConfig, read_v1};
use larder_core::signature::bundle::LogEntry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = SigningConfig::parse(data);
    for entry in [read_v1(data).ok(), LogEntry::parse(data).ok()].into_iter().flatten() {
        assert_eq!(LogEntry::parse(&entry.to_json()).as_ref(), Ok(&entry), "what is written is read again");
    }
});
