#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tautline::fuzzing::http_answer(data));
