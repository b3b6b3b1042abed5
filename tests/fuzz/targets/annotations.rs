//! What comes beside a classic signature, and the bundle of an old `sign-blob`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use larder_core::keyless::{LocalBundle, certificates, log_entry, timestamp_annotation};
    let _ = (log_entry(data), timestamp_annotation(data), certificates(data), LocalBundle::parse(data));
});
