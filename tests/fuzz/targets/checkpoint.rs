//! A checkpoint of a transparency log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(note) = std::str::from_utf8(data) {
        let _ = larder_core::keyless::Checkpoint::parse(note);
    }
});
