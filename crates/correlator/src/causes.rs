//! Why calls failed: a table from what was seen to the rule that decides.
//!
//! The rules share one discipline, tested as a property: **taking a fact away never turns one definite cause into
//! another**. So a definite cause needs facts that speak for it, a fact that speaks for a rival makes the verdict
//! `undetermined` unless other facts contradict the rival, and absence counts only in a source that is known to be
//! complete. `docs/causes.md` says in words what each needs.

mod access;
mod calls;
mod expired;
mod trust;

use model::{
    handshake::{Failure, Side},
    record::{Cause, Standing},
};

use crate::{
    episode::What,
    finding::{Case, Finding},
};

/// The verdict of one episode.
pub(crate) fn judge(case: &Case<'_>) -> Finding {
    let key = &case.episode.key;
    let finding = match key.what {
        What::AfterExpiry => access::kept_alive(case),
        What::Answer(status, answered) => access::answer(case, status, answered),
        What::Line(failure) => line(case, failure),
    };
    weakened(case, finding)
}

fn line(case: &Case<'_>, failure: Failure) -> Finding {
    let key = &case.episode.key;
    match (key.side, failure) {
        (_, Failure::VerifyFailed) => match key.code {
            Some(10) => expired::expired(case),
            Some(9) => trust::not_yet_valid(case),
            Some(2 | 18..=21 | 27) => trust::bundle(case),
            Some(62) => Finding::established(Cause::NameMismatch),
            _ => Finding::undetermined().lacks("a rule for this verify code", "Counterfoil"),
        },
        (Side::Client, Failure::NameMismatch) => Finding::established(Cause::NameMismatch).rules_out(
            Cause::BundleClientSide,
            "the chain verified before the name was compared",
            Vec::new(),
        ),
        (Side::Server, Failure::NoCertificate) => calls::no_certificate(case),
        (Side::Server, Failure::PlainHttp) => Finding::established(Cause::PlaintextToTls),
        (Side::Client, Failure::NotTls) => Finding::established(Cause::UpstreamPlaintext).rules_out(
            Cause::ProtocolMismatch,
            "the answer is no TLS record of any version",
            Vec::new(),
        ),
        (_, Failure::NoCommonProtocol) => Finding::established(Cause::ProtocolMismatch),
        (_, Failure::NoCommonCipher) => Finding::established(Cause::NoSharedCipher),
        (_, Failure::PeerAlert) => trust::alert(case),
        (
            Side::Server,
            Failure::NotHttp | Failure::NotTls | Failure::ClosedDuringHandshake | Failure::HandshakeTimedOut,
        ) => calls::scan(case),
        (Side::Server, Failure::ClosedBeforeRequest) => calls::closed_before_request(case),
        (Side::Client, Failure::HandshakeTimedOut) => Finding::established(Cause::UpstreamSilent).rules_out(
            Cause::UpstreamDown,
            "the connection was accepted",
            Vec::new(),
        ),
        (Side::Client, Failure::ConnectFailed | Failure::UpstreamTimedOut | Failure::UpstreamClosed) => {
            calls::upstream(case, failure)
        }
        _ => Finding::undetermined().lacks("the other side's reason", "error log of the other side at level info"),
    }
}

/// Lines that a client may have forged, and evidence that was thrown away, carry less.
fn weakened(case: &Case<'_>, mut finding: Finding) -> Finding {
    if case.episode.tainted && finding.cause.standing == Standing::Established {
        finding.cause.standing = Standing::Consistent;
        finding = finding.lacks("lines without a field that a client may have forged", "the same source");
    }
    if case
        .store
        .forgotten
        .is_some_and(|forgotten| forgotten >= case.episode.first.plus_seconds(-case.config.reach_seconds / 24))
    {
        finding = finding.lacks("facts that were dropped to keep within the limits", "limit");
        if finding.cause.standing == Standing::Established {
            finding.cause.standing = Standing::Consistent;
        }
    }
    finding
}
