//! `source.blind`: what a source cannot show, with the one line that changes it. "No failures" is never said of it.

use model::{
    SourceId, Time,
    identity::SourceKind,
    record::{BlindDetail, Detail, Evidence, RecordKind, Role},
};

use crate::{
    book::Draft,
    episode::{record_id, source_key},
    handshakes::World,
};

/// A way to be blind: a fixed word for the id, what cannot be seen, what to do.
struct Blind {
    word: &'static str,
    cannot_show: String,
    fix: &'static str,
    is: bool,
}

impl World<'_> {
    /// One draft per way in which the source could be blind, and whether it is.
    pub(crate) fn blind(&self, source: &SourceId) -> Vec<(Draft, bool)> {
        let Some(known) = self.store.sources.get(source) else { return Vec::new() };
        let lines: u64 = known.levels.values().sum();
        let mut levels: Vec<&str> = known.levels.keys().map(String::as_str).collect();
        levels.sort_unstable();
        let seen = levels.join(", ");
        let shows = |level: &[&str]| level.iter().any(|level| known.levels.contains_key(*level));
        let ways = match source.kind {
            SourceKind::NginxError => vec![Blind {
                word: "handshakes",
                cannot_show: format!("failed handshakes of callers: NOT OBSERVABLE (levels seen: {seen})"),
                fix: "error_log /var/log/nginx/error.log info;",
                is: lines > 0 && !shows(&["info", "debug"]),
            }],
            SourceKind::NginxAccess => {
                let error_log = !self.store.siblings(source, SourceKind::NginxError).is_empty();
                vec![
                    Blind {
                        word: "certificates",
                        cannot_show: "whose certificate a caller showed: no TLS variable in the format".into(),
                        fix: "log_format with $ssl_client_verify $ssl_client_serial $ssl_client_v_start $ssl_client_v_end",
                        is: known.inbound && !known.tls_seen,
                    },
                    Blind {
                        word: "error-log",
                        cannot_show: "ALL failed handshakes: they leave no access line, and no error log of it is read"
                            .into(),
                        fix: "add the error log as a source: error_log /var/log/nginx/error.log info;",
                        is: known.inbound && !error_log,
                    },
                ]
            }
            SourceKind::Spire => {
                vec![Blind {
                    word: "serials",
                    cannot_show: format!("serials of certificates (levels seen: {seen})"),
                    fix: "log_level = \"DEBUG\" in the SPIRE server's configuration",
                    is: known.server && !known.signs && !shows(&["debug"]),
                }]
            }
            _ => Vec::new(),
        };
        // Only what hardly ever changes stands in it: a blind source is told once, not with every line.
        let at = known.oldest.unwrap_or_default();
        ways.into_iter().map(|blind| (draft(source, &blind, at, known.entry), blind.is)).collect()
    }
}

fn draft(source: &SourceId, blind: &Blind, from: Time, entry: Option<u64>) -> Draft {
    let says = "first entry of the source".into();
    Draft {
        id: record_id(&[b"source.blind", &source_key(source), blind.word.as_bytes()]),
        kind: RecordKind::SourceBlind,
        from,
        to: from,
        count: 1,
        summary: format!("{source} cannot show {}", blind.cannot_show),
        detail: Detail::Blind(BlindDetail {
            source: source.clone(),
            cannot_show: blind.cannot_show.clone(),
            fix: blind.fix.into(),
        }),
        cause: None,
        links: Vec::new(),
        evidence: entry
            .map(|entry| Evidence { entry, at: from, role: Role::Context, says, times: None })
            .into_iter()
            .collect(),
        missing: Vec::new(),
        settled: Some(Vec::new()),
    }
}
