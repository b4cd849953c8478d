//! The recorded stories, packed into the program, and the questions that they answer.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{
    SourceId,
    identity::{Declared, SourceKind},
};
use serde::Deserialize;

use crate::feed::Feed;

/// One recording: some minutes of a pipeline, a mesh and its identities on one clock.
pub(super) struct Story {
    /// Its name.
    pub(super) name: &'static str,
    /// What each source wrote.
    pub(super) feeds: Vec<Feed>,
}

/// A question of the README and the commands that answer it.
pub(super) struct Question {
    /// `Q1` to `Q6`.
    pub(super) id: &'static str,
    /// In the asker's words.
    pub(super) asks: &'static str,
    /// Command lines, without the program's name.
    pub(super) commands: &'static [&'static [&'static str]],
    /// What to say when this version has no answer.
    pub(super) without: &'static str,
}

/// Declares one file of a story: its path inside the story's folder and what its owner would declare.
macro_rules! files {
    ($story:literal: $($path:literal $format:ident $name:literal $($workload:literal)?;)*) => {
        &[$(File {
            path: $path,
            kind: SourceKind::$format,
            source: $name,
            workload: files!(@workload $($workload)?),
            packed: include_bytes!(concat!("../../../../tests/fixtures/stories/", $story, "/", $path, ".gz")),
        }),*]
    };
    (@workload) => { "" };
    (@workload $workload:literal) => { $workload };
}

/// One packed file.
struct File {
    path: &'static str,
    kind: SourceKind,
    source: &'static str,
    /// `namespace/workload` of the sidecar that writes it; empty for the others.
    workload: &'static str,
    packed: &'static [u8],
}

/// NGINX's `log_format` of the gateway's stream lines, as its configuration has it.
const GATEWAY_STREAM: &str = "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time \
                              \"$upstream_addr\" \"$upstream_bytes_sent\" \"$upstream_bytes_received\" \
                              \"$upstream_connect_time\"";

const STORIES: &[(&str, &[File])] = &[
    (
        "release-adds-an-edge",
        files! { "release-adds-an-edge":
            "tekton.jsonl" CloudEvents "tekton";
            "k8s-audit.jsonl" K8sAudit "kube-apiserver";
            "pods.jsonl" K8sObjects "kubectl";
            "spire-server.log" Spire "spire-server";
            "spire-agent-node-1.log" Spire "spire-agent-node-1";
            "spire-agent-node-2.log" Spire "spire-agent-node-2";
            "spiffe-helper.gateway.log" SpiffeHelper "gateway" "shop/gateway";
            "spiffe-helper.ledger.log" SpiffeHelper "ledger" "payments/ledger";
            "spiffe-helper.ledger-v2.log" SpiffeHelper "ledger-v2" "payments/ledger";
            "spiffe-helper.scorer.log" SpiffeHelper "scorer" "fraud/scorer";
            "spiffe-helper.quotes.log" SpiffeHelper "quotes" "payments/quotes";
            "lb/access.json.log" NginxAccess "edge-lb" "edge/edge-lb";
            "gateway/error.log" NginxError "gateway" "shop/gateway";
            "gateway/access.json.log" NginxAccess "gateway" "shop/gateway";
            "gateway/stream.log" NginxAccess "gateway" "shop/gateway";
            "ledger/error.log" NginxError "ledger" "payments/ledger";
            "ledger/access.json.log" NginxAccess "ledger" "payments/ledger";
            "ledger/stream.log" NginxAccess "ledger" "payments/ledger";
            "ledger-v2/error.log" NginxError "ledger-v2" "payments/ledger";
            "ledger-v2/access.json.log" NginxAccess "ledger-v2" "payments/ledger";
            "ledger-v2/stream.log" NginxAccess "ledger-v2" "payments/ledger";
            "scorer/error.log" NginxError "scorer" "fraud/scorer";
            "scorer/access.json.log" NginxAccess "scorer" "fraud/scorer";
            "quotes/error.log" NginxError "quotes" "payments/quotes";
            "quotes/access.json.log" NginxAccess "quotes" "payments/quotes";
        },
    ),
    (
        "failed-release-rolled-back",
        files! { "failed-release-rolled-back":
            "tekton.jsonl" CloudEvents "tekton";
            "k8s-audit.jsonl" K8sAudit "kube-apiserver";
            "pods.jsonl" K8sObjects "kubectl";
            "spire-server.log" Spire "spire-server";
            "spire-agent-node-1.log" Spire "spire-agent-node-1";
            "spire-agent-node-2.log" Spire "spire-agent-node-2";
            "spiffe-helper.gateway.log" SpiffeHelper "gateway" "shop/gateway";
            "spiffe-helper.ledger.log" SpiffeHelper "ledger" "payments/ledger";
            "spiffe-helper.scorer.log" SpiffeHelper "scorer" "fraud/scorer";
            "spiffe-helper.scorer-v2.log" SpiffeHelper "scorer-v2" "fraud/scorer";
            "spiffe-helper.quotes.log" SpiffeHelper "quotes" "payments/quotes";
            "lb/access.json.log" NginxAccess "edge-lb" "edge/edge-lb";
            "gateway/error.log" NginxError "gateway" "shop/gateway";
            "gateway/access.json.log" NginxAccess "gateway" "shop/gateway";
            "gateway/stream.log" NginxAccess "gateway" "shop/gateway";
            "ledger/error.log" NginxError "ledger" "payments/ledger";
            "ledger/access.json.log" NginxAccess "ledger" "payments/ledger";
            "ledger/stream.log" NginxAccess "ledger" "payments/ledger";
            "scorer/error.log" NginxError "scorer" "fraud/scorer";
            "scorer/access.json.log" NginxAccess "scorer" "fraud/scorer";
            "scorer-v2/error.log" NginxError "scorer-v2" "fraud/scorer";
            "scorer-v2/access.json.log" NginxAccess "scorer-v2" "fraud/scorer";
            "quotes/error.log" NginxError "quotes" "payments/quotes";
        },
    ),
    (
        "token-not-rotated-then-renewed",
        files! { "token-not-rotated-then-renewed":
            "tekton.jsonl" CloudEvents "tekton";
            "k8s-audit.jsonl" K8sAudit "kube-apiserver";
            "pods.jsonl" K8sObjects "kubectl";
            "spire-server.log" Spire "spire-server";
            "spire-agent-node-1.log" Spire "spire-agent-node-1";
            "spire-agent-node-2.log" Spire "spire-agent-node-2";
            "spiffe-helper.gateway.log" SpiffeHelper "gateway" "shop/gateway";
            "spiffe-helper.ledger.log" SpiffeHelper "ledger" "payments/ledger";
            "spiffe-helper.scorer.log" SpiffeHelper "scorer" "fraud/scorer";
            "spiffe-helper.quotes.log" SpiffeHelper "quotes" "payments/quotes";
            "lb/error.log" NginxError "edge-lb" "edge/edge-lb";
            "lb/access.json.log" NginxAccess "edge-lb" "edge/edge-lb";
            "gateway/error.log" NginxError "gateway" "shop/gateway";
            "gateway/access.json.log" NginxAccess "gateway" "shop/gateway";
            "gateway/stream.log" NginxAccess "gateway" "shop/gateway";
            "ledger/error.log" NginxError "ledger" "payments/ledger";
            "ledger/access.json.log" NginxAccess "ledger" "payments/ledger";
            "ledger/stream.log" NginxAccess "ledger" "payments/ledger";
            "scorer/error.log" NginxError "scorer" "fraud/scorer";
            "scorer/access.json.log" NginxAccess "scorer" "fraud/scorer";
            "quotes/error.log" NginxError "quotes" "payments/quotes";
        },
    ),
];

/// Unpacks all stories. Each is a cluster of its own: they were recorded one after the other on the same addresses.
pub(super) fn open() -> Result<Vec<Story>> {
    STORIES
        .iter()
        .map(|(name, files)| {
            let feeds = files.iter().map(|file| feed(name, file)).collect::<Result<_>>()?;
            Ok(Story { name, feeds })
        })
        .collect()
}

fn feed(story: &str, file: &File) -> Result<Feed> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file.packed)
        .read_to_end(&mut bytes)
        .with_context(|| format!("unpack {story}/{}", file.path))?;
    let log_format = (file.path == "gateway/stream.log").then_some(GATEWAY_STREAM);
    let declared = file.workload.split_once('/').map_or_else(Declared::default, |(namespace, workload)| Declared {
        namespace: Some(namespace.into()),
        workload: Some(workload.into()),
        ..Declared::default()
    });
    Ok(Feed {
        id: SourceId { cluster: story.into(), kind: file.kind, name: file.source.into(), instance: String::new() },
        declared,
        zone: chrono_tz::UTC,
        log_format: log_format.map(ToOwned::to_owned),
        format: crate::lines::format(file.kind, log_format)?,
        bytes,
    })
}

/// Names and values.
type Headers = Vec<(String, String)>;

/// A recorded delivery, as far as it is sent again.
#[derive(Deserialize)]
struct Recorded {
    headers: Headers,
    body_b64: String,
}

/// Headers that a client sets by itself for the connection at hand.
const OURS: [&str; 5] = ["host", "content-length", "accept-encoding", "connection", "transfer-encoding"];

/// Headers and body of one recorded delivery.
pub(super) fn delivery(line: &[u8]) -> Result<(Headers, Vec<u8>)> {
    let recorded: Recorded = serde_json::from_slice(line).context("read a recorded delivery")?;
    let headers = recorded.headers.into_iter().filter(|(name, _)| !OURS.contains(&name.to_ascii_lowercase().as_str()));
    let body = STANDARD.decode(&recorded.body_b64).context("read a recorded body")?;
    Ok((headers.collect(), body))
}

/// The questions in the order of the README.
pub(super) const QUESTIONS: &[Question] = &[
    Question {
        id: "Q1",
        asks: "which run, which commit put this on the mesh, and who started that run?",
        commands: &[&["show", "ci/release-ledger-xsjlx"]],
        without: "",
    },
    Question {
        id: "Q2",
        asks: "why did this handshake fail?",
        commands: &[
            &["search", "type:handshake.failed", "--limit", "12"],
            &["why", "gateway->ledger", "--at", "2026-11-23T16:45:00Z"],
        ],
        without: "",
    },
    Question {
        id: "Q3",
        asks: "which rollout moved traffic on this edge?",
        commands: &[],
        without: "not in this version; the counts per edge and minute are kept: counterfoil search 'type:entry.edges'",
    },
    Question {
        id: "Q4",
        asks: "did any identity act outside its pipeline, stage, lifetime, or without mTLS?",
        commands: &[],
        without: "not in this version",
    },
    Question {
        id: "Q5",
        asks: "what changed before this incident?",
        commands: &[],
        without: "not in this version; who changed what is kept: counterfoil search 'type:entry.action'",
    },
];

/// What this version leaves out.
pub(super) const NOT_SHOWN: &str =
    "approvals (no feed), witness (none: keep `counterfoil checkpoint` elsewhere), Q3 to Q5";
