//! A manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::manifest(data);
});
