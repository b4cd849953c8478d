//! Witnesses: cosigned checkpoints, and everything that a witness can say instead. The witness here has its own key, checks
//! signature and consistency, keeps what it has cosigned, and can be made to misbehave; the happy way is also walked with
//! somebody else's witness (tests/interop).

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{Checkpoint, Hash, Vkey, empty_root, verify_consistency};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    common::{Server, program},
    peer::{self, Answer, ledger, said},
};

/// What the witness remembers, and how it behaves.
struct State {
    size: u64,
    root: Hash,
    /// Statuses that it has answered.
    answered: Vec<u16>,
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// As the protocol says.
    True,
    /// Hangs up at once, as if nobody were there.
    Absent,
    /// Takes the request and never answers.
    Silent,
    /// Cosigns something else.
    Wrong,
    /// Answers this.
    Status(u16),
}

struct Witness {
    address: SocketAddr,
    vkey: String,
    state: Arc<Mutex<State>>,
}

const NAME: &str = "witness.example/it";

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn key() -> (Vec<u8>, [u8; 4]) {
    let key = [&[4][..], secret().verifying_key().as_bytes()].concat();
    let id = Sha256::new().chain_update(NAME).chain_update(b"\n").chain_update(&key).finalize();
    (key, id[..4].try_into().unwrap())
}

impl Witness {
    /// Knows one log.
    fn start(log: Vkey, mode: Mode) -> Self {
        let state = State { size: 0, root: empty_root(), answered: Vec::new(), mode };
        let state = Arc::new(Mutex::new(state));
        let (key, id) = key();
        let vkey = format!("{NAME}+{:08x}+{}", u32::from_be_bytes(id), BASE64_STANDARD.encode(key));
        let (home, shared) = (Arc::clone(&state), Arc::clone(&state));
        let address = peer::listen(
            move || home.lock().unwrap().mode != Mode::Absent,
            move |request| {
                assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/add-checkpoint"));
                judge(std::str::from_utf8(&request.body).unwrap(), &mut shared.lock().unwrap(), &log)
            },
        );
        Self { address, vkey, state }
    }

    fn policy(&self, folder: &Path) -> String {
        let path = folder.join("policy");
        let text = format!("witness w1 {} http://{}/\nquorum w1\n", self.vkey, self.address);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn answered(&self) -> Vec<u16> {
        self.state.lock().unwrap().answered.clone()
    }
}

/// The rules of C2SP tlog-witness, in its order.
fn judge(body: &str, state: &mut State, log: &Vkey) -> Option<Answer> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let (proof, note) = body.split_once("\n\n").unwrap();
    let mut lines = proof.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Hash> = lines.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
    let (status, kind, said) = match (state.mode, Checkpoint::verify(note, [log])) {
        (Mode::Silent | Mode::Absent, _) => return None,
        (Mode::Status(status), _) => (status, PLAIN, "no\n".to_owned()),
        _ if note.lines().next() != Some(log.name()) => (404, PLAIN, "unknown log\n".to_owned()),
        (_, Err(_)) => (403, PLAIN, "not signed by the log\n".to_owned()),
        (_, Ok(new)) if old > new.size => (400, PLAIN, "shrinks\n".to_owned()),
        _ if old != state.size => (409, "text/x.tlog.size", format!("{}\n", state.size)),
        (_, Ok(new)) if old == new.size && new.root != state.root => (409, PLAIN, "another root\n".to_owned()),
        (_, Ok(new)) if !verify_consistency(old, &state.root, new.size, &new.root, &proof) => {
            (422, PLAIN, "not consistent\n".to_owned())
        }
        (mode, Ok(new)) => {
            (state.size, state.root) = (new.size, new.root);
            let text = &note[..=note.find("\n\n").unwrap()];
            let time = 1_790_000_000u64 + new.size;
            let mut line = key().1.to_vec();
            line.extend(time.to_be_bytes());
            let message = if mode == Mode::Wrong {
                "something else".into()
            } else {
                format!("cosignature/v1\ntime {time}\n{text}")
            };
            line.extend(secret().sign(message.as_bytes()).to_bytes());
            // A line of a key that nobody knows, which has to be left out.
            let stranger = format!("\u{2014} stranger {}\n", BASE64_STANDARD.encode([7; 76]));
            (200, PLAIN, format!("{stranger}\u{2014} {NAME} {}\n", BASE64_STANDARD.encode(line)))
        }
    };
    state.answered.push(status);
    Some((status, kind, said.into_bytes()))
}

fn start(data: &Path, policy: &str) -> Server {
    let variables = [
        ("COUNTERFOIL_WITNESS_POLICY", policy),
        ("COUNTERFOIL_WITNESS_EVERY_SECONDS", "1"),
        ("COUNTERFOIL_WITNESS_ALERT_AFTER_SECONDS", "2"),
    ];
    Server::start_in(data, &[], &variables)
}

fn verify(data: &Path, policy: &str) -> (Option<i32>, Value) {
    let run = program().args(["verify", "-o", "json", "--policy", policy, "--data"]).arg(data).output().unwrap();
    (run.status.code(), serde_json::from_slice(&run.stdout).unwrap())
}

fn is(state: &str) -> impl Fn(&Value) -> bool {
    move |doctor| doctor["witness"]["state"] == state
}

const DOCTOR: &str = "/api/v1/doctor";

#[test]
fn checkpoints_are_cosigned_served_kept_and_verified_with_the_policy_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let witness = Witness::start(log.clone(), Mode::True);
    let policy = witness.policy(folder.path());
    assert_eq!(verify(&data, &policy).0, Some(2), "nobody has cosigned anything yet");

    let server = start(&data, &policy);
    server.until(DOCTOR, is("witnessed"));
    let served = server.until("/checkpoint", |note| note.as_str().unwrap().contains(NAME));
    assert!(!served.as_str().unwrap().contains("stranger"), "{served}");
    let (_, own) = server.get("/api/v1/checkpoint");
    assert!(own.as_str().is_some_and(|own| own.starts_with("log.example/it\n") && !own.contains(NAME)), "{own}");
    let (_, proof) = server.get("/api/v1/entries/0/proof");
    let leaf = ledger::Reader::open(&data).unwrap().entry(0).unwrap().unwrap();
    let proof = proof.as_str().unwrap();
    assert!(proof.contains(NAME), "a proof brings the cosignatures: {proof}");
    assert_eq!(ledger::verify_tlog_proof(proof, &leaf, [&log]).unwrap().0, 0);
    assert!(said(&server).contains(&"witnessed".to_owned()));
    let metrics = server.get("/metrics").1.as_str().unwrap().to_owned();
    assert!(metrics.contains("counterfoil_publish_behind_seconds{to=\"quorum\"}"), "{metrics}");
    server.stop();

    // The end of the process waits for its last checkpoint.
    let (code, report) = verify(&data, &policy);
    assert_eq!((code, &report["witnessed"]["size"]), (Some(0), &report["size"]), "{report}");
    assert_eq!(report["witnessed"]["by"][0]["witness"], "w1");
    let cosigned = std::fs::read_to_string(data.join("published/cosigned")).unwrap();
    assert!(Checkpoint::verify(&cosigned, [&log]).is_ok() && cosigned.contains(NAME));

    // The next life does not know what the witness has: it asks, is told, and goes on.
    let before = witness.answered().len();
    let server = start(&data, &policy);
    server.until("/checkpoint", |note| note.as_str().unwrap().contains(NAME));
    server.stop();
    let answered = witness.answered();
    assert_eq!(answered[before], 409, "{answered:?}");
    assert!(answered[before + 1..].contains(&200), "{answered:?}");
    assert_eq!(verify(&data, &policy).1["witnessed"]["by"][0]["witness"], "w1");
}

#[test]
fn without_a_witness_the_ledger_is_unwitnessed_and_says_since_when_until_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let witness = Witness::start(log, Mode::Absent);
    let policy = witness.policy(folder.path());
    let server = start(&data, &policy);
    let doctor = server.until(DOCTOR, is("unwitnessed"));
    assert!(doctor["witness"]["since"].is_string() && doctor["witness"]["size"].is_null(), "{doctor:#}");
    assert!(doctor["published"][0]["trouble"].as_str().unwrap().starts_with("unreachable"), "{doctor:#}");
    assert_eq!(server.post("/logs/nginx-error?source=a", b"a line\n").0, 202, "intake does not wait");
    server.until(DOCTOR, |_| said(&server) == ["unwitnessed"]);
    let address = format!("http://{}", server.api);
    let shown = program().args(["doctor", "--server", &address]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("UNWITNESSED since"), "{shown:?}");
    assert_eq!(verify(&data, &policy).0, Some(2), "absent is not verified");

    witness.state.lock().unwrap().mode = Mode::True;
    server.until(DOCTOR, is("witnessed"));
    server.until(DOCTOR, |_| said(&server).starts_with(&["unwitnessed".to_owned(), "witnessed".to_owned()]));
    server.stop();
    assert!(witness.answered().contains(&200));
    assert_eq!(verify(&data, &policy).0, Some(0));
}

#[test]
fn a_silent_witness_makes_neither_intake_nor_seal_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let witness = Witness::start(log, Mode::Silent);
    let server = start(&data, &witness.policy(folder.path()));
    for n in 0..20 {
        assert_eq!(server.post("/logs/nginx-error?source=a", format!("line {n}\n").as_bytes()).0, 202);
    }
    server.settled();
    let size = server.get(DOCTOR).1["through"]["ledger"].as_u64().unwrap();
    assert!(size > 20);
    // The proof of an entry waits for the seal that covers it, and that does not wait for the witness.
    let (status, _) = server.get(&format!("/api/v1/entries/{}/proof", size - 1));
    assert_eq!(status, 200);
    let (_, doctor) = server.get(DOCTOR);
    assert_ne!(doctor["witness"]["state"], "witnessed", "{doctor:#}");
    let (_, served) = server.get("/checkpoint");
    assert!(!served.as_str().unwrap().contains(NAME), "before the first quorum the log's own is served");
    server.stop();
}

#[test]
fn what_a_witness_refuses_is_named_and_never_counts_as_witnessed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let witness = Witness::start(log, Mode::Status(404));
    let policy = witness.policy(folder.path());
    let server = start(&data, &policy);
    let trouble = |word: &'static str| {
        move |doctor: &Value| {
            doctor["published"][0]["trouble"].as_str().is_some_and(|text| text.starts_with(word))
                && doctor["witness"]["state"] == "unwitnessed"
        }
    };
    let change = |mode: Mode, size: u64| {
        let mut state = witness.state.lock().unwrap();
        (state.mode, state.size, state.root) = (mode, size, if size == 0 { empty_root() } else { [9; 32] });
    };
    server.until(DOCTOR, trouble("unknown_log"));
    change(Mode::Status(403), 0);
    server.until(DOCTOR, trouble("unknown_key"));
    change(Mode::Status(500), 0);
    server.until(DOCTOR, trouble("refused: status 500"));
    change(Mode::Wrong, 0);
    server.until(DOCTOR, trouble("bad_cosignature"));
    server.stop();
    // A tree that this ledger's does not contain, and one that is larger than it.
    change(Mode::True, 2);
    let server = start(&data, &policy);
    server.until(DOCTOR, trouble("conflict"));
    change(Mode::True, 1 << 40);
    server.until(DOCTOR, trouble("ahead"));
    server.stop();
    assert_eq!(verify(&data, &policy).0, Some(2));
    assert!(!data.join("published/cosigned").exists());
}
