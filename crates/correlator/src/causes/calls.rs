//! Failures before and beside certificates: none presented, scans, connections refused or not answered.

use model::{handshake::Failure, identity::SourceKind, record::Cause};

use crate::{
    finding::{Case, Finding, named},
    topology::Upstream,
};

/// `client sent no required SSL certificate`: a workload that has one and does not present it, or a stranger.
pub(crate) fn no_certificate(case: &Case<'_>) -> Finding {
    if let Some((at, entry)) = case.caller_shown() {
        return Finding::established(Cause::NoCertificateConfiguration)
            .supports(at, entry, format!("{} has shown a certificate that verified", case.episode.key.peer))
            .rules_out(Cause::NoCertificateOutsider, "the same address has an identity of this mesh", vec![entry]);
    }
    let identity = case.caller().and_then(|caller| case.store.identity_at(caller, case.episode.first));
    if let Some(known) = identity {
        let mut finding = Finding::consistent(Cause::NoCertificateConfiguration)
            .lacks("a handshake of it that succeeded", "access log of the called side with TLS variables");
        for entry in &known.entries {
            finding = finding.supports(
                case.episode.first,
                *entry,
                format!("the caller is {} ({})", known.spiffe_id, known.by),
            );
        }
        finding.identity = Some(known);
        return finding;
    }
    if !case.access_log_is_whole() {
        return Finding::undetermined().lacks(
            format!("whether {} ever showed a certificate", case.episode.key.peer),
            "access log of the called side with TLS variables",
        );
    }
    let mut finding = Finding::consistent(Cause::NoCertificateOutsider).rules_out(
        Cause::NoCertificateConfiguration,
        "the address never showed a certificate in a log that is whole",
        Vec::new(),
    );
    for log in case.store.siblings(&case.episode.key.source, SourceKind::NginxAccess) {
        finding = finding.asking(&log);
    }
    finding
}

/// No HTTP, no TLS, or nothing at all from an address that is no known caller.
pub(crate) fn scan(case: &Case<'_>) -> Finding {
    match case.caller_shown() {
        None => Finding::consistent(Cause::PortScan)
            .lacks("what the peer wanted", "nothing that NGINX logs")
            .rules_out(Cause::CallerRefused, "the peer is no known caller", Vec::new()),
        Some((at, entry)) => Finding::undetermined()
            .context(at, entry, "the peer is a caller that has shown a certificate")
            .lacks("why it left during the handshake", format!("error log of {}", case.from.name)),
    }
}

/// The handshake was done, then the caller left: one that refuses our certificate does that without a word.
pub(crate) fn closed_before_request(case: &Case<'_>) -> Finding {
    match case.caller_shown() {
        Some((at, entry)) => Finding::consistent(Cause::CallerRefused)
            .supports(at, entry, "the peer is a caller that has shown a certificate")
            .lacks("why it refused", format!("error log of {}", case.from.name)),
        None => Finding::undetermined()
            .lacks("whether the peer is a caller of this mesh", "access log of the called side with TLS variables"),
    }
}

/// The upstream was not reached, closed, or did not answer: no handshake failed.
pub(crate) fn upstream(case: &Case<'_>, failure: Failure) -> Finding {
    let connecting = case.episode.doing.iter().any(|doing| doing.starts_with("connecting"));
    match (case.store.upstream(case.episode), failure) {
        (Some(Upstream::OwnApplication), Failure::ConnectFailed) => Finding::established(Cause::ApplicationDown)
            .rules_out(Cause::UpstreamDown, "the sidecar itself answered; its application did not", Vec::new()),
        (Some(Upstream::Peer), Failure::ConnectFailed) => Finding::established(Cause::UpstreamDown).rules_out(
            Cause::ApplicationDown,
            "the connection to the peer's sidecar was refused",
            Vec::new(),
        ),
        (Some(Upstream::Peer), Failure::UpstreamTimedOut) if connecting => Finding::consistent(Cause::UpstreamDown)
            .lacks("whether the peer's address answers anybody", "log of the called side"),
        (Some(Upstream::OwnApplication), Failure::UpstreamTimedOut) if connecting => {
            Finding::consistent(Cause::ApplicationDown).lacks("whether the application runs", "log of the application")
        }
        (Some(_), Failure::UpstreamTimedOut) => Finding::consistent(Cause::ApplicationTimeout)
            .rules_out(Cause::UpstreamSilent, "the connection was made; only the answer is missing", Vec::new())
            .lacks("what the application was doing", "log of the application"),
        (Some(Upstream::OwnApplication), Failure::UpstreamClosed) => Finding::consistent(Cause::ApplicationDown)
            .lacks("why it closed without an answer", "log of the application"),
        (Some(Upstream::Peer), Failure::UpstreamClosed) => Finding::undetermined()
            .lacks("why the peer closed without an answer", format!("error log of {} at level info", case.to.name)),
        _ => Finding::undetermined().lacks(
            format!("whether {} is the own application or a peer", case.episode.key.peer),
            format!("access log of {}", named(&case.episode.key.source)),
        ),
    }
}
