//! Any bytes as a datagram of sock_diag: reading them must neither panic nor loop.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tidewait_observe::sock_diag::survives(bytes);
});
