#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| echo_fuzz::log_segment(data));

/// Without a fuzzer there is nothing to do here: the tests search a little.
#[cfg(not(fuzzing))]
fn main() {}
