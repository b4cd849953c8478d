//! `counterfoil demo` from beginning to end, as a stranger runs it first.

use crate::common::program;

#[test]
fn the_demo_answers_proves_and_refuses_a_flipped_bit() {
    let output = program().arg("demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in [
        "[1/4] serve",
        "[2/4] send",
        "[3/4] settle",
        "[4/4] ask",
        "release-ledger-xsjlx",
        "51a7e0f2c3b4",
        "svid_expired_token_not_rotated",
        "application_error_not_mtls",
        "FIXED BY",
        "ci/renew-certs-5w8x5",
        "not in this version",
        "(exit 1)",
        "REFUTED",
        "VERIFIED",
    ] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}
