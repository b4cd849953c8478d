//! What the targets share: a fixed context, and what holds for every stretch of lines.

use std::sync::LazyLock;

use ingest::{
    Context,
    lines::{Format, Start, Taken, take},
    nginx_access::AccessFormat,
    persons::Persons,
    redact::Redactor,
};
use model::{
    Fact, SourceId, Time,
    entry::Place,
    identity::{Declared, SourceKind},
};

/// A redactor with a fixed key.
pub static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(&[4; 32]));

static SOURCE: LazyLock<SourceId> = LazyLock::new(|| SourceId {
    cluster: "c".into(),
    kind: SourceKind::Unknown,
    name: "n".into(),
    instance: String::new(),
});
static DECLARED: LazyLock<Declared> = LazyLock::new(Declared::default);
static PERSONS: LazyLock<Persons> = LazyLock::new(|| Persons::new([3; 32]));

/// What a parser knows beside the bytes: always the same.
pub fn context() -> Context<'static> {
    let observed_at = Time::from_seconds(1_800_000_000);
    Context { source: &SOURCE, declared: &DECLARED, zone: chrono_tz::Europe::Berlin, observed_at, persons: &PERSONS }
}

/// The format that a byte stands for.
pub fn format(byte: u8) -> Format {
    match byte % 7 {
        0 => Format::NginxError,
        1 => Format::NginxAccess(AccessFormat::auto()),
        2 => Format::Spire,
        3 => Format::SpiffeHelper,
        4 => Format::K8sObjects,
        5 => Format::K8sAudit,
        _ => Format::CloudEvents,
    }
}

/// Reads lines and checks what holds for all of them: every byte is accounted for, every fact stands inside, what is
/// kept holds no secret, and reading twice says the same.
pub fn lines<'a>(format: &Format, bytes: &'a [u8]) -> Taken<'a> {
    let context = context();
    let start = Start::File { fingerprint: "f".into(), offset: 7 };
    let taken = take(format, &context, &REDACTOR, bytes, &start, None);
    assert_eq!(taken.consumed, bytes.len());
    let [account, facts @ ..] = &taken.drafts[..] else { panic!("no account") };
    let Fact::Import(import) = &account.fact else { panic!("{account:?}") };
    assert_eq!(import.lines, import.understood + import.passed + import.opaque);
    assert!(import.oldest <= import.newest);
    for draft in facts {
        let Some(Place::File { offset, .. }) = draft.place else { panic!("{draft:?}") };
        assert!((7..7 + bytes.len() as u64).contains(&offset), "{offset}");
        let text = serde_json::to_vec(&draft.fact).expect("a fact is written");
        assert_eq!(serde_json::from_slice::<Fact>(&text).expect("and read"), draft.fact);
    }
    let again = take(format, &context, &REDACTOR, bytes, &start, None);
    assert_eq!((&again.drafts, &again.payload), (&taken.drafts, &taken.payload));
    taken
}

/// Checks one redaction: outside of the spans every byte stays, and JSON stays JSON.
pub fn redaction(bytes: &[u8]) -> Vec<u8> {
    let spans = REDACTOR.spans(bytes);
    let (out, counts) = REDACTOR.redact(bytes);
    assert_eq!(counts.iter().map(|count| count.n as usize).sum::<usize>(), spans.len());
    let (mut from, mut at) = (0, 0);
    for span in &spans {
        assert!(from <= span.start && span.start < span.end && span.end <= bytes.len(), "{span:?}");
        let kept = &bytes[from..span.start];
        assert!(out[at..].starts_with(kept));
        at += kept.len();
        let mark = format!("[redacted:{}:", span.rule);
        assert!(out[at..].starts_with(mark.as_bytes()));
        at += mark.len();
        assert!(
            out[at..at + 16].iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) && out[at + 16] == b']'
        );
        at += 17;
        from = span.end;
    }
    assert_eq!(out[at..], bytes[from..]);
    if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
        serde_json::from_slice::<serde_json::Value>(&out).expect("JSON stays JSON");
    }
    out.into_owned()
}
