//! Scenario files: compact entries in, expected records out. A bug report is a scenario file.
//!
//! ```text
//! # a comment
//! 12:00:31 credential spire:agent-1 spiffe://prod.example/ns/ci/sa/deployer renewing replaces=12:30:00
//! 12:00:40 handshake nginx-error:payments server 10.0.9.4 verify_failed code=10 server=10.0.9.1:8443
//! 12:05:00 heartbeat nginx-error:payments spire:agent-1
//! --- expect
//! handshake.failed cause=renewed_on_disk_but_not_reloaded standing=consistent supports=1 settled
//! no credential.stalled
//! ```
//!
//! Each line is one append of one entry; entries count from 1 as their lines do. Times are of 2026-11-23, UTC. A source
//! is `kind:name`, in another cluster `cluster>kind:name`; entries without a source take `cluster=`. `from_peer=` is the
//! address of an anonymous submitter; without it this machine read the line itself. Values with spaces
//! stand in double quotes. A heartbeat says that its sources are complete up to its own time, or up to `complete=`. A
//! line that begins with `{` is a whole body in JSON; `counterfoil explain --as-scenario` writes such files.

mod expect;

use std::collections::BTreeMap;

pub use expect::check;

use model::{
    Body, Entry, Fact, SourceId, Text, Time, When,
    action::{Action, BoundPod},
    credential::{Credential, CredentialEvent, Trouble},
    edges::{Answer, Direction, EdgeRow, Edges, TlsSeen},
    entry::{Place, Stamp},
    handshake::{Failure, Handshake, Layer, Side},
    identity::{Actor, DEFAULT_CLUSTER, Declared, PersonRef, Serial, SourceKind, Submitter},
    own::{Gap, Heartbeat, Import, Watermark},
    run::{ArtifactClaim, ChildRef, CommitClaim, Envelope, Parent, Run, RunAccount, RunKind, RunState},
    workload::{ContainerImage, Owner, Workload},
};

/// A scenario: entries and expectations.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The entries, in the order of their lines.
    pub entries: Vec<Entry>,
    /// The lines after `--- expect`.
    pub expect: Vec<String>,
}

/// The words of one line.
struct Words {
    plain: Vec<String>,
    named: BTreeMap<String, String>,
}

impl Words {
    fn read(line: &str) -> Self {
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        let mut words: Vec<String> = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().into_iter().for_each(|word| word.push(c)),
            }
        }
        for word in words.into_iter().filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some((key, value)) => {
                    named.insert(key.to_owned(), value.to_owned());
                }
                None => plain.push(word),
            }
        }
        Self { plain, named }
    }

    fn at(&self, n: usize) -> Result<&str, String> {
        self.plain.get(n).map(String::as_str).ok_or_else(|| format!("word {} is missing", n + 1))
    }

    fn get(&self, key: &str) -> Option<String> {
        self.named.get(key).cloned()
    }

    fn time(&self, key: &str) -> Result<Option<Time>, String> {
        self.named.get(key).map(|text| time(text)).transpose()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let read = |text: &String| text.parse().map_err(|_| format!("`{key}={text}` is no number"));
        self.named.get(key).map(read).transpose()
    }

    fn has(&self, word: &str) -> bool {
        self.plain.iter().any(|known| known == word)
    }
}

fn time(text: &str) -> Result<Time, String> {
    Time::parse(&format!("2026-11-23T{text}Z")).ok_or_else(|| format!("`{text}` is no time of day"))
}

fn source(text: &str) -> Result<SourceId, String> {
    let (cluster, text) = text.split_once('>').unwrap_or((DEFAULT_CLUSTER, text));
    let (kind, name) = text.split_once(':').ok_or_else(|| format!("`{text}` is no source, such as spire:agent-1"))?;
    let kind = SourceKind::from_format(kind).ok_or_else(|| format!("`{kind}` is no kind of source"))?;
    Ok(SourceId { cluster: cluster.into(), kind, name: name.into(), instance: String::new() })
}

/// Reads a word as the model writes it.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.into())).map_err(|e| e.to_string())
}

impl Scenario {
    /// Reads a scenario file; the error names the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let (mut entries, mut expect) = (Vec::new(), Vec::new());
        let mut expecting = false;
        for (n, line) in (1..).zip(text.lines()) {
            if line.starts_with('{') && !expecting {
                let index = entries.len() as u64 + 1;
                entries.push(whole(line, index).map_err(|e| format!("line {n}: {e}"))?);
                continue;
            }
            let line = line.split("  #").next().unwrap_or(line).trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with("---") {
                expecting = true;
            } else if expecting {
                expect.push(line.to_owned());
            } else {
                let index = entries.len() as u64 + 1;
                entries.push(entry(line, index).map_err(|e| format!("line {n}: {e}\n  {line}"))?);
            }
        }
        Ok(Self { entries, expect })
    }
}

/// A line that is a whole body in JSON, as `counterfoil explain --as-scenario` writes it.
fn whole(line: &str, index: u64) -> Result<Entry, String> {
    let body: Body = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let at = body.observed_at;
    let tick = u64::try_from(at.millis()).unwrap_or(0);
    Ok(Entry { index, stamp: Stamp { recorded_at: at, tick, append: index, part: [1, 1] }, body })
}

fn entry(line: &str, index: u64) -> Result<Entry, String> {
    let words = Words::read(line);
    let at = time(words.at(0)?)?;
    let mut declared = Declared::default();
    let (mut source, fact) = match words.at(1)? {
        "run" => (source("cloudevents:tekton")?, run(&words, at)?),
        "credential" => (source(words.at(2)?)?, credential(&words, at)?),
        "handshake" => (source(words.at(2)?)?, handshake(&words, at)?),
        "edges" => (source(words.at(2)?)?, edges(&words, at)?),
        "workload" => (source("k8s-objects:kubectl")?, workload(&words, at)?),
        "action" => (source("k8s-audit:api-server")?, action(&words, at)?),
        "import" => (source(words.at(2)?)?, import(&words, at)?),
        "gap" => (ours(), gap(&words)?),
        "heartbeat" => (ours(), heartbeat(&words, at)?),
        other => return Err(format!("`{other}` is no kind of entry")),
    };
    if let Some(cluster) = words.get("cluster") {
        source.cluster = cluster;
    }
    declared.node = words.get("on_node");
    declared.workload = words.get("is_workload");
    let place = match &fact {
        Fact::Run(_) | Fact::Heartbeat(_) => None,
        _ => Some(Place::File { file: source.to_string(), offset: index * 100 }),
    };
    let tick = u64::try_from(at.millis() - time("00:00:00")?.millis()).unwrap_or(0);
    Ok(Entry {
        index,
        stamp: Stamp { recorded_at: at, tick, append: index, part: [1, 1] },
        body: Body {
            v: Body::VERSION,
            source,
            declared,
            parser: "scenario/1".into(),
            observed_at: at,
            submitter: match words.get("from_peer") {
                Some(peer) => Submitter::Anonymous { peer },
                None => Submitter::Local,
            },
            place,
            payload: None,
            pruned: None,
            redacted: Vec::new(),
            cut: Vec::new(),
            fact,
        },
    })
}

fn ours() -> SourceId {
    SourceId {
        cluster: DEFAULT_CLUSTER.into(),
        kind: SourceKind::Counterfoil,
        name: "counterfoil".into(),
        instance: String::new(),
    }
}

/// `run pipelinerun/NAME STATE uid= ns= sa= commit= digest= pod= parent= child= reason= attempt= started= completed=`
fn run(words: &Words, at: Time) -> Result<Fact, String> {
    let (kind, name) = words.at(2)?.split_once('/').ok_or("a run is kind/name")?;
    let kind = match kind {
        "pipelinerun" => RunKind::PipelineRun,
        "taskrun" => RunKind::TaskRun,
        "customrun" => RunKind::CustomRun,
        other => return Err(format!("`{other}` is no kind of run")),
    };
    let state: RunState = word(words.at(3)?)?;
    let parent = words.get("parent").map(|parent| match parent.split_once('/') {
        Some((name, uid)) => Parent { name: name.into(), uid: Some(uid.into()) },
        None => Parent { name: parent, uid: None },
    });
    let commit = words.get("commit").map(|revision| CommitClaim {
        revision: Some(revision),
        repository: None,
        source: "result commit".into(),
        grade: model::Grade::Asserted,
    });
    let artifact = words.get("digest").map(|digest| ArtifactClaim {
        uri: None,
        digest: Some(digest),
        source: "result IMAGE_DIGEST".into(),
        grade: model::Grade::Asserted,
    });
    let child = words.get("child").map(|name| ChildRef { kind: "TaskRun".into(), name, pipeline_task: None });
    let run = Run {
        kind,
        namespace: Some(words.get("ns").unwrap_or_else(|| "ci".into())),
        name: name.into(),
        uid: words.get("uid"),
        parent,
        pipeline: None,
        pipeline_task: None,
        task: None,
        state,
        reason: words.get("reason").unwrap_or_default(),
        message: String::new(),
        attempt: words.number("attempt")?.unwrap_or(0),
        created: None,
        started: words.time("started")?,
        completed: words.time("completed")?.or(state.is_terminal().then_some(at)),
        transition: Some(at),
        steps: Vec::new(),
        service_accounts: words.get("sa").map(|name| RunAccount { task: None, name }).into_iter().collect(),
        pods: words.get("pod").into_iter().collect(),
        commits: commit.into_iter().collect(),
        artifacts: artifact.into_iter().collect(),
        children: child.into_iter().collect(),
        skipped: Vec::new(),
        trigger: None,
        traceparent: None,
        sender: words.get("sender").map(PersonRef),
        event: Envelope {
            id: format!("{at}{name}"),
            source: "/apis///".into(),
            kind: format!("dev.tekton.event.{}.{}.v1", kind.as_str().to_lowercase(), state.as_str()),
            subject: None,
            time: Some(at),
        },
    };
    Ok(Fact::Run(Box::new(run)))
}

/// `credential SOURCE SPIFFE|- EVENT replaces= not_after= serial= ttl= trouble= says=`
fn credential(words: &Words, at: Time) -> Result<Fact, String> {
    let event: CredentialEvent = word(words.at(4)?)?;
    let trouble: Option<Trouble> = words.get("trouble").map(|text| word(&text)).transpose()?;
    Ok(Fact::Credential(Credential {
        occurred: When::exact(at),
        event,
        spiffe_id: Some(words.at(3)?.to_owned()).filter(|id| id != "-"),
        entry_id: None,
        agent_id: None,
        serial: words.get("serial").and_then(|serial| Serial::from_hex(&serial)),
        not_after: words.time("not_after")?,
        replaces_not_after: words.time("replaces")?,
        ttl_seconds: words.number("ttl")?,
        trouble,
        pid: words.number("pid")?,
        tainted: words.has("tainted"),
        message: Text::from(words.get("says").unwrap_or_else(|| event.as_str().into()).as_str()),
    }))
}

/// `handshake SOURCE server|client PEER FAILURE code= alert= server= client= doing= count= [stream] [tainted]`
fn handshake(words: &Words, at: Time) -> Result<Fact, String> {
    let side: Side = word(words.at(3)?)?;
    let peer = words.at(4)?.to_owned();
    let failure: Failure = word(words.at(5)?)?;
    let doing = words.get("doing").unwrap_or_else(|| "SSL handshaking".into());
    let (client, upstream) = match side {
        Side::Server => (Some(peer), None),
        Side::Client => (words.get("client"), Some(peer)),
    };
    Ok(Fact::Handshake(Handshake {
        occurred: When::second(at),
        side,
        layer: if words.has("stream") { Layer::Stream } else { Layer::Http },
        failure,
        verify_code: words.number("code")?,
        reason: None,
        alert: words.number("alert")?,
        alert_disputed: false,
        expected_name: None,
        client,
        server: words.get("server"),
        upstream,
        message: Text::from(format!("{} while {doing}", failure.as_str()).as_str()),
        pid: 7,
        connection: None,
        tainted: words.has("tainted"),
        truncated: false,
        count: words.number("count")?.unwrap_or(1),
    }))
}

/// `edges SOURCE in|out PEER STATUS[:N[:UPSTREAM]]… verify= serial= id= subject= issuer= not_before= not_after=
/// name= upstream= kept= after_expiry= last=`
fn edges(words: &Words, at: Time) -> Result<Fact, String> {
    let direction: Direction = word(words.at(3)?)?;
    let last = words.time("last")?.unwrap_or(at);
    let mut answers = Vec::new();
    for answer in &words.plain[5..] {
        let mut parts = answer.split(':');
        let status =
            parts.next().and_then(|text| text.parse().ok()).ok_or_else(|| format!("`{answer}` is no answer"))?;
        let n = parts.next().map_or(Ok(1), str::parse).map_err(|_| format!("`{answer}` has no count"))?;
        answers.push(Answer { status, upstream: parts.next().map(Into::into), n, first: at, last });
    }
    let tls = TlsSeen {
        protocol: None,
        verify: words.get("verify"),
        serial: words.get("serial").and_then(|serial| Serial::from_hex(&serial)),
        spiffe_id: words.get("id"),
        subject: words.get("subject"),
        issuer: words.get("issuer"),
        not_before: words.time("not_before")?,
        not_after: words.time("not_after")?,
    };
    let row = EdgeRow {
        minute: at.minute(),
        direction,
        peer: words.at(4)?.into(),
        server_name: words.get("name"),
        upstream_name: words.get("upstream"),
        pod: words.get("pod"),
        stream: false,
        tls: (tls != TlsSeen::default()).then_some(tls),
        requests: answers.iter().map(|answer| answer.n).sum(),
        answers,
        resumed: 0,
        kept_alive: words.number("kept")?.unwrap_or(0),
        after_expiry: words.number("after_expiry")?.unwrap_or(0),
        empty: 0,
        first: at,
        last,
    };
    Ok(Fact::Edges(Edges { rows: vec![row] }))
}

/// `workload NS/POD ip= node= sa= owner=Kind/name digest= created=`
fn workload(words: &Words, at: Time) -> Result<Fact, String> {
    let (namespace, name) = words.at(2)?.split_once('/').ok_or("a pod is namespace/name")?;
    let owner = words.get("owner").and_then(|owner| {
        let (kind, name) = owner.split_once('/')?;
        Some(Owner { kind: kind.into(), name: name.into(), uid: format!("uid-{name}") })
    });
    let images = words.get("digest").map(|digest| ContainerImage {
        container: "app".into(),
        image: "images.example/app".into(),
        digest: Some(digest),
    });
    Ok(Fact::Workload(Workload {
        occurred: When::exact(at),
        kind: "Pod".into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        owner,
        node: words.get("node"),
        addresses: words.get("ip").into_iter().collect(),
        service_account: words.get("sa"),
        template_hash: None,
        images: images.into_iter().collect(),
        task_run: None,
        phase: Some("Running".into()),
        created: words.time("created")?,
        deleted: None,
    }))
}

/// `action ACTOR VERB RESOURCE NS/NAME pod=ns/name uid= status=`; an actor is `ns:account` or a person.
fn action(words: &Words, at: Time) -> Result<Fact, String> {
    let actor = match words.at(2)?.split_once(':') {
        Some((namespace, name)) => Actor::ServiceAccount { namespace: namespace.into(), name: name.into() },
        None => Actor::Person { person: PersonRef(words.at(2)?.into()) },
    };
    let (namespace, name) = words.at(5)?.split_once('/').ok_or("an object is namespace/name")?;
    let pod = words.get("pod").and_then(|pod| {
        let (namespace, name) = pod.split_once('/')?;
        Some(BoundPod { namespace: namespace.into(), name: name.into(), uid: None })
    });
    Ok(Fact::Action(Action {
        occurred: When::exact(at),
        verb: words.at(3)?.into(),
        group: String::new(),
        resource: words.at(4)?.into(),
        subresource: None,
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: words.get("uid"),
        actor,
        impersonated: None,
        groups: Vec::new(),
        pod,
        credential_id: None,
        status: words.number("status")?.or(Some(200)),
        changes: Vec::new(),
        audit_id: format!("audit-{at}"),
        refusal: None,
        stage: "ResponseComplete".into(),
    }))
}

/// `import SOURCE levels=info,error lines= understood= opaque= complete=`
fn import(words: &Words, at: Time) -> Result<Fact, String> {
    let levels = words.get("levels").unwrap_or_default();
    let levels = levels.split(',').filter(|level| !level.is_empty()).map(|level| (level.to_owned(), 1)).collect();
    Ok(Fact::Import(Import {
        lines: words.number("lines")?.unwrap_or(1),
        understood: words.number("understood")?.unwrap_or(0),
        passed: 0,
        opaque: words.number("opaque")?.unwrap_or(0),
        levels,
        oldest: Some(at),
        newest: Some(at),
        complete_to: words.time("complete")?,
        taken: None,
    }))
}

/// `gap SOURCE WHAT from= to=`
fn gap(words: &Words) -> Result<Fact, String> {
    Ok(Fact::Gap(Gap {
        what: words.at(3)?.into(),
        source: Some(source(words.at(2)?)?),
        count: None,
        from: words.time("from")?,
        to: words.time("to")?,
        detail: String::new(),
    }))
}

/// `heartbeat SOURCE… complete=`
fn heartbeat(words: &Words, at: Time) -> Result<Fact, String> {
    let complete_to = Some(words.time("complete")?.unwrap_or(at));
    let mut sources = Vec::new();
    for name in &words.plain[2..] {
        sources.push(Watermark {
            source: source(name)?,
            position: None,
            behind: Some(0),
            newest: Some(at),
            complete_to,
        });
    }
    Ok(Fact::Heartbeat(Heartbeat { life: "scenario".into(), phase: "beat".into(), sources }))
}
