//! A classic signature's payload, and the layer around it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::layer(larder_core::signature::Format::SimpleSigning, data);
});
