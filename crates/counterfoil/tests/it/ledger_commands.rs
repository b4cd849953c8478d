//! `counterfoil ledger …` with real servers: keys, versions, and a ledger that was rolled back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Server, entries, program};

/// Exit code, output, errors.
fn run(args: &[&str], data: &Path) -> (Option<i32>, String, String) {
    let output = program().args(args).arg("--data").arg(data).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn done(args: &[&str], data: &Path) -> String {
    let (code, out, errors) = run(args, data);
    assert_eq!(code, Some(0), "{args:?}: {out}{errors}");
    out
}

/// Delivers so many events and gives the index of the last one.
fn deliver(server: &Server, what: &str, n: usize) -> u64 {
    let mut last = 0;
    for i in 0..n {
        let body =
            format!(r#"{{"taskRun":{{"metadata":{{"name":"{what}-{i}","namespace":"ci","uid":"{what}-{i}"}}}}}}"#);
        let (status, head) = server.deliver("/", "dev.tekton.event.taskrun.running.v1", what, body.as_bytes());
        assert_eq!(status, 202, "{head}");
        last = entries(&head).unwrap().1;
    }
    last
}

fn uid(server: &Server, index: u64) -> String {
    let (status, entry) = server.get(&format!("/api/v1/entries/{index}"));
    assert_eq!(status, 200, "{entry}");
    entry["body"]["fact"]["run"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// Notes of the ledger about itself: what and detail, with the index.
fn notes(server: &Server, size: u64) -> Vec<(u64, String, String)> {
    let found = (0..size).filter_map(|index| {
        let (_, entry) = server.get(&format!("/api/v1/entries/{index}"));
        // The self-check of each new process has its own test.
        let note = entry["body"]["fact"].get("ledger").filter(|note| note["what"] != "checked")?.clone();
        let text = |key: &str| note[key].as_str().unwrap().to_owned();
        Some((index, text("what"), text("detail")))
    });
    found.collect()
}

fn sealed(data: &Path) -> u64 {
    let checkpoint = fs::read_to_string(data.join("ledger/checkpoint")).unwrap();
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

/// `verify.py` on a data folder.
fn python(data: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verify.py");
    let output = Command::new("python3").arg(script).arg(data.join("ledger")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_key_is_changed_over_two_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let first = deliver(&server, "before", 3);
    let (code, _, errors) = run(&["ledger", "rotate-key"], &data);
    assert_eq!(code, Some(2));
    assert!(errors.contains("serves it: stop it, run this, start it again"), "{errors}");
    server.stop();
    let (code, _, errors) = run(&["ledger", "retire-key"], &data);
    assert!(code == Some(2) && errors.contains("only one key signs"), "{errors}");

    let told = done(&["ledger", "rotate-key"], &data);
    let keys: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [old, new] = keys[..] else { panic!("{told}") };
    let server = Server::start(&data);
    deliver(&server, "between", 2);
    server.stop();
    let kept = folder.path().join("kept");
    fs::write(&kept, done(&["checkpoint"], &data)).unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap().lines().filter(|line| line.starts_with('\u{2014}')).count(), 2);
    for key in [old, new] {
        done(&["verify", "--vkey", key], &data);
    }
    python(&data);

    let told = done(&["ledger", "retire-key"], &data);
    assert!(told.contains("secret has been removed"), "{told}");
    let server = Server::start(&data);
    let last = deliver(&server, "after", 2);
    assert_eq!([uid(&server, first), uid(&server, last)], ["before-2", "after-1"]);
    let notes = notes(&server, last);
    let whats: Vec<&str> = notes.iter().map(|(_, what, _)| what.as_str()).collect();
    assert_eq!(whats, ["key_added", "key_retired"]);
    assert!(notes[0].2.contains(new) && notes[1].2.contains(old), "{notes:?}");
    server.stop();
    done(&["verify", "--checkpoint", kept.to_str().unwrap(), "--vkey", new], &data);
    assert_eq!(run(&["verify", "--vkey", old], &data).0, Some(1));
    python(&data);
}

#[test]
fn a_folder_of_version_1_is_served_and_then_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ledger/v1.tar.gz");
    let unpack = Command::new("python3").args(["-m", "tarfile", "-e"]).arg(archive).arg(data).status().unwrap();
    assert!(unpack.success());
    let version = || fs::read_to_string(data.join("ledger/format")).unwrap();
    let said = done(&["ledger", "upgrade"], data);
    assert!(said.contains("version 1") && said.contains("Nothing was done"), "{said}");
    let server = Server::start(data);
    let index = deliver(&server, "new", 1);
    server.stop();
    assert!(version().contains("version 1"));
    let (code, _, errors) = run(&["ledger", "rotate-key"], data);
    assert!(code == Some(2) && errors.contains("Run `ledger upgrade` first"), "{errors}");

    done(&["ledger", "upgrade", "--apply"], data);
    assert!(version().contains("version 2"));
    assert!(done(&["ledger", "upgrade"], data).contains("nothing to do"));
    done(&["verify"], data);
    python(data);
    let server = Server::start(data);
    let last = deliver(&server, "newer", 1);
    assert_eq!([uid(&server, index), uid(&server, last)], ["new-0", "newer-0"]);
    let whats: Vec<String> = notes(&server, last).into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(whats, ["upgraded"]);
    server.stop();
}

#[test]
fn a_rolled_back_ledger_is_refused_until_the_rollback_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let kept_entry = deliver(&server, "kept", 4);
    server.stop();
    let older: PathBuf = folder.path().join("older");
    copy(&data.join("ledger"), &older);
    let kept = folder.path().join("kept");
    fs::write(&kept, done(&["checkpoint"], &data)).unwrap();
    let size = sealed(&data);

    let server = Server::start(&data);
    deliver(&server, "lost", 4);
    server.stop();
    let lost = done(&["checkpoint"], &data);
    assert!(sealed(&data) > size + 4);
    fs::remove_dir_all(data.join("ledger")).unwrap();
    copy(&older, &data.join("ledger"));

    let (code, _, errors) = run(&["serve", "--intake", "127.0.0.1:0", "--api", "127.0.0.1:0"], &data);
    assert_eq!(code, Some(2), "{errors}");
    let vouches = format!("vouches for {} entries, only {size} are here", lost.lines().nth(1).unwrap());
    assert!(errors.contains(&vouches) && errors.contains("accept-rollback"), "{errors}");
    let said = done(&["ledger", "accept-rollback"], &data);
    assert!(said.contains(&format!("under a new origin with {size} entries")), "{said}");

    let server = Server::start(&data);
    assert_eq!(uid(&server, kept_entry), "kept-3");
    let last = deliver(&server, "new", 2);
    let notes = notes(&server, last);
    let [(index, what, detail)] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!((*index, what.as_str()), (size, "rolled_back"), "the first entry under the new origin");
    assert!(detail.contains(&lost), "it names the last checkpoint under the old one: {detail}");
    // What was derived from entries that are gone is gone too.
    server.settled();
    let hits = |what: &str| server.get(&format!("/api/v1/search?q={what}")).1["hits"].as_array().unwrap().len();
    assert!(hits("kept-3") > 0 && hits("lost-3") == 0);
    server.stop();
    let old_origin = lost.lines().next().unwrap();
    let verified = done(&["verify"], &data);
    assert!(verified.contains(&format!("the first {size} entries were those of {old_origin}")), "{verified}");
    assert!(!done(&["checkpoint"], &data).starts_with(old_origin));
    done(&["verify", "--checkpoint", kept.to_str().unwrap()], &data);
    fs::write(&kept, &lost).unwrap();
    assert_eq!(run(&["verify", "--checkpoint", kept.to_str().unwrap()], &data).0, Some(1), "it held more entries");
    python(&data);
}

#[test]
fn a_served_ledger_is_backed_up_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (data, to, restored) = (at("data"), at("backup"), at("restored"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let backup = || done(&["backup", "--to", &text(&to)], &data);
    let server = Server::start(&data);
    let early = deliver(&server, "early", 20);
    server.settled();
    // Deliveries go on while it is copied.
    let said = std::thread::scope(|scope| {
        let writer = scope.spawn(|| deliver(&server, "meanwhile", 60));
        let said = [backup(), backup(), backup()];
        assert!(writer.join().unwrap() > early);
        said
    });
    for said in &said {
        assert!(said.contains("entries, without a signing key") && said.trim_end().ends_with("VERIFIED"), "{said}");
    }
    python(&to);
    done(&["verify"], &to);
    server.stop();
    backup();
    assert!(backup().contains(": 0 files (0 bytes) copied"), "nothing is new");
    let kept = at("kept");
    fs::write(&kept, done(&["checkpoint"], &data)).unwrap();
    let size = sealed(&data);
    assert_eq!(sealed(&to), size);
    let mode = |path: PathBuf| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(to.join("installation.key")), 0o600);
    let secret = fs::read_dir(data.join("ledger/keys")).unwrap().map(|entry| entry.unwrap().path());
    let secret = secret.filter(|path| path.extension().is_some()).collect::<Vec<_>>().remove(0);
    assert!(!to.join("ledger/keys").join(secret.file_name().unwrap()).exists() && !to.join("head").exists());
    let (code, _, errors) = run(&["backup", "--to", &text(&data)], &data);
    assert!(code == Some(2) && errors.contains("is not a backup"), "{errors}");

    // A copy of it, to look at; then service under a new origin.
    let said = done(&["restore", "--from", &text(&to)], &restored);
    assert!(said.contains("VERIFIED") && said.contains("ledger accept-rollback --data"), "{said}");
    let (code, _, errors) = run(&["restore", "--from", &text(&to)], &restored);
    assert!(code == Some(2) && errors.contains("already holds a ledger"), "{errors}");
    let (code, _, errors) = run(&["serve", "--intake", "127.0.0.1:0", "--api", "127.0.0.1:0"], &restored);
    assert!(code == Some(2) && errors.contains("signing key") && errors.contains("accept-rollback"), "{errors}");
    assert_eq!(mode(restored.join("installation.key")), 0o600);
    done(&["verify", "--checkpoint", &text(&kept)], &restored);
    done(&["ledger", "accept-rollback"], &restored);
    let server = Server::start(&restored);
    assert_eq!(uid(&server, early), "early-19");
    let last = deliver(&server, "after", 2);
    let told = notes(&server, last);
    let note = fs::read_to_string(&kept).unwrap();
    assert!(
        told[0].0 == size && told[0].2.contains(&note),
        "the first entry names the checkpoint of the backup: {told:?}"
    );
    server.stop();
    done(&["verify", "--checkpoint", &text(&kept)], &restored);
    python(&restored);

    // Moved: the log was stopped, and this is all of it.
    let moved = at("moved");
    let (kept, secret) = (text(&kept), text(&secret));
    let (code, _, _) = run(&["restore", "--from", &text(&to), "--same-log", &kept], &moved);
    assert_eq!(code, Some(2), "it takes the key too");
    let said = done(&["restore", "--from", &text(&to), "--same-log", &kept, "--key", &secret], &moved);
    assert!(said.contains("Start it nowhere else"), "{said}");
    let server = Server::start(&moved);
    assert_eq!(uid(&server, early), "early-19");
    deliver(&server, "moved", 2);
    server.stop();
    done(&["verify", "--checkpoint", &kept], &moved);
    let origin = |data: &Path| done(&["checkpoint"], data).lines().next().unwrap().to_owned();
    assert!(origin(&moved) == origin(&data) && origin(&restored) != origin(&data));

    // One flipped bit, and nothing is restored.
    let bundle = to.join("ledger/tile/entries/000.p");
    let bundle = fs::read_dir(bundle).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (code, said, _) = run(&["restore", "--from", &text(&to)], &at("nothing"));
    assert!(code == Some(1) && said.contains("nothing was restored"), "{said}");
    assert!(!at("nothing").join("ledger").exists());
}
