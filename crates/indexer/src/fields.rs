//! Every field of a document, declared once: name, type, how values are matched, and its sentence in the reference.
//!
//! Names are OpenTelemetry's (semantic conventions for CI/CD, VCS, TLS, Kubernetes, CloudEvents) where they exist. A
//! field that one filters or sorts by is a fast field, with values kept whole, so that aggregations work on it. Ids are not:
//! nearly every document has another one, so a column of them is as large as their dictionary, and says the same.

use tantivy::{
    DateTime, Term,
    schema::{
        DateOptions, DateTimePrecision, FAST, Field as Handle, IndexRecordOption, NumericOptions, STORED, Schema,
        SchemaBuilder, TextFieldIndexing, TextOptions,
    },
};

/// Changes whenever documents mean something else, even if the tantivy schema stays the same: an index of another
/// version is deleted and built again.
pub const SCHEMA_VERSION: u32 = 3;

/// Shortest value that is matched as a beginning in a field of [`Match::Prefix`].
pub const SHORTEST_PREFIX: usize = 4;

/// Type of a field and how a value without wildcards matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value kept whole.
    Keyword(Case, Match),
    /// Words, in lower case.
    Text,
    /// Whole number from 0.
    Number,
    /// Point in time.
    Date,
}

/// Which case a keyword is kept in. Asked values are folded the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// As it is.
    Kept,
    /// Lower: hexadecimal ids, and words of a fixed list.
    Lower,
    /// Upper: record ids and serial numbers.
    Upper,
}

/// What a value without wildcards matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The whole value.
    Whole,
    /// Values that begin so, from [`SHORTEST_PREFIX`] characters on.
    Prefix,
    /// The whole value, or what stands after its last `/`.
    LastPart,
    /// The whole value, or values that go on with a dot.
    Dotted,
}

/// Declares the fields once: the enum, the table, the names.
macro_rules! fields {
    ($($variant:ident = $name:literal, $kind:expr, $doc:literal;)*) => {
        /// A field of a document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $(#[doc = $doc] $variant,)* }

        impl Field {
            /// Every field, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in queries and documents.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its type.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => $kind,)* }
            }

            /// One sentence for the reference.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

const WHOLE: Kind = Kind::Keyword(Case::Kept, Match::Whole);
const WORD: Kind = Kind::Keyword(Case::Lower, Match::Whole);
const NAMED: Kind = Kind::Keyword(Case::Kept, Match::LastPart);
const HEX: Kind = Kind::Keyword(Case::Lower, Match::Prefix);
const UPPER_ID: Kind = Kind::Keyword(Case::Upper, Match::Prefix);

fields! {
    Id = "id", UPPER_ID, "Record id.";
    Type = "type", Kind::Keyword(Case::Lower, Match::Dotted), "Record type (`handshake.failed`), or `entry.` and the kind of the fact (`entry.run`).";
    Entry = "entry", Kind::Number, "Index of an entry.";
    Evidence = "evidence", Kind::Number, "Entries that a record rests on.";
    Time = "time", Kind::Date, "Last moment that the document tells of, by the source's clock; hits are sorted by it.";
    Start = "start", Kind::Date, "First moment that it tells of.";
    State = "state", WORD, "How final a record is: `provisional`, `settled`, `revised`, `withdrawn`.";
    Revision = "revision", Kind::Number, "Revision of a record.";
    Count = "count", Kind::Number, "How many facts of one kind it stands for.";
    Summary = "summary", Kind::Text, "The sentence that is shown.";
    Text = "text", Kind::Text, "All words: summary, messages, names; and the beginnings of ids. Words without a field are looked for here.";
    Cause = "cause", WORD, "Why calls failed.";
    Standing = "standing", WORD, "How the cause stands: `established`, `consistent`, `undetermined`.";
    RuledOut = "cause.ruled_out", WORD, "Causes that evidence contradicts.";
    Missing = "missing", WHOLE, "What would have been needed and is not there.";
    Source = "source", WHOLE, "Name of the source.";
    SourceKind = "source.kind", WORD, "Kind of the source: `cloudevents`, `nginx-error`, `spire`, ….";
    Run = "run", NAMED, "Run that the document is about or linked to, `namespace/name`.";
    RunKind = "run.kind", WORD, "`pipelinerun`, `taskrun`, `customrun`, `run`.";
    RunState = "run.state", WORD, "`queued`, `started`, `running`, `successful`, `failed`, `unknown`.";
    RunReason = "run.reason", WHOLE, "Reason of the run's condition, as Tekton spells it.";
    RunParent = "run.parent", NAMED, "PipelineRun that a run belongs to, `namespace/name`.";
    FixedBy = "fixed_by", NAMED, "Run that ended the trouble, `namespace/name`.";
    PipelineRunId = "cicd.pipeline.run.id", HEX, "uid of a PipelineRun, or of a run that a record is linked to.";
    TaskRunId = "cicd.pipeline.task.run.id", HEX, "uid of a TaskRun or CustomRun.";
    PipelineName = "cicd.pipeline.name", WHOLE, "Name of the Pipeline.";
    TaskName = "cicd.pipeline.task.name", WHOLE, "Name of the Task, and of the task inside the Pipeline.";
    PipelineResult = "cicd.pipeline.result", WORD, "How a run ended: `success`, `failure`, `timeout`, `cancellation`.";
    TriggerEvent = "trigger.event_id", HEX, "Request at an EventListener.";
    EventId = "cloudevents.event_id", Kind::Keyword(Case::Kept, Match::Prefix), "CloudEvents `id` of a delivery.";
    EventType = "cloudevents.event_type", WHOLE, "CloudEvents `type` of a delivery.";
    Commit = "vcs.ref.head.revision", HEX, "Every commit that is claimed or linked.";
    Repository = "vcs.repository.url.full", WHOLE, "Every repository that is claimed.";
    Digest = "oci.manifest.digest", HEX, "Digest of an image or artifact; `sha256:` may be left out.";
    Image = "container.image.name", WHOLE, "Address of an image or artifact.";
    ServiceAccount = "service_account", NAMED, "Service account, `namespace/name`.";
    Actor = "actor", NAMED, "Who did it: a service account (`namespace/name`), a node, a component.";
    Person = "person", HEX, "Reference of a person (`p-…`), never a name.";
    Verb = "action.verb", WORD, "Verb of an audited request.";
    Resource = "action.resource", WORD, "Resource of an audited request, such as `pipelineruns`.";
    EdgeSource = "edge.source", NAMED, "Calling end, `namespace/workload`, or its address.";
    EdgeDestination = "edge.destination", NAMED, "Called end, `namespace/workload`, or its address.";
    ClientAddress = "client.address", WHOLE, "Address of the calling end, without port.";
    ServerAddress = "server.address", WHOLE, "Address or server name of the called end.";
    PeerAddress = "network.peer.address", WHOLE, "The peer as the source names it.";
    Side = "side", WORD, "Which end saw a failure: `server` or `client`.";
    ErrorType = "error.type", WORD, "What failed: the failure of a handshake, the trouble with a credential, the reason of a failed run.";
    VerifyCode = "tls.verify_code", Kind::Number, "X.509 verify code.";
    Alert = "tls.alert", Kind::Number, "TLS alert number.";
    TlsVersion = "tls.protocol.version", WHOLE, "TLS version as NGINX writes it.";
    ClientSubject = "tls.client.subject", WHOLE, "Subject of the client certificate.";
    ClientIssuer = "tls.client.issuer", WHOLE, "Issuer of the client certificate.";
    NotAfter = "tls.client.not_after", Kind::Date, "End of validity of a certificate.";
    Serial = "serial", UPPER_ID, "Serial number of a certificate, in hexadecimal.";
    SpiffeId = "spiffe.id", NAMED, "SPIFFE ID; its last part alone also matches.";
    CredentialEvent = "credential.event", WORD, "Step in the life of a credential: `signed`, `renewing`, `loaded`, ….";
    Status = "http.response.status_code", Kind::Number, "Status of answers or audited requests.";
    Cluster = "k8s.cluster.name", WHOLE, "Cluster.";
    Namespace = "k8s.namespace.name", WHOLE, "Namespace.";
    Workload = "k8s.workload.name", NAMED, "Deployment, DaemonSet, Pod, …, `namespace/name`; declared or seen.";
    Pod = "k8s.pod.name", WHOLE, "Pod.";
    Node = "k8s.node.name", WHOLE, "Node.";
    Uid = "k8s.object.uid", HEX, "uid of another Kubernetes object than a run.";
}

impl Field {
    /// It holds ids, which are found by how they begin.
    pub const fn is_id(self) -> bool {
        matches!(self.kind(), Kind::Keyword(_, Match::Prefix))
    }
}

/// A word that may be an id or the beginning of one: such words are looked for in the fields that hold ids, and ids like
/// that need not stand among the words of a document.
pub(crate) fn like_an_id(word: &str) -> bool {
    word.chars().count() >= SHORTEST_PREFIX
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ':'))
        && word.chars().any(|c| c.is_ascii_digit())
}

/// A short name and what it stands for; a value may be in any of the fields.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The short name.
    pub name: &'static str,
    /// The fields.
    pub fields: &'static [Field],
}

const fn alias(name: &'static str, fields: &'static [Field]) -> Alias {
    Alias { name, fields }
}

/// Short names for people.
pub const ALIASES: &[Alias] = &[
    alias("run", &[Field::Run, Field::PipelineRunId, Field::TaskRunId]),
    alias("pipeline", &[Field::PipelineName]),
    alias("task", &[Field::TaskName]),
    alias("result", &[Field::PipelineResult]),
    alias("sa", &[Field::ServiceAccount]),
    alias("commit", &[Field::Commit]),
    alias("repo", &[Field::Repository]),
    alias("digest", &[Field::Digest]),
    alias("image", &[Field::Image]),
    alias("from", &[Field::EdgeSource, Field::ClientAddress]),
    alias("to", &[Field::EdgeDestination, Field::ServerAddress]),
    alias("peer", &[Field::PeerAddress]),
    alias("identity", &[Field::SpiffeId]),
    alias("error", &[Field::ErrorType]),
    alias("ns", &[Field::Namespace]),
    alias("pod", &[Field::Pod]),
    alias("node", &[Field::Node]),
    alias("cluster", &[Field::Cluster]),
    alias("workload", &[Field::Workload]),
    alias("uid", &[Field::PipelineRunId, Field::TaskRunId, Field::Uid]),
    alias("verb", &[Field::Verb]),
    alias("resource", &[Field::Resource]),
    alias("status", &[Field::Status]),
    alias("@timestamp", &[Field::Time]),
];

/// The fields of a name, an alias first: `run` looks for names and uids. `None` when there is none.
pub fn named(name: &str) -> Option<&'static [Field]> {
    if let Some(alias) = ALIASES.iter().find(|alias| alias.name == name) {
        return Some(alias.fields);
    }
    Field::ALL.iter().position(|field| field.name() == name).map(|at| &Field::ALL[at..=at])
}

/// The names nearest to one that does not exist, best first, at most three.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let names = ALIASES.iter().map(|alias| alias.name).chain(Field::ALL.iter().map(|field| field.name()));
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|known| {
            let distance = distance(name, known);
            // A name inside another (`revision` in `vcs.ref.head.revision`) is near, too.
            let part = known.split('.').any(|part| part == name);
            (part || distance <= 1 + known.len() / 4).then_some((if part { 1 } else { distance }, known))
        })
        .collect();
    near.sort_unstable();
    near.dedup_by_key(|(_, name)| *name);
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours. Names are short; longer ones
/// are cut.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(40).collect();
    let b: Vec<char> = b.chars().take(40).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

impl Case {
    /// The value in this case.
    pub fn fold(self, value: &str) -> String {
        match self {
            Self::Kept => value.to_owned(),
            Self::Lower => value.to_ascii_lowercase(),
            Self::Upper => value.to_ascii_uppercase(),
        }
    }
}

/// The name of the tie-breaking column, see [`crate::document::order`].
pub const ORDER: &str = "_order";

/// The tantivy side of the table.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The schema.
    pub schema: Schema,
    /// One per [`Field::ALL`].
    handles: Vec<Handle>,
    /// One per [`Field::ALL`]: where last parts are looked up; only for [`Match::LastPart`].
    parts: Vec<Option<Handle>>,
    /// Tie-breaker of equal times.
    pub order: Handle,
    /// What a hit gives back, JSON.
    pub stored: Handle,
}

impl Default for Layout {
    /// Builds the schema from the table.
    fn default() -> Self {
        let mut builder = SchemaBuilder::new();
        let mut handles = Vec::with_capacity(Field::ALL.len());
        let mut parts = Vec::with_capacity(Field::ALL.len());
        // Hits are sorted by time and never scored: a norm would be a byte of every document for every field.
        let unscored = TextFieldIndexing::default().set_fieldnorms(false);
        let whole = TextOptions::default()
            .set_indexing_options(unscored.clone().set_tokenizer("raw").set_index_option(IndexRecordOption::Basic));
        for field in Field::ALL {
            let name = field.name();
            let mut part = None;
            handles.push(match field.kind() {
                Kind::Keyword(_, matching) => {
                    if matching == Match::LastPart {
                        // Beside the field, so that aggregations over the field see whole values only.
                        part = Some(builder.add_text_field(&format!("_part.{name}"), whole.clone()));
                    }
                    let column = if field.is_id() { TextOptions::default() } else { FAST.into() };
                    builder.add_text_field(name, whole.clone() | column)
                }
                Kind::Text => {
                    let words = unscored
                        .clone()
                        .set_tokenizer("default")
                        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
                    builder.add_text_field(name, TextOptions::default().set_indexing_options(words))
                }
                Kind::Number => builder.add_u64_field(name, NumericOptions::default().set_indexed().set_fast()),
                Kind::Date => {
                    let options = DateOptions::default().set_fast().set_precision(DateTimePrecision::Nanoseconds);
                    builder.add_date_field(name, options)
                }
            });
            parts.push(part);
        }
        let order = builder.add_u64_field(ORDER, FAST);
        // Text and not bytes: those tantivy writes and reads one by one.
        let stored = builder.add_text_field("_stored", STORED);
        Self { schema: builder.build(), handles, parts, order, stored }
    }
}

impl Layout {
    /// tantivy's handle of a field.
    pub fn handle(&self, field: Field) -> Handle {
        self.handles[field as usize]
    }

    /// tantivy's handle of the last parts of a field, if it has them.
    pub fn part(&self, field: Field) -> Option<Handle> {
        self.parts[field as usize]
    }
}

/// A time as tantivy has it.
pub fn date(time: model::Time) -> DateTime {
    DateTime::from_timestamp_nanos(time.0)
}

/// A time as a bound of a range over a fast field.
pub fn date_term(handle: Handle, time: model::Time) -> Term {
    Term::from_field_date(handle, date(time))
}
