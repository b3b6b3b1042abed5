//! A trusted root.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = larder_core::keyless::TrustedRoot::parse(data).map(|root| root.id());
});
