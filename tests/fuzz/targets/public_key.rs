//! A public key.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = larder_core::key::PublicKey::from_pem(data);
    let _ = larder_core::key::PublicKey::from_der(data);
});
