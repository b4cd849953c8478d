//! Trust bundles, clocks and alerts: the certificate was shown, and who checked it did not accept it.

use model::{
    Time,
    credential::CredentialEvent,
    edges::Direction,
    handshake::Side,
    identity::SourceKind,
    record::{Cause, Standing},
    time::SECOND,
};

use crate::{
    finding::{Case, Finding},
    index::Issue,
    topology::host,
    traffic::Shown,
};

/// Codes 2, 18 to 21 and 27: the complaining side does not know who signed the certificate.
///
/// Which side is behind follows from who complains. That the signer is ours, and not a stranger's, needs the peer to be
/// one of the mesh.
pub(crate) fn bundle(case: &Case<'_>) -> Finding {
    let (store, episode) = (case.store, case.episode);
    let (word, peer) = match episode.key.side {
        Side::Server => (Cause::BundleServerSide, case.caller()),
        Side::Client => (Cause::BundleClientSide, episode.socket()),
    };
    let known = peer.and_then(|peer| store.identity_at(peer, episode.first));
    let Some(known) = known else {
        return Finding::undetermined().lacks(
            "whether the certificate is of this mesh",
            "access log of the called side with TLS variables, or SPIRE's log",
        );
    };
    let mut finding = Finding::consistent(word);
    for entry in &known.entries {
        finding = finding.context(episode.first, *entry, format!("the peer is {} ({})", known.spiffe_id, known.by));
    }
    let from = episode.first.plus_seconds(-case.config.reach_seconds);
    let rotation = store
        .stepping(SourceKind::Spire)
        .filter_map(|source| {
            store.last_step(source, episode.first, |step| step.event == CredentialEvent::AuthorityChanged)
        })
        .filter(|(at, ..)| *at >= from)
        .max_by_key(|(at, entry, _)| (*at, *entry));
    let changed = issuer_changed(case, peer.unwrap_or_default());
    if let Some((at, entry, step)) = rotation {
        finding = finding.supports(at, entry, step.message.lossy().chars().take(160).collect::<String>());
    }
    if let Some((at, entry)) = changed {
        finding = finding.supports(at, entry, "the peer's certificates have a new issuer");
    }
    match (rotation, changed) {
        // Authorities change every day: it counts when the certificates that were presented come of the new one.
        (Some(_), Some(_)) => finding.cause.standing = Standing::Established,
        (Some(_), None) => {
            finding = finding.lacks("that the peer's certificates have a new issuer", "issuers in access lines");
        }
        (None, Some(_)) => {}
        (None, None) => {
            finding =
                finding.lacks("a change of the certificate authority", "SPIRE server log, or issuers in access lines");
        }
    }
    let other = if word == Cause::BundleServerSide { Cause::BundleClientSide } else { Cause::BundleServerSide };
    finding =
        finding.rules_out(other, format!("it is the {} that complains", case.episode.key.side.as_str()), Vec::new());
    finding.identity = Some(known);
    finding
}

/// A certificate shown from that address during the episode that another issuer signed than the one before.
fn issuer_changed(case: &Case<'_>, peer: &str) -> Option<(Time, u64)> {
    let shown = case.store.shown.get(host(peer))?;
    let during = |shown: &&Shown| case.episode.overlaps(shown.first, shown.last, 1) && shown.issuer.is_some();
    let now = shown.0.values().filter(during).max_by_key(|shown| (shown.first, shown.entry))?;
    let before =
        shown.0.values().filter(|old| old.last < now.first && old.issuer.is_some()).max_by_key(|old| old.last)?;
    (before.issuer != now.issuer).then_some((now.first, now.entry))
}

/// Code 9: the certificate's NotBefore lies in the future, by the clock of who checks it.
///
/// A certificate that SPIRE issued is back-dated by some seconds, so an honest clock never sees it too early: the
/// checking side is behind. Otherwise the clocks of both ends must agree before the certificate itself is to blame.
pub(crate) fn not_yet_valid(case: &Case<'_>) -> Finding {
    let (store, episode) = (case.store, case.episode);
    let undecided = || {
        Finding::undetermined()
            .lacks("NotBefore of the certificate", "access log of the called side with $ssl_client_v_start")
            .lacks("a second clock to compare with", "access log of the calling side, or SPIRE's log")
    };
    if episode.key.side == Side::Client {
        return undecided();
    }
    let Some(caller) = case.caller() else { return undecided() };
    // Clocks differ by less than this in any case of interest.
    let near = 3600;
    let shown = store.shown.get(host(caller)).into_iter().flat_map(|list| list.0.values());
    let mut during: Vec<&Shown> = shown.filter(|shown| episode.overlaps(shown.first, shown.last, 5)).collect();
    during.sort_by_key(|shown| (shown.first, shown.entry));
    for shown in &during {
        if let Some((at, entry, standing)) = issued(case, shown).filter(|(at, ..)| *at > shown.first.plus_seconds(2)) {
            let early = (at - shown.first) / SECOND;
            return Finding::new(Cause::ClockSkew, standing)
                .supports(
                    shown.first,
                    shown.entry,
                    format!("shown {early} s before it was issued, by the checking side's clock"),
                )
                .supports(at, entry, "SPIRE issued it then, and back-dated it: by its clock it is valid")
                .rules_out(Cause::NotYetValid, "the certificate was valid when it was issued", vec![entry]);
        }
    }
    let future = |shown: &&&Shown| shown.not_before.is_some_and(|begin| begin > shown.first);
    let Some(shown) = during.iter().find(future) else { return undecided() };
    let begin = shown.not_before.unwrap_or(shown.first);
    let ahead = (begin - shown.first) / SECOND;
    let says = format!("the certificate is valid from {begin}, {ahead} s after it was shown");
    let caller_saw = store
        .calls
        .iter()
        .filter(|((source, direction, _), _)| {
            *direction == Direction::Out
                && (store.addresses(source, episode.first).contains(caller)
                    || store.endpoint_of(source, episode.first).name == case.from.name)
        })
        .filter_map(|(_, calls)| calls.statuses.get(&400))
        .filter(|(first, last)| first.0 - episode.first.0 < near * SECOND && episode.first.0 - last.0 < near * SECOND)
        .min_by_key(|(first, _)| (*first - episode.first).abs());
    match caller_saw {
        Some((first, _)) if (*first - episode.first).abs() <= 3 * SECOND => Finding::consistent(Cause::NotYetValid)
            .supports(shown.first, shown.entry, says)
            .rules_out(Cause::ClockSkew, format!("the caller's clock agrees: refused at {first}"), Vec::new())
            .lacks("who issued it", "no line of SPIRE fits this certificate"),
        Some((first, _)) => Finding::undetermined()
            .context(shown.first, shown.entry, says)
            .lacks(format!("why the caller's clock says {first}"), "a time that both sides share"),
        None => undecided(),
    }
}

/// When SPIRE issued the certificate: by its serial, or by its end (forward join), and how well that stands.
fn issued(case: &Case<'_>, shown: &Shown) -> Option<(Time, u64, Standing)> {
    let store = case.store;
    let whose = store.whose(shown)?;
    if let Some(signed) = shown.serial.as_deref().and_then(|serial| store.signed(serial)) {
        return Some((signed.at, signed.entry, Standing::Established));
    }
    let life = store.lifetime(&whose.spiffe_id)?;
    let end = shown.not_after?;
    let ends = |issue: &&Issue| ((end - issue.at) - life.nanos).abs() <= 2 * SECOND;
    let hit = store.issues(&whose.spiffe_id).into_iter().find(ends)?;
    Some((hit.at, hit.entry, if life.own { Standing::Established } else { Standing::Consistent }))
}

/// The peer sent an alert: what it says about itself or us, as far as it can be believed.
pub(crate) fn alert(case: &Case<'_>) -> Finding {
    let side = case.episode.key.side;
    let refused = |what: &str| {
        Finding::undetermined()
            .lacks(format!("why the peer refused ({what})"), "log of the peer: peers choose alerts freely")
    };
    match (case.episode.key.alert, side) {
        // Peers choose alerts freely: none of them is proof.
        (Some(70), _) => Finding::consistent(Cause::ProtocolMismatch)
            .lacks("which versions both sides offer", "NGINX configuration of both sides"),
        (Some(71), _) => Finding::consistent(Cause::NoSharedCipher),
        (Some(116), Side::Client) => Finding::consistent(Cause::NoCertificateConfiguration)
            .lacks("whether a certificate is configured for this upstream", "NGINX configuration of the calling side"),
        (Some(48), Side::Server) => {
            Finding::consistent(Cause::BundleClientSide).lacks("the client's bundle", "log of the client")
        }
        (Some(48), Side::Client) => {
            Finding::consistent(Cause::BundleServerSide).lacks("the server's bundle", "log of the server")
        }
        (Some(40), _) => refused("handshake failure"),
        (Some(42), _) => refused("bad certificate"),
        (Some(45), _) => refused("it says expired"),
        (Some(46), _) => refused("certificate unknown"),
        (Some(n), _) => refused(&format!("alert {n}")),
        (None, _) => refused("no alert number"),
    }
}
