//! A policy, a key's settings, deny.yaml.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::trust(data);
});
