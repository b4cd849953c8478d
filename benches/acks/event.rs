//! The body that is sent: a recorded TaskRun event, made longer by further steps.

use serde_json::Value;
use std::io::Read as _;

const RECORDING: &[u8] = include_bytes!("../../tests/fixtures/tekton/1.15/taskrun-success.jsonl.gz");

/// A body, and where the uid stands in it.
pub(crate) struct Event {
    bytes: Vec<u8>,
    uid: usize,
}

const UID: &str = "00000000-0000-4000-8000-000000000000";

/// The last recorded TaskRun event with as many steps as make it about so many bytes.
pub(crate) fn of(bytes: usize) -> Event {
    let mut lines = String::new();
    flate2::read::GzDecoder::new(RECORDING).read_to_string(&mut lines).expect("a recording");
    let mut event = lines
        .lines()
        .filter_map(|line| {
            use base64::Engine as _;
            let delivery: Value = serde_json::from_str(line).ok()?;
            let body = base64::engine::general_purpose::STANDARD.decode(delivery["body_b64"].as_str()?).ok()?;
            let event: Value = serde_json::from_slice(&body).ok()?;
            event["taskRun"]["status"]["steps"].as_array().filter(|steps| !steps.is_empty())?;
            (body.len() <= 4 << 10).then_some(event)
        })
        .next_back()
        .expect("an event with steps");
    event["taskRun"]["metadata"]["uid"] = UID.into();
    let status = &mut event["taskRun"]["status"];
    for list in ["/steps", "/taskSpec/steps"] {
        let step = status.pointer(list).and_then(|steps| steps.get(0)).cloned();
        for n in 0.. {
            let Some(steps) = status.pointer_mut(list).and_then(Value::as_array_mut) else { break };
            let half = if list == "/steps" { bytes / 2 } else { bytes };
            let Some(mut step) = step.clone() else { break };
            step["name"] = format!("step-{n}").into();
            steps.push(step);
            if status.to_string().len() + 1500 > half {
                break;
            }
        }
    }
    let bytes = event.to_string().into_bytes();
    let uid = memchr::memmem::find(&bytes, UID.as_bytes()).expect("the uid is there");
    Event { bytes, uid }
}

impl Event {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The uid in event `n`.
    pub(crate) fn uid_of(&self, n: usize) -> String {
        let uid = &self.bytes[self.uid + 8..self.uid + UID.len()];
        format!("{n:08x}{}", String::from_utf8_lossy(uid))
    }

    /// Puts the body of event `n` at the end of `out`.
    pub(crate) fn write(&self, n: usize, out: &mut Vec<u8>) {
        let from = out.len() + self.uid;
        out.extend_from_slice(&self.bytes);
        out[from..from + 8].copy_from_slice(format!("{n:08x}").as_bytes());
    }
}
