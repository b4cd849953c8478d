//! Places that keep checkpoints, and time stamps by an authority that `openssl ts` makes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use ledger::{Checkpoint, Vkey};
use serde_json::Value;

use crate::{
    common::Server,
    peer::{self, ledger, said},
};

const DOCTOR: &str = "/api/v1/doctor";

/// The line of `doctor` about this kind of place.
fn place<'a>(doctor: &'a Value, kind: &str) -> &'a Value {
    doctor["published"].as_array().into_iter().flatten().find(|place| place["kind"] == kind).unwrap_or(&Value::Null)
}

fn has_some(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |doctor| place(doctor, kind)["size"].is_u64()
}

fn start(data: &Path, config: &str) -> Server {
    let path = data.with_extension("toml");
    std::fs::write(&path, config).unwrap();
    Server::start_in(data, &["--config", path.to_str().unwrap()], &[])
}

/// Files below a folder, by name, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { list.extend(files(&path)) } else { list.push(path) }
    }
    list.sort();
    list
}

/// Each is a checkpoint of this log, the names tell the sizes, and they grow.
fn check_all<'a>(objects: impl Iterator<Item = (String, &'a [u8])>, log: &Vkey) -> u64 {
    let mut last = 0;
    for (name, bytes) in objects {
        let checkpoint = Checkpoint::verify(std::str::from_utf8(bytes).unwrap(), [log]).unwrap();
        assert!(name.ends_with(&format!("log.example_it/checkpoint-{:020}", checkpoint.size)), "{name}");
        assert!(checkpoint.size > last);
        last = checkpoint.size;
    }
    last
}

#[test]
fn checkpoints_go_to_a_folder_and_a_server_one_object_each_and_the_last_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let vault = folder.path().join("vault");
    let token = folder.path().join("token");
    std::fs::write(&token, "let me in\n").unwrap();
    let objects = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
    let kept = Arc::clone(&objects);
    let address = peer::serve(move |request| {
        let mut kept = kept.lock().unwrap();
        if !request.head.contains("\r\nauthorization: bearer let me in\r\n") {
            return Some((401, "text/plain", b"who?".to_vec()));
        }
        assert_eq!(request.method, "PUT");
        assert!(request.head.contains("\r\nif-none-match: *\r\n"), "{}", request.head);
        let there = kept.insert(request.path.clone(), request.body).is_some();
        assert!(!there, "{} was put twice", request.path);
        Some((201, "text/plain", Vec::new()))
    });
    let config = format!(
        "[publish]\nevery_seconds = 1\n[[publish.folder]]\nname = \"vault\"\npath = {vault:?}\n\
         [[publish.http]]\nname = \"archive\"\nurl = \"http://{address}/a/\"\ntoken_file = {token:?}\n"
    );
    let server = start(&data, &config);
    let doctor = server.until(DOCTOR, |doctor| place(doctor, "folder")["behind"] == true);
    assert!(place(&doctor, "folder")["trouble"].as_str().unwrap().starts_with("disk: "), "{doctor:#}");
    assert_eq!(doctor["witness"]["state"], "not_configured");
    server.until(DOCTOR, has_some("http"));
    server.until(DOCTOR, |_| said(&server).contains(&"unpublished".to_owned()));
    std::fs::create_dir(&vault).unwrap();
    server.until(DOCTOR, |doctor| has_some("folder")(doctor) && place(doctor, "folder")["behind"] == false);
    assert_eq!(server.post("/logs/nginx-error?source=a", b"a line\n").0, 202);
    // In this order for the folder; the server adds its own `published` somewhere.
    server.until(DOCTOR, |_| {
        let said = said(&server);
        let failed = said.iter().position(|what| what == "unpublished");
        failed.is_some_and(|at| said[at..].contains(&"published".to_owned()))
            && said.iter().filter(|what| *what == "published").count() >= 2
    });
    server.stop();

    let size = |note: &Path| std::fs::read_to_string(note).unwrap().lines().nth(1).unwrap().parse::<u64>().unwrap();
    let last = size(&data.join("ledger/checkpoint"));
    let held: Vec<(String, Vec<u8>)> =
        files(&vault).iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect();
    assert_eq!(check_all(held.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())), &log), last);
    let objects = objects.lock().unwrap();
    assert_eq!(check_all(objects.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())), &log), last);
    assert!(objects.keys().all(|name| name.starts_with("/a/")), "{:?}", objects.keys());
}

fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).current_dir(dir).output().unwrap()
}

/// A time-stamping authority in a folder: a certificate of its own and the settings of `openssl ts`.
fn authority(dir: &Path) {
    let extension = "extendedKeyUsage=critical,timeStamping";
    for arguments in [
        &[
            "req",
            "-x509",
            "-newkey",
            "ed25519",
            "-nodes",
            "-subj",
            "/CN=test CA",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ][..],
        &["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test TSA", "-keyout", "tsa.key", "-out", "tsa.csr"],
    ] {
        let made = openssl(dir, arguments);
        assert!(made.status.success(), "{made:?}");
    }
    std::fs::write(dir.join("ext"), extension).unwrap();
    std::fs::write(dir.join("serial"), "01\n").unwrap();
    std::fs::write(
        dir.join("ts.cnf"),
        "[ts]\nserial = serial\ncrypto_device = builtin\nsigner_cert = tsa.pem\nsigner_key = tsa.key\ncerts = ca.pem\n\
         signer_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256\naccuracy = secs:1, millisecs:500\n\
         ordering = yes\ntsa_name = yes\n",
    )
    .unwrap();
    let sign = [
        "x509",
        "-req",
        "-in",
        "tsa.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "ext",
        "-out",
        "tsa.pem",
    ];
    let signed = openssl(dir, &sign);
    assert!(signed.status.success(), "{signed:?}");
}

/// What the authority answers: as it should, the answer to an earlier question, or with a refusal.
const RIGHT: u8 = 0;
const REPLAYED: u8 = 1;
const REFUSED: u8 = 2;

#[test]
fn time_stamps_are_kept_beside_their_checkpoint_and_verify_with_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = ledger(folder.path());
    let tsa = folder.path().join("tsa");
    std::fs::create_dir(&tsa).unwrap();
    authority(&tsa);
    let mode = Arc::new(AtomicU8::new(REFUSED));
    let (dir, now) = (tsa.clone(), Arc::clone(&mode));
    let replay = Mutex::new(None);
    let address = peer::serve(move |request| {
        assert!(request.head.contains("\r\ncontent-type: application/timestamp-query\r\n"), "{}", request.head);
        let mut replay = replay.lock().unwrap();
        // What is no query is refused by `openssl ts` with a status of its own.
        let query = if now.load(Ordering::Acquire) == REFUSED { b"nonsense".to_vec() } else { request.body };
        std::fs::write(dir.join("q"), query).unwrap();
        let made =
            openssl(&dir, &["ts", "-reply", "-config", "ts.cnf", "-section", "ts", "-queryfile", "q", "-out", "r"]);
        let mut answer = std::fs::read(dir.join("r")).unwrap_or_else(|error| panic!("{error}: {made:?}"));
        if now.load(Ordering::Acquire) == REPLAYED {
            answer = replay.get_or_insert(answer).clone();
        }
        Some((200, "application/timestamp-reply", answer))
    });
    let config = format!("[timestamp]\nurl = \"http://{address}/\"\nevery_seconds = 1\n");
    let server = start(&data, &config);
    let trouble = |word: &'static str| {
        move |doctor: &Value| place(doctor, "timestamp")["trouble"].as_str().is_some_and(|text| text.starts_with(word))
    };
    server.until(DOCTOR, trouble("refused: "));
    assert_eq!(files(&data.join("published")), Vec::<PathBuf>::new(), "a refusal is not kept");
    // The first answer in this mode is right; given again to the next question it is not.
    mode.store(REPLAYED, Ordering::Release);
    server.until(DOCTOR, has_some("timestamp"));
    assert_eq!(server.post("/logs/nginx-error?source=a", b"a line\n").0, 202);
    server.until(DOCTOR, trouble("bad_answer: "));
    mode.store(RIGHT, Ordering::Release);
    server.until(DOCTOR, |doctor| place(doctor, "timestamp")["trouble"].is_null());
    server.stop();

    let kept = files(&data.join("published/timestamps"));
    let stamps: Vec<&PathBuf> = kept.iter().filter(|path| path.extension().is_some_and(|ext| ext == "tsr")).collect();
    assert!(stamps.len() >= 2 && kept.len() == 2 * stamps.len(), "{kept:?}");
    for stamp in stamps {
        let note = stamp.with_extension("");
        Checkpoint::verify(&std::fs::read_to_string(&note).unwrap(), [&log]).unwrap();
        let verify = |data: &Path| {
            let (stamp, data) = (stamp.to_str().unwrap(), data.to_str().unwrap());
            openssl(&tsa, &["ts", "-verify", "-in", stamp, "-data", data, "-CAfile", "ca.pem"])
        };
        let verified = verify(&note);
        assert!(verified.status.success(), "{verified:?}");
        let other = folder.path().join("other");
        std::fs::write(&other, std::fs::read_to_string(&note).unwrap().replacen("it\n", "is\n", 1)).unwrap();
        assert!(!verify(&other).status.success(), "a stamp over something else verifies");
    }
}
