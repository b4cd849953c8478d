//! A file system that is really full: senders get 503, and when there is room again it goes on by itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;

use crate::common::{PATIENCE, Server, entries, program};

/// A small file system of its own, gone when dropped.
struct Small(PathBuf);

impl Small {
    /// None where mounting is not permitted.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for block in [1 << 20, 4096] {
            while ballast.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the server may just be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// One event of 200 KB: the index of its entry, or the headers of the refusal.
fn deliver(server: &Server, id: &str) -> Result<u64, String> {
    let filler = "x".repeat(200_000);
    let body = format!(
        r#"{{"taskRun":{{"metadata":{{"name":"{id}","namespace":"ci","uid":"{id}","annotations":{{"filler":"{filler}"}}}}}}}}"#
    );
    let (status, head) = server.deliver("/events", "dev.tekton.event.taskrun.running.v1", id, body.as_bytes());
    match status {
        202 => Ok(entries(&head).unwrap().0),
        503 => Err(head),
        _ => panic!("{head}"),
    }
}

/// The gaps on record that are over: what, and how many were refused.
fn gaps(server: &Server) -> Vec<(String, u64)> {
    let (status, answer) = server.get("/api/v1/search?limit=1000&q=type:entry.gap");
    assert_eq!(status, 200, "{answer}");
    let indices = answer["hits"].as_array().unwrap().iter().filter_map(|hit| hit["entry"]["index"].as_u64());
    let gaps = indices.map(|index| {
        let (_, entry) = server.get(&format!("/api/v1/entries/{index}"));
        entry["body"]["fact"]["gap"].clone()
    });
    let over = gaps.filter(|gap| gap["to"] != Value::Null);
    over.map(|gap| {
        assert!(gap["from"].as_str() <= gap["to"].as_str(), "{gap}");
        (gap["what"].as_str().unwrap().to_owned(), gap["count"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn a_full_disk_is_503_until_there_is_room_and_a_gap_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(folder.path().join("disk")) else {
        eprintln!("skipped: mounting a file system is not permitted here");
        return;
    };
    // The space guard would not let it come to this.
    let mut unguarded = program();
    unguarded.env("COUNTERFOIL_LEDGER_STOP_BELOW_BYTES", "0");
    let data = disk.0.join("data");
    let server = Server::start_as(unguarded, &data, &[]);
    let mut acknowledged = BTreeMap::new();
    let mut refused = 0u64;
    let mut next = 0;
    let mut send = |refused: &mut u64, acknowledged: &mut BTreeMap<u64, String>| {
        next += 1;
        let id = format!("full-{next}");
        match deliver(&server, &id) {
            Ok(index) => assert_eq!(acknowledged.insert(index, id), None),
            Err(head) => {
                assert!(head.to_ascii_lowercase().contains("retry-after: "), "{head}");
                *refused += 1;
            }
        }
    };
    for _ in 0..5 {
        send(&mut refused, &mut acknowledged);
    }
    assert_eq!(refused, 0);
    disk.fill();
    // What the journal has room for is taken.
    let began = Instant::now();
    while refused < 10 {
        send(&mut refused, &mut acknowledged);
        assert!(began.elapsed() < PATIENCE, "it is never full: {}", acknowledged.len());
    }
    fs::remove_file(disk.ballast()).unwrap();
    let (began, had) = (Instant::now(), acknowledged.len());
    while acknowledged.len() < had + 5 {
        send(&mut refused, &mut acknowledged);
        assert!(began.elapsed() < PATIENCE, "it does not recover");
    }
    let began = Instant::now();
    let told = loop {
        server.settled();
        let gaps = gaps(&server);
        if gaps.iter().map(|(_, count)| count).sum::<u64>() >= refused {
            break gaps;
        }
        assert!(began.elapsed() < PATIENCE, "{refused} were refused, on record are {gaps:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert!(told.iter().all(|(what, _)| what == "disk_full"), "{told:?}");
    assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), refused, "{told:?}");
    for (index, id) in &acknowledged {
        let (status, entry) = server.get(&format!("/api/v1/entries/{index}"));
        assert_eq!((status, entry["body"]["fact"]["run"]["uid"].as_str()), (200, Some(id.as_str())), "entry {index}");
    }
    server.stop();
    verified(&data);
    eprintln!("{} acknowledged, all there; {refused} refused, told in {} gaps", acknowledged.len(), told.len());
}

fn verified(data: &Path) {
    let verified = program().arg("verify").arg("--data").arg(data).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}
