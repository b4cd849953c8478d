//! Access lines. The first line of the data is a `log_format`; where it is none, the lines are read as `auto` does.
#![no_main]

use ingest::{lines::Format, nginx_access::AccessFormat};
use model::Fact;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (first, lines) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let declared = std::str::from_utf8(first).ok().and_then(|text| AccessFormat::compile(text).ok());
    let taken = fuzz::lines(&Format::NginxAccess(declared.unwrap_or_default()), lines);
    let (mut understood, mut counted) = (0, 0);
    for draft in &taken.drafts {
        match &draft.fact {
            Fact::Import(import) => understood = import.understood,
            Fact::Edges(edges) => {
                for row in &edges.rows {
                    counted += row.requests;
                    assert!(row.first <= row.last && row.minute <= row.first);
                    assert!(row.answers.iter().map(|answer| answer.n).sum::<u64>() <= row.requests);
                    for n in [row.resumed, row.kept_alive, row.after_expiry, row.empty] {
                        assert!(n <= row.requests);
                    }
                }
            }
            _ => {}
        }
    }
    assert_eq!(counted, understood, "every line that was understood counts in one row");
});
