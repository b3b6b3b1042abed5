//! A timestamp: a TimeStampResp, DER.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = larder_core::keyless::Token::parse(data);
});
