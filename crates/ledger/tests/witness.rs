//! Verification against a policy: ours and `verify.py` have to say the same, and absence never passes.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{Append, Config, Lane, Ledger, Outcome, Policy, Report, VerifyOptions, Witnessed, verify};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A signer of notes: a witness (type 4), or somebody who has the log's secret (type 1).
struct Key {
    name: String,
    kind: u8,
    secret: SigningKey,
}

impl Key {
    fn witness(name: &str, seed: u8) -> Self {
        Self { name: name.to_owned(), kind: 4, secret: SigningKey::from_bytes(&[seed; 32]) }
    }

    /// The log's own key, read from its folder.
    fn stolen(data: &Path) -> Self {
        let path = std::fs::read_dir(data.join("ledger/keys")).unwrap().map(|entry| entry.unwrap().path());
        let path = path.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "skey")).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mut parts = text.trim_end().splitn(5, '+').skip(2);
        let (name, key) = (parts.next().unwrap().to_owned(), parts.nth(1).unwrap());
        let seed: [u8; 32] = BASE64_STANDARD.decode(key).unwrap()[1..].try_into().unwrap();
        Self { name, kind: 1, secret: SigningKey::from_bytes(&seed) }
    }

    fn public(&self) -> Vec<u8> {
        [&[self.kind][..], self.secret.verifying_key().as_bytes()].concat()
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new().chain_update(&self.name).chain_update(b"\n").chain_update(self.public()).finalize();
        digest[..4].try_into().unwrap()
    }

    fn vkey(&self) -> String {
        format!("{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), BASE64_STANDARD.encode(self.public()))
    }

    fn line(&self, text: &str, time: u64) -> String {
        let mut blob = self.id().to_vec();
        if self.kind == 4 {
            blob.extend(time.to_be_bytes());
            blob.extend(self.secret.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes()).to_bytes());
        } else {
            blob.extend(self.secret.sign(text.as_bytes()).to_bytes());
        }
        format!("\u{2014} {} {}\n", self.name, BASE64_STANDARD.encode(blob))
    }

    fn cosign(&self, note: &str, time: u64) -> String {
        let text = &note[..=note.find("\n\n").unwrap()];
        format!("{note}{}", self.line(text, time))
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.limits.segment_bytes = 64 << 10;
    config.limits.reserve_bytes = 0;
    config
}

/// A log of 40 entries, its checkpoint at 30 and at 40.
fn log() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    ledger::init(&config(dir.path()), Some("log.example/witnessed")).unwrap();
    let log = Ledger::open(&config(dir.path())).unwrap().ledger;
    let mut notes = Vec::new();
    for part in [30, 10] {
        for n in 0..part {
            log.append_wait(Append::one(Lane::Push, format!("{{\"n\":{n}}}"))).unwrap();
        }
        let size = log.size();
        assert_eq!(log.wait_sealed(size - 1, std::time::Duration::from_mins(5)), size);
        notes.push(log.checkpoint().to_string());
    }
    log.close().unwrap();
    let last = notes.pop().unwrap();
    (dir, notes.pop().unwrap(), last)
}

fn keep(dir: &Path, note: &str) {
    std::fs::create_dir_all(dir.join("published")).unwrap();
    std::fs::write(dir.join("published/cosigned"), note).unwrap();
}

/// Verifies with both programs.
fn check(dir: &Path, policy: &str) -> Report {
    let file = dir.join("policy");
    std::fs::write(&file, policy).unwrap();
    let options = VerifyOptions { policy: Some(Policy::parse(policy).unwrap()), ..VerifyOptions::default() };
    let report = verify(dir, &options);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut python = Command::new("python3");
    let python = python.arg(root.join("verify.py")).arg(dir.join("ledger")).arg("--policy").arg(file).output().unwrap();
    let text = String::from_utf8(python.stdout).unwrap();
    let code = match report.outcome() {
        Outcome::Verified => 0,
        Outcome::Refuted => 1,
        Outcome::CouldNotCheck => 2,
    };
    assert_eq!(python.status.code(), Some(code), "{report}{text}");
    if let Some(witnessed) = &report.witnessed
        && code == 0
    {
        assert!(text.contains(&format!("witnessed   {} entries", witnessed.size)), "{text}");
    }
    report
}

#[test]
fn a_quorum_is_found_and_its_absence_is_said() {
    let (dir, older, newest) = log();
    let (one, two, three) = (Key::witness("w.example/1", 1), Key::witness("w.example/2", 2), Key::witness("w3", 3));
    let log = Key::stolen(dir.path()).vkey();
    let start = format!("log {log}\nwitness one {}\nwitness two {}\n", one.vkey(), two.vkey());
    let (any, all) =
        (format!("{start}group g any one two\nquorum g\n"), format!("{start}group g all one two\nquorum g\n"));
    let outcome = |policy: &str| check(dir.path(), policy).outcome();

    // Nobody has cosigned anything.
    assert_eq!(outcome(&any), Outcome::CouldNotCheck);
    let nobody = check(dir.path(), &format!("{start}quorum none\n"));
    assert_eq!((nobody.outcome(), nobody.witnessed), (Outcome::Verified, Some(Witnessed { size: 40, by: vec![] })));

    // Somebody whom the policy does not know.
    keep(dir.path(), &three.cosign(&newest, 1_700_000_000));
    assert_eq!(outcome(&any), Outcome::CouldNotCheck);

    // One of two, an older checkpoint: what came later is not witnessed, and the report says so.
    keep(dir.path(), &two.cosign(&three.cosign(&older, 1), 1_700_000_000));
    let report = check(dir.path(), &any);
    let witnessed = Witnessed { size: 30, by: vec![("two".to_owned(), 1_700_000_000)] };
    assert_eq!((report.outcome(), report.witnessed.as_ref()), (Outcome::Verified, Some(&witnessed)));
    assert!(report.to_string().contains("witnessed   30 entries, two at 2023-11-14T22:13:20Z\n"), "{report}");
    assert_eq!(outcome(&all), Outcome::CouldNotCheck);

    // Both.
    keep(dir.path(), &one.cosign(&two.cosign(&newest, 7), 8));
    let report = check(dir.path(), &all);
    let both = vec![("one".to_owned(), 8), ("two".to_owned(), 7)];
    assert_eq!((report.outcome(), report.witnessed), (Outcome::Verified, Some(Witnessed { size: 40, by: both })));

    // The published checkpoint may carry the cosignatures itself.
    std::fs::remove_dir_all(dir.path().join("published")).unwrap();
    std::fs::write(dir.path().join("ledger/checkpoint"), one.cosign(&newest, 9)).unwrap();
    assert_eq!(outcome(&any), Outcome::Verified);
    assert_eq!(outcome(&all), Outcome::CouldNotCheck);
}

#[test]
fn what_a_witness_says_against_the_log_refutes_it() {
    let (dir, older, newest) = log();
    let (one, thief) = (Key::witness("w.example/1", 1), Key::stolen(dir.path()));
    let policy = format!("log {}\nwitness one {}\nquorum one\n", thief.vkey(), one.vkey());
    let outcome = |note: &str| {
        keep(dir.path(), note);
        check(dir.path(), &policy).outcome()
    };
    assert_eq!(outcome(&one.cosign(&newest, 5)), Outcome::Verified);
    // A cosignature of another note, of another time, and one that is cut.
    let text = |note: &str| note[..=note.find("\n\n").unwrap()].to_owned();
    assert_eq!(outcome(&format!("{newest}{}", one.line(&text(&older), 5))), Outcome::Refuted);
    let flipped = one.cosign(&newest, 5).replacen("AAAAAAAF", "AAAAAAAG", 1);
    assert_eq!(outcome(&flipped), Outcome::Refuted);
    // Somebody with the log's key has shown the witness another tree, or a longer one.
    for size in [30, 41] {
        let forged = format!("log.example/witnessed\n{size}\n{}\n", BASE64_STANDARD.encode([7; 32]));
        let forged = format!("{forged}\n{}", thief.line(&forged, 0));
        assert_eq!(outcome(&one.cosign(&forged, 5)), Outcome::Refuted, "size {size}");
    }
    // The policy's log is another one.
    let stranger = Key { name: thief.name.clone(), kind: 1, secret: SigningKey::from_bytes(&[9; 32]) };
    keep(dir.path(), &one.cosign(&newest, 5));
    let other = format!("log {}\nwitness one {}\nquorum one\n", stranger.vkey(), one.vkey());
    assert_eq!(check(dir.path(), &other).outcome(), Outcome::Refuted);
    // A checkpoint that the auditor has kept counts as well, with its cosignature.
    std::fs::remove_dir_all(dir.path().join("published")).unwrap();
    assert_eq!(check(dir.path(), &policy).outcome(), Outcome::CouldNotCheck);
    let policy = Some(Policy::parse(&policy).unwrap());
    let options = VerifyOptions { policy, kept: Some(one.cosign(&older, 5)), ..VerifyOptions::default() };
    let report = verify(dir.path(), &options);
    assert_eq!((report.outcome(), report.witnessed.unwrap().size), (Outcome::Verified, 30));
}
