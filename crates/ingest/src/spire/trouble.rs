//! Why SPIRE did not give a credential, read from the text of its error.

use model::credential::Trouble;

/// Reads an error. Wordings overlap (a stale bundle is reported as a connection error, a lost attestation as a refused
/// call), so the more telling ones are looked for first.
pub(crate) fn read(error: &str) -> Trouble {
    let error = error.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    // Kubernetes' token review, old and new: `Token has expired.`, `service account token has expired`,
    // `token is expired`.
    if says(&["token has expired", "token is expired", "token expired", "token has been expired"]) {
        Trouble::TokenExpired
    } else if says(&["certificate signed by unknown authority", "trust bandle and server", "trust bundle and server"]) {
        Trouble::BundleStale
    } else if says(&[
        "invalid bearer token",
        "token not authenticated",
        "unable to validate token",
        "not an allowed service account",
        "pod uid mismatch",
        "failed to get pod",
        "failed to get node",
        "join token does not exist",
        "token audience",
    ]) {
        Trouble::TokenRefused
    } else if says(&[
        "not re-attestable",
        "not reattestable",
        "authorization denied",
        "agent is not attested",
        "no longer valid",
        "agent is not active",
        "svid is not active",
        "agent banned",
        "is banned",
        "evicted",
        "permissiondenied",
    ]) {
        Trouble::AttestationLost
    } else if says(&["tls: expired certificate"]) {
        Trouble::OwnExpired
    } else if says(&["remote error: tls", "certificate has expired"]) {
        // Somebody answered, and one of the two does not like the other's certificate: not unreachable.
        Trouble::Other
    } else if says(&[
        "connection refused",
        "deadline exceeded",
        "no such host",
        "no such file or directory",
        "i/o timeout",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "transport is closing",
        "error reading from server",
        "transientfailure",
        "code = unavailable",
    ]) {
        Trouble::Unreachable
    } else if says(&["svid has already expired", "svid is expired"]) {
        Trouble::OwnExpired
    } else {
        Trouble::Other
    }
}
