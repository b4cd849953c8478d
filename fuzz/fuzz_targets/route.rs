//! Paths of intake.
#![no_main]

// Alone, so that the fuzzer does not need the whole program.
#[path = "../../crates/counterfoil/src/route.rs"]
mod route;

libfuzzer_sys::fuzz_target!(|path: &str| {
    // As HTTP has them.
    if !path.starts_with('/') {
        return;
    }
    let read = route::route(path);
    if let Some(cluster) = read.cluster {
        assert!(route::is_name(cluster));
    }
    let shown = route::shown(path);
    if let Some(token) = read.token.filter(|token| token.len() > "[token]".len() && path.matches(token).count() == 1) {
        assert!(!shown.contains(token), "{shown}");
    }
});
