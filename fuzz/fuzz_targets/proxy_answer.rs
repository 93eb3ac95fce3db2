#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tautline::fuzzing::proxy_answer(data));
