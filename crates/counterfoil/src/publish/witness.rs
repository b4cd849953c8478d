//! Asking witnesses for cosignatures (C2SP tlog-witness).

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use http::Request;
use ledger::{Checkpoint, Disk, Ledger, Policy, Vkey, WitnessKey, add_checkpoint, with_cosignatures};

use super::{
    Latest, Trouble,
    http::Http,
    outside::{Kind, Outside},
    pace::Pace,
};
use crate::config;

/// Answers 409 in a row that are believed: one tells the size that the witness has, the next that somebody else was faster.
const CORRECTIONS: usize = 3;

/// The witnesses of a policy.
pub struct Witnesses {
    policy: Policy,
    clients: Vec<Client>,
    /// Where the newest cosigned checkpoint is kept.
    path: PathBuf,
    /// The checkpoint that is being cosigned, with the cosignatures so far.
    note: Option<Latest>,
    /// The quorum's line in `outside`.
    line: usize,
}

/// One witness.
struct Client {
    key: WitnessKey,
    url: String,
    /// Size that the witness has, as far as we know.
    old: u64,
    pace: Pace,
    line: usize,
}

impl Witnesses {
    /// The witnesses of this policy that have an address.
    pub fn new(policy: Policy, config: &config::publish::Witness, path: PathBuf, outside: &Outside) -> Self {
        let late = Duration::from_secs(config.alert_after_seconds);
        let line = outside.add(Kind::Quorum, "policy", late);
        let every = Duration::from_secs(config.every_seconds);
        let with_url = policy.witnesses().iter().filter_map(|witness| Some((witness, witness.url.as_deref()?)));
        let clients: Vec<Client> = with_url
            .map(|(witness, url)| Client {
                key: witness.key.clone(),
                url: format!("{}/add-checkpoint", url.trim_end_matches('/')),
                old: 0,
                pace: Pace::new(every),
                line: outside.add(Kind::Witness, &witness.name, late),
            })
            .collect();
        if clients.is_empty() {
            tracing::warn!("the policy names no witness with an address: nobody can be asked for a cosignature");
        }
        Self { policy, clients, path, note: None, line }
    }

    /// Begins where the last life ended, if the checkpoint that it kept is one of this log and has the quorum still.
    pub fn open(&mut self, ledger: &Ledger, outside: &Outside) {
        let keys: Vec<Vkey> = ledger.vkeys().iter().filter_map(|key| key.parse().ok()).collect();
        if !self.policy.logs().is_empty() && !self.policy.logs().iter().any(|log| keys.contains(log)) {
            let keys = ledger.vkeys().join(", ");
            tracing::warn!(%keys, "the policy names other logs and not this one: nobody who keeps it can verify this ledger");
        }
        let Ok(note) = std::fs::read_to_string(&self.path) else { return };
        let of_ours = Checkpoint::verify(&note, &keys).is_ok_and(|checkpoint| checkpoint.size <= ledger.size());
        if of_ours && self.policy.check(&note).is_ok_and(|found| found.quorum) {
            if let Some(latest) = Latest::of(note.into()) {
                outside.keep_cosigned(self.line, latest);
            }
        } else {
            tracing::warn!(path = %self.path.display(), "the cosigned checkpoint is not one that the policy accepts for this log");
        }
    }

    /// Asks everybody whose turn it is, and keeps the checkpoint once it has the quorum.
    pub fn round(
        &mut self,
        http: &Http,
        ledger: &Ledger,
        latest: &Latest,
        outside: &Outside,
        ending: bool,
        patience: &dyn Fn() -> Duration,
    ) {
        let mut due: Vec<&mut Client> = self
            .clients
            .iter_mut()
            .filter(|client| {
                outside.size(client.line) < Some(latest.size) && client.pace.is_due(Instant::now(), ending)
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let mut note = self.note.take().filter(|note| note.size == latest.size).unwrap_or_else(|| latest.clone());
        let mut more = false;
        for client in &mut due {
            if patience().is_zero() {
                break;
            }
            let outcome = client.ask(http, ledger, latest, patience()).and_then(|answer| {
                with_cosignatures(&note.note, &answer, &client.key)
                    .map_err(|error| Trouble::new("bad_cosignature", error.to_string()))
            });
            client.pace.tried(Instant::now(), outcome.is_ok());
            let outcome = outcome.map(|whole| {
                note.note = whole.into();
                more = true;
            });
            outside.tried(client.line, latest.size, outcome);
        }
        self.note = Some(note.clone());
        if more {
            self.keep(note, outside);
        }
    }

    /// A larger checkpoint of the same log is kept already.
    fn has_newer(&self, note: &Latest) -> bool {
        let kept = std::fs::read_to_string(&self.path).ok().and_then(|kept| Checkpoint::parse(&kept).ok());
        let new = Checkpoint::parse(&note.note).ok();
        kept.zip(new).is_some_and(|(kept, new)| kept.origin == new.origin && kept.size > new.size)
    }

    fn keep(&self, note: Latest, outside: &Outside) {
        match self.policy.check(&note.note) {
            // A process that took over may have kept a larger one while this one ended.
            Ok(found) if found.quorum && !found.by.is_empty() && !self.has_newer(&note) => {
                let kept = Disk::Real.write_durably(&self.path, note.note.as_bytes());
                match kept {
                    Ok(()) => outside.keep_cosigned(self.line, note),
                    Err(error) => outside.tried(self.line, note.size, Err(Trouble::new("disk", error.to_string()))),
                }
            }
            // Too few so far: who is missing is said in his own line.
            Ok(_) => {}
            // Every line was checked when it came.
            Err(error) => outside.tried(self.line, note.size, Err(Trouble::new("bad_cosignature", error.to_string()))),
        }
    }
}

impl Client {
    /// Gives the witness's answer: signature lines, not verified.
    fn ask(&mut self, http: &Http, ledger: &Ledger, latest: &Latest, patience: Duration) -> Result<String, Trouble> {
        for _ in 0..CORRECTIONS {
            if self.old > latest.size {
                // Either this ledger was rolled back, or somebody else signs with its key.
                let detail = format!("the witness has cosigned {} entries, this ledger has {}", self.old, latest.size);
                return Err(Trouble::new("ahead", detail));
            }
            let proof = ledger
                .consistency_proof(self.old, latest.size)
                .map_err(|error| Trouble::new("no_proof", error.to_string()))?;
            let body = add_checkpoint(self.old, &proof, &latest.note).into_bytes();
            let request = Request::post(&self.url).header("Content-Type", "text/plain; charset=utf-8").body(body);
            let request = request.map_err(|error| Trouble::new("bad_address", error.to_string()))?;
            let answer = http.send(request, patience)?;
            match answer.status {
                200 => {
                    self.old = latest.size;
                    return answer.text().map(str::to_owned);
                }
                409 if answer.header("Content-Type") == Some("text/x.tlog.size") => {
                    let size = answer.text()?.strip_suffix('\n').and_then(|size| size.parse().ok());
                    let size = size.ok_or_else(|| Trouble::new("bad_answer", "409 without a size"))?;
                    if size == self.old {
                        return Err(Trouble::new(
                            "conflict",
                            format!("it has {size} entries and other ones than this ledger"),
                        ));
                    }
                    self.old = size;
                }
                409 => {
                    let detail = format!("it has other entries than this ledger at size {}", latest.size);
                    return Err(Trouble::new("conflict", detail));
                }
                403 => {
                    return Err(Trouble::new("unknown_key", "the witness knows this log, but not by its present key"));
                }
                404 => {
                    return Err(Trouble::new(
                        "unknown_log",
                        "the witness does not know this log: give it the log's key",
                    ));
                }
                422 => {
                    return Err(Trouble::new(
                        "conflict",
                        "the witness says that the tree does not contain the one that it has",
                    ));
                }
                _ => return Err(answer.refused()),
            }
        }
        Err(Trouble::new("busy", "the witness names another size each time: somebody else shows it checkpoints"))
    }
}
