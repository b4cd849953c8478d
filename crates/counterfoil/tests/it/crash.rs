//! Invariant 1: what was answered 2xx survives `kill -9`, at the index that was told.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::{Server, deliver, entries, program};

/// Lives that end with SIGKILL.
const LIVES: u64 = 20;
/// Senders at once.
const SENDERS: u64 = 8;

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let acknowledged = Mutex::new(BTreeMap::<u64, String>::new());
    for life in 0..LIVES {
        let server = Server::start(&data);
        let intake = server.intake;
        let killed = AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (killed, acknowledged) = (&killed, &acknowledged);
                scope.spawn(move || {
                    for n in 0u64.. {
                        if killed.load(Ordering::Acquire) {
                            return;
                        }
                        let id = format!("life{life}-sender{sender}-{n}");
                        let body =
                            format!(r#"{{"taskRun":{{"metadata":{{"name":"{id}","namespace":"ci","uid":"{id}"}}}}}}"#);
                        let kind = "dev.tekton.event.taskrun.running.v1";
                        // A connection that broke was not answered: nothing is promised about it.
                        let Ok((status, head)) = deliver(intake, "/events", kind, &id, body.as_bytes()) else {
                            continue;
                        };
                        assert!(status == 202 || status == 503, "{status}: {head}");
                        if let (202, Some((first, last))) = (status, entries(&head)) {
                            assert_eq!(first, last);
                            let before = acknowledged.lock().unwrap().insert(first, id);
                            assert_eq!(before, None, "index {first} was given twice");
                        }
                    }
                });
            }
            // Different lengths, so that the kill falls into different moments of group, seal and sync.
            thread::sleep(Duration::from_millis(120 + life * 37 % 400));
            server.kill();
            killed.store(true, Ordering::Release);
        });
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() as u64 > LIVES, "only {} deliveries were acknowledged", acknowledged.len());
    let server = Server::start(&data);
    for (index, id) in &acknowledged {
        let (status, entry) = server.get(&format!("/api/v1/entries/{index}"));
        assert_eq!(status, 200, "entry {index} is lost: {entry}");
        assert_eq!(entry["body"]["fact"]["run"]["uid"], id.as_str(), "entry {index} is another one");
    }
    server.stop();
    let verified = program().arg("verify").arg("--data").arg(&data).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    eprintln!("{} acknowledged deliveries over {LIVES} lives, all there", acknowledged.len());
}
