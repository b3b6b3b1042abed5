//! A private key's file: cosign's, and those that are imported.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::key_file(data);
});
