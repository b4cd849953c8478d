//! What each source has shown so far: the ground of `counterfoil doctor`.
//!
//! A fold over entries like the correlator's, kept with it and rebuilt with it. It concludes nothing about causes; it
//! answers "what could this source show, and which line changes that".

use std::collections::BTreeMap;

use model::{
    Entry, Fact, SourceId, Time,
    edges::{EdgeRow, Edges},
    identity::{Declared, SourceKind},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most sources that are told apart; entries of further ones are counted in [`Sources::beyond`].
pub const MAX_SOURCES: usize = 10_000;

/// All sources seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    #[serde(with = "as_list")]
    by_id: BTreeMap<SourceId, Seen>,
    /// Entries of sources beyond [`MAX_SOURCES`].
    pub beyond: u64,
}

/// What one source has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The newest declaration.
    pub declared: Declared,
    /// When we last received something.
    pub last_observed: Time,
    /// Newest time in its lines or events.
    pub newest: Option<Time>,
    /// Entries.
    pub entries: u64,
    /// Entries kept and not understood.
    pub opaque: u64,
    /// Lines per level.
    pub levels: BTreeMap<String, u64>,
    /// Complete up to here, when anybody vouched for it.
    pub complete_to: Option<Time>,
    /// Bytes behind, for followed files.
    pub behind: Option<u64>,
    /// Rows with TLS variables.
    pub tls_rows: u64,
    /// Rows without.
    pub plain_rows: u64,
    /// Facts with a certificate serial.
    pub serials: u64,
    /// Runs seen in a state that only Tekton 1.12 and newer sends.
    pub queued: u64,
    /// Lines.
    #[serde(default)]
    pub lines: u64,
    /// The newest gap, in words.
    #[serde(default)]
    pub gap: Option<String>,
}

impl Sources {
    /// Folds one entry.
    pub fn apply(&mut self, entry: &Entry) {
        if let Fact::Heartbeat(beat) = &entry.body.fact {
            for mark in &beat.sources {
                if let Some(seen) = self.by_id.get_mut(&mark.source) {
                    seen.complete_to = seen.complete_to.max(mark.complete_to);
                    seen.behind = mark.behind;
                }
            }
            return;
        }
        if entry.body.source.kind == SourceKind::Counterfoil {
            return;
        }
        if !self.by_id.contains_key(&entry.body.source) && self.by_id.len() >= MAX_SOURCES {
            self.beyond += 1;
            return;
        }
        let seen = self.by_id.entry(entry.body.source.clone()).or_default();
        seen.entries += 1;
        seen.last_observed = seen.last_observed.max(entry.body.observed_at);
        if !entry.body.declared.is_empty() {
            seen.declared = entry.body.declared.clone();
        }
        if entry.body.source.kind == SourceKind::CloudEvents && matches!(entry.body.fact, Fact::Opaque(_)) {
            seen.opaque += 1; // of lines, the account of their append counts
        }
        seen.fact(&entry.body.fact);
    }

    /// Every source with what it showed, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SourceId, &Seen)> {
        self.by_id.iter()
    }
}

impl Seen {
    fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Import(import) => {
                for (level, n) in &import.levels {
                    *self.levels.entry(level.clone()).or_default() += n;
                }
                self.newest = self.newest.max(import.newest);
                self.complete_to = self.complete_to.max(import.complete_to);
                self.opaque += import.opaque;
                self.lines += import.lines;
            }
            Fact::Handshake(handshake) => self.newest = self.newest.max(Some(handshake.occurred.at)),
            Fact::Credential(credential) => {
                self.newest = self.newest.max(Some(credential.occurred.at));
                self.serials += u64::from(credential.serial.is_some());
            }
            Fact::Edges(Edges { rows }) => rows.iter().for_each(|row| self.row(row)),
            Fact::Run(run) => {
                self.newest = self.newest.max(run.event.time);
                self.queued += u64::from(run.state == model::run::RunState::Queued);
            }
            Fact::Trigger(trigger) => self.newest = self.newest.max(trigger.event.time),
            Fact::Action(action) => self.newest = self.newest.max(Some(action.occurred.at)),
            Fact::Workload(workload) => self.newest = self.newest.max(Some(workload.occurred.at)),
            Fact::Gap(gap) => self.gap = Some(format!("{}: {}", gap.what, gap.detail)),
            _ => {}
        }
    }

    fn row(&mut self, row: &EdgeRow) {
        self.newest = self.newest.max(Some(row.last));
        match &row.tls {
            Some(tls) => {
                self.tls_rows += row.requests;
                self.serials += u64::from(tls.serial.is_some());
            }
            None => self.plain_rows += row.requests,
        }
    }

    fn saw_level(&self, levels: &[&str]) -> bool {
        levels.iter().any(|level| self.levels.contains_key(*level))
    }
}

/// One line of `counterfoil doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// The source.
    pub source: SourceId,
    /// When we last received something from it.
    pub last_observed: Time,
    /// Newest time in what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// Complete up to here; absent when nobody vouches for it (pushed sources).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_to: Option<Time>,
    /// Bytes behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// Entries.
    pub entries: u64,
    /// Not understood.
    pub opaque: u64,
    /// What it can show.
    pub can_show: Vec<String>,
    /// What it cannot show, each with the one line that changes it.
    pub cannot_show: Vec<Blind>,
}

/// Something that a source cannot show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blind {
    /// What.
    pub what: String,
    /// The line that changes it.
    pub fix: String,
}

/// What a source can and cannot show, from what it and the others of its cluster have shown. A thing that it never
/// showed and could have is not reported as impossible: only what its settings exclude is.
pub fn coverage(all: &Sources, source: &SourceId, seen: &Seen) -> Coverage {
    let (mut can, mut cannot) = (Vec::new(), Vec::new());
    let blind = |what: &str, fix: &str| Blind { what: what.into(), fix: fix.into() };
    let others = || all.iter().filter(|(other, _)| other.cluster == source.cluster);
    if let Some(gap) = &seen.gap {
        cannot.push(blind(&format!("a gap: {gap}"), "read what is missing with `counterfoil import`"));
    }
    if seen.lines > 0 && seen.opaque * 2 > seen.lines {
        let what = format!("{} of {} lines: they are no {} lines", seen.opaque, seen.lines, source.kind);
        cannot.push(blind(&what, "give the format that `counterfoil explain FILE` detects"));
    }
    if source.name == "unnamed" {
        cannot.push(blind("which source this is", "?source=NAME was missing or misspelled"));
    }
    match source.kind {
        SourceKind::NginxError => {
            can.push("failed calls to others".to_owned());
            if seen.saw_level(&["info", "notice", "debug"]) {
                can.push("loads of certificates".into());
            }
            if seen.saw_level(&["info", "debug"]) {
                can.push("refused callers".into());
            } else {
                cannot.push(blind("ALL handshakes that it refused (no line at level info seen)", "error_log … info;"));
            }
        }
        SourceKind::NginxAccess => {
            can.push("edges".to_owned());
            if seen.tls_rows > 0 {
                can.push("callers' verification".into());
            } else {
                cannot.push(blind("who called (no TLS variable in the format)", "log_format: docs/sources/nginx.md"));
            }
            if seen.tls_rows > 0 && seen.serials == 0 {
                cannot.push(blind("callers' serials", "add $ssl_client_serial to the log_format"));
            }
        }
        SourceKind::Spire => {
            can.extend(["renewals".to_owned(), "refusals".to_owned()]);
            if seen.serials > 0 {
                can.push("serials".into());
            } else if !others().any(|(other, seen)| other.kind == SourceKind::Spire && seen.serials > 0) {
                cannot.push(blind("serials (server line `Signed X509 SVID`)", "SPIRE server: log_level = \"DEBUG\""));
            }
        }
        SourceKind::SpiffeHelper => can.push("deliveries to disk".into()),
        SourceKind::CloudEvents => {
            can.push(if seen.queued > 0 { "runs, triggers (Tekton >= 1.12)" } else { "runs, triggers" }.into());
            if !others().any(|(other, _)| other.kind == SourceKind::K8sAudit) {
                cannot.push(blind("who started a run", "send the Kubernetes audit log: /logs/k8s-audit"));
            }
        }
        SourceKind::K8sObjects => can.push("pods, addresses, images at the moments of its lists".into()),
        SourceKind::K8sAudit => can.push("who changed what, by which pod".into()),
        SourceKind::Counterfoil | SourceKind::Unknown => {}
    }
    Coverage {
        source: source.clone(),
        last_observed: seen.last_observed,
        newest: seen.newest,
        complete_to: seen.complete_to,
        behind: seen.behind,
        entries: seen.entries,
        opaque: seen.opaque,
        can_show: can,
        cannot_show: cannot,
    }
}

/// JSON objects have string keys only, so the map is written as a list of pairs.
mod as_list {
    use std::collections::BTreeMap;

    use model::SourceId;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Seen;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<SourceId, Seen>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<SourceId, Seen>, D::Error> {
        Ok(Vec::<(SourceId, Seen)>::deserialize(d)?.into_iter().collect())
    }
}
