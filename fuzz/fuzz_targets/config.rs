#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hah_vault_fuzz::support::fuzz_texts::config(data));
