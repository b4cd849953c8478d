//! Keys, versions, and ledgers of earlier versions: opened, verified, changed, and cut off on the way.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, Checkpoint, Config, Disk, Error, Fault, Lane, Ledger, Notice, Opened, Outcome, SimDisk, VERSION,
    VerifyOptions, Vkey, init, retire_key, rotate_key, split_leaf, upgrade, verify,
};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A body that says what was told.
fn body(notice: &Notice) -> Vec<u8> {
    let (what, detail) = match notice {
        Notice::KeyAdded { vkey, first } => ("key_added", format!("{first} {vkey}")),
        Notice::KeyRetired { vkey, end } => ("key_retired", format!("{end} {vkey}")),
        Notice::Upgraded { from, to } => ("upgraded", format!("{from} {to}")),
        other => ("other", format!("{other:?}")),
    };
    serde_json::json!({"what": what, "detail": detail}).to_string().into_bytes()
}

/// Everything in the log that [`body`] made, as (what, detail).
fn told(log: &Ledger) -> Vec<(String, String)> {
    let leaves = log.entries(0, 10_000).unwrap();
    let bodies = leaves.iter().filter_map(|leaf| {
        let body: serde_json::Value = serde_json::from_slice(split_leaf(leaf)?.1).ok()?;
        Some((body["what"].as_str()?.to_owned(), body["detail"].as_str()?.to_owned()))
    });
    bodies.collect()
}

fn verified(dir: &Path, options: &VerifyOptions) -> ledger::Report {
    let report = verify(dir, options);
    assert_eq!(report.outcome(), Outcome::Verified, "{report}");
    report
}

/// Exit code and output of `verify.py` on a data folder.
fn python(dir: &Path, vkey: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new("python3");
    command.arg(root().join("verify.py")).arg(dir.join("ledger"));
    command.args(vkey.map(|vkey| ["--vkey", vkey]).into_iter().flatten());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn small(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.limits.segment_bytes = 64 << 10;
    config.limits.reserve_bytes = 0;
    // A test machine's disk may be nearly full.
    (config.limits.pause_below_percent, config.limits.stop_below_bytes) = (0, 0);
    config
}

fn add(log: &Ledger, n: u64) {
    for i in 0..n {
        log.append_wait(Append::one(Lane::Push, format!("{{\"n\":{i}}}"))).unwrap();
    }
}

fn vkeys(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("ledger/keys/vkeys")).unwrap()
}

fn secrets(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("ledger/keys")).unwrap();
    names.filter(|name| name.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "skey")).count()
}

/// A fixture that a real program wrote (tests/fixtures/ledger), and what it holds: digests of leaf and payload.
fn fixture(name: &str) -> (tempfile::TempDir, Vec<(String, Option<String>)>) {
    let dir = tempfile::tempdir().unwrap();
    let at = root().join("tests/fixtures/ledger");
    let archive = at.join(format!("{name}.tar.gz"));
    let unpack = Command::new("python3").args(["-m", "tarfile", "-e"]).arg(archive).arg(dir.path()).status().unwrap();
    assert!(unpack.success());
    let text = std::fs::read_to_string(at.join(format!("{name}.txt"))).unwrap();
    let entries = (0..).zip(text.lines()).map(|(index, line)| {
        let parts: Vec<&str> = line.split(' ').collect();
        assert_eq!(parts[0], index.to_string());
        (parts[1].to_owned(), Some(parts[2].to_owned()).filter(|digest| digest != "-"))
    });
    let entries = entries.collect();
    (dir, entries)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn holds(log: &Ledger, entries: &[(String, Option<String>)]) {
    for (index, (leaf, payload)) in (0..).zip(entries) {
        let there = log.entry(index).unwrap().unwrap();
        assert_eq!(&hex(&there), leaf, "entry {index}");
        let of_append = split_leaf(&there).unwrap().0.append == index;
        if of_append {
            assert_eq!(log.payload(index).unwrap().as_deref().map(hex), *payload, "payload of {index}");
        }
    }
}

/// A fixture verifies for whoever holds both keys, or only the old one, or only the new one. Gives those three.
fn whoever_verifies(dir: &Path, size: u64) -> Vec<VerifyOptions> {
    let keys: Vec<String> = vkeys(dir).lines().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 2);
    let mut options = vec![VerifyOptions::default()];
    options.extend(keys.iter().map(|key| VerifyOptions { vkeys: vec![key.clone()], ..VerifyOptions::default() }));
    for options in &options {
        assert_eq!(verified(dir, options).verified, size);
        let (code, text) = python(dir, options.vkeys.first().map(String::as_str));
        assert_eq!(code, Some(0), "{text}");
    }
    options
}

#[test]
fn a_ledger_of_version_2_is_read_and_served() {
    let (dir, entries) = fixture("v2");
    let size = entries.len() as u64;
    assert!(size > 256, "a full tile and partial ones");
    whoever_verifies(dir.path(), size);
    let config = small(dir.path());
    let log = Ledger::open(&config).unwrap().ledger;
    assert_eq!((log.version(), log.size(), log.origin(), log.vkeys().len()), (2, size, "log.example/fixture", 2));
    holds(&log, &entries);
    add(&log, 3);
    log.close().unwrap();
    drop(log);
    whoever_verifies(dir.path(), size + 3);
    assert_eq!(retire_key(&config, body).unwrap().signing.len(), 1);
    assert_eq!(verified(dir.path(), &VerifyOptions::default()).verified, size + 4);
}

#[test]
fn a_ledger_of_version_1_is_read_served_and_upgraded() {
    let (dir, entries) = fixture("v1");
    assert!(entries.len() > 256, "a full tile and partial ones");
    let options = whoever_verifies(dir.path(), entries.len() as u64);
    let config = small(dir.path());
    let log = Ledger::open(&config).unwrap().ledger;
    assert_eq!((log.version(), log.size(), log.origin()), (1, entries.len() as u64, "log.example/fixture"));
    holds(&log, &entries);
    add(&log, 3);
    log.close().unwrap();
    assert_eq!(verified(dir.path(), &options[0]).verified, entries.len() as u64 + 3);
    assert_eq!(std::fs::read_to_string(dir.path().join("ledger/format")).unwrap().lines().nth(1), Some("version 1"));

    let refused = rotate_key(&config, false, body).unwrap_err();
    assert!(matches!(refused, Error::Older { version: 1, needed: 2, .. }), "{refused}");
    assert_eq!(upgrade(&config, body).unwrap(), 1);
    let log = Ledger::open(&config).unwrap().ledger;
    assert_eq!((log.version(), log.size()), (2, entries.len() as u64 + 4));
    holds(&log, &entries);
    assert_eq!(told(&log), [("upgraded".to_owned(), "1 2".to_owned())]);
    add(&log, 1);
    log.close().unwrap();
    drop(log);
    for options in &options {
        verified(dir.path(), options);
    }
    assert_eq!(python(dir.path(), None).0, Some(0));
    assert_eq!(upgrade(&config, body).unwrap(), VERSION, "nothing is left to do");
}

#[test]
fn two_keys_sign_from_the_entry_on_until_the_old_one_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    init(&config, Some("log.example/keys")).unwrap();
    let checkpoint = || std::fs::read_to_string(dir.path().join("ledger/checkpoint")).unwrap();
    let life = |n| {
        let log = Ledger::open(&config).unwrap().ledger;
        add(&log, n);
        log.close().unwrap();
        log
    };
    let old = life(300).vkeys().remove(0);
    let before = checkpoint();
    assert!(matches!(retire_key(&config, body), Err(Error::OneKey { .. })));

    let change = rotate_key(&config, false, body).unwrap();
    let new = change.signing[1].clone();
    assert_eq!((change.size, &change.signing[0], change.retired.len()), (301, &old, 0));
    assert_eq!(vkeys(dir.path()), format!("0 - {old}\n301 - {new}\n"));
    let overlap = [checkpoint(), {
        assert_eq!(told(&life(50)), [("key_added".to_owned(), format!("301 {new}"))]);
        checkpoint()
    }];
    let signed = |note: &str, vkey: &str| Checkpoint::verify(note, [&vkey.parse::<Vkey>().unwrap()]).map(|c| c.size);
    for (note, size) in overlap.iter().zip([301, 351]) {
        assert_eq!([signed(note, &old).unwrap(), signed(note, &new).unwrap()], [size, size]);
    }
    assert_eq!(signed(&before, &old).unwrap(), 300);
    assert!(signed(&before, &new).is_err());
    let only = |vkey: &String| VerifyOptions { vkeys: vec![vkey.clone()], ..VerifyOptions::default() };
    for key in [&old, &new] {
        assert_eq!(verified(dir.path(), &only(key)).verified, 351);
        assert_eq!(python(dir.path(), Some(key)).0, Some(0));
    }
    // A signature that is missing although keys/vkeys promises it is seen.
    let note = checkpoint();
    let short = note.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    std::fs::write(dir.path().join("ledger/checkpoint"), short).unwrap();
    assert_eq!(verify(dir.path(), &VerifyOptions::default()).outcome(), Outcome::Refuted);
    assert_eq!(python(dir.path(), None).0, Some(1));
    std::fs::write(dir.path().join("ledger/checkpoint"), note).unwrap();
    assert_eq!(secrets(dir.path()), 2);

    let change = retire_key(&config, body).unwrap();
    assert_eq!((change.size, &change.signing, &change.retired), (352, &vec![new.clone()], &vec![old.clone()]));
    assert_eq!(vkeys(dir.path()), format!("0 352 {old}\n301 - {new}\n"));
    assert_eq!(secrets(dir.path()), 1, "the secret of the old key is gone");
    assert_eq!(told(&life(9))[1], ("key_retired".to_owned(), format!("352 {old}")));
    assert!(signed(&checkpoint(), &old).is_err());
    assert_eq!(signed(&checkpoint(), &new).unwrap(), 361);
    assert_eq!(verify(dir.path(), &only(&old)).outcome(), Outcome::Refuted);
    assert_eq!(python(dir.path(), Some(&old)).0, Some(1));
    for options in [VerifyOptions::default(), only(&new)] {
        // What was kept before the change, and while both signed, is still contained.
        for kept in [&before, &overlap[0], &overlap[1]] {
            verified(dir.path(), &VerifyOptions { kept: Some(kept.clone()), ..options.clone() });
        }
    }
    assert_eq!(python(dir.path(), None).0, Some(0));

    // A secret that others may know ends at once.
    let change = rotate_key(&config, true, body).unwrap();
    assert_eq!((change.size, &change.retired), (363, &vec![new.clone()]));
    assert_eq!((signed(&checkpoint(), &change.signing[0]).unwrap(), secrets(dir.path())), (363, 1));
    assert!(signed(&checkpoint(), &new).is_err());
    assert_eq!(told(&life(1)).len(), 4);
    verified(dir.path(), &VerifyOptions::default());
}

/// A version-2 ledger on a simulated disk, with `keys` keys and some entries.
struct World {
    sim: Arc<SimDisk>,
    config: Config,
    entries: Vec<Vec<u8>>,
    checkpoint: Checkpoint,
}

const FORMAT: &str = "/data/ledger/format";

impl World {
    fn new(keys: usize, version: u32) -> Self {
        let sim = Arc::new(SimDisk::default());
        let mut config = Config::new("/data");
        config.disk = Disk::Simulated(Arc::clone(&sim));
        config.limits.segment_bytes = 64 << 10;
        config.limits.reserve_bytes = 0;
        init(&config, Some("log.example/power")).unwrap();
        for _ in 1..keys {
            rotate_key(&config, false, body).unwrap();
        }
        if version == 1 {
            for digit in ["counterfoil-ledger\nversion ", "counterfoil-ledger\nversion 2\nmin-reader "] {
                sim.corrupt(Path::new(FORMAT), digit.len(), b'1' ^ b'2');
            }
        }
        let log = Ledger::open(&config).unwrap().ledger;
        add(&log, 5);
        log.close().unwrap();
        let entries = log.entries(0, 100).unwrap();
        let key = log.vkeys()[0].parse().unwrap();
        let checkpoint = Checkpoint::verify(&log.checkpoint(), [&key]).unwrap();
        Self { sim, config, entries, checkpoint }
    }

    /// After whatever happened: it opens, holds what it held, and what the log says about its keys is what `keys/vkeys` and
    /// the secrets say.
    fn check(&self) {
        let Opened { ledger: log, .. } = Ledger::open(&self.config).unwrap();
        assert_eq!(log.entries(0, self.entries.len()).unwrap(), self.entries);
        let told = told(&log);
        let of = |what: &str| -> Vec<String> {
            told.iter().filter(|(told, _)| told == what).map(|(_, detail)| detail.clone()).collect()
        };
        let (added, retired) = (of("key_added"), of("key_retired"));
        let text = String::from_utf8(self.read("/data/ledger/keys/vkeys")).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, ' ').collect()).collect();
        let listed: Vec<String> = rows[1..].iter().map(|row| format!("{} {}", row[0], row[2])).collect();
        assert_eq!(listed, added, "each key but the first has its entry");
        let ended: Vec<String> =
            rows.iter().filter(|row| row[1] != "-").map(|row| format!("{} {}", row[1], row[2])).collect();
        assert_eq!(ended, retired, "each end has its entry");
        let secrets = self.sim.files().iter().filter(|path| path.extension().is_some_and(|ext| ext == "skey")).count();
        assert_eq!(secrets, rows.len() - ended.len(), "exactly the keys in use have a secret");
        add(&log, 1);
        log.close().unwrap();
        let now = log.size();
        let note = log.checkpoint();
        for vkey in log.vkeys() {
            assert_eq!(Checkpoint::verify(&note, [&vkey.parse().unwrap()]).unwrap().size, now, "{vkey} has signed");
        }
        let options = VerifyOptions { disk: self.config.disk.clone(), ..VerifyOptions::default() };
        let report = verified(Path::new("/data"), &options);
        assert_eq!((report.damaged, report.fillers), (0, 0));
        let old = &self.checkpoint;
        let path = log.consistency_proof(old.size, now).unwrap();
        let new = report.checkpoint.unwrap();
        assert!(ledger::verify_consistency(old.size, &old.root, new.size, &new.root, &path));
    }

    fn read(&self, path: &str) -> Vec<u8> {
        self.sim.content(Path::new(path)).unwrap()
    }
}

type Change = fn(&Config) -> Result<(), Error>;

const CHANGES: [(&str, usize, u32, Change); 4] = [
    ("rotate", 1, 2, |config| rotate_key(config, false, body).map(drop)),
    ("rotate and retire", 2, 2, |config| rotate_key(config, true, body).map(drop)),
    ("retire", 3, 2, |config| retire_key(config, body).map(drop)),
    ("upgrade", 1, 1, |config| upgrade(config, body).map(drop)),
];

fn dice(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    }
}

#[test]
fn changes_that_are_cut_off_at_any_step_can_be_asked_for_again() {
    for (name, keys, version, change) in CHANGES {
        let mut cuts = 0;
        for step in 1.. {
            let mut done = true;
            for fault in [Fault::PowerCut, Fault::Fails, Fault::FailsButPersists] {
                for seed in 0..if fault == Fault::PowerCut { 4 } else { 2 } {
                    let world = World::new(keys, version);
                    world.sim.set_fault(world.sim.steps() + step, fault);
                    let result = change(&world.config);
                    done &= result.is_ok();
                    world.sim.clear_fault();
                    // The process alone ends at an error, or the power goes with it.
                    if world.sim.is_off() || seed % 2 == 0 {
                        world.sim.power_on(dice(step * 31 + seed));
                    }
                    world.check();
                    if result.is_err() {
                        cuts += 1;
                        match change(&world.config) {
                            // It was done, but for the last steps.
                            Err(Error::OneKey { .. }) if name == "retire" => {}
                            again => again.unwrap_or_else(|error| panic!("{name}, step {step}: {error}")),
                        }
                        world.check();
                    }
                    if name == "upgrade" {
                        assert_eq!(Ledger::open(&world.config).unwrap().ledger.version(), VERSION);
                    }
                }
            }
            if done {
                break;
            }
        }
        assert!(cuts > 80, "{name} was cut off {cuts} times only");
    }
}
