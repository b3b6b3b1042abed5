//! A Sigstore bundle, and what it makes of itself beside an image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::layer(larder_core::signature::Format::Bundle, data);
});
