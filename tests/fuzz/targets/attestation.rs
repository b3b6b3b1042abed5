//! A classic attestation: the envelope and the statement in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_fuzz::layer(larder_core::signature::Format::Attestation, data);
    let _ = larder_core::signature::dsse::Statement::parse(data);
});
