//! Entries of any kind in any order: the fold never fails, and a snapshot at any point goes on as if there had been no stop.
//!
//! The data are stretches: a byte for the format, a byte for how long nothing came before, the lines, a zero byte.
#![no_main]

use correlator::{Config, Correlator};
use model::{Body, Entry, Time, entry::Stamp, identity::Submitter};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut entries = Vec::new();
    let mut tick = 0;
    for stretch in data.split(|b| *b == 0).take(64) {
        let [format, wait, lines @ ..] = stretch else { continue };
        let format = fuzz::format(*format);
        tick += u64::from(*wait) * 1000;
        let mut source = fuzz::context().source.clone();
        source.kind = format.kind();
        for draft in fuzz::lines(&format, lines).drafts {
            let index = entries.len() as u64;
            let recorded_at = Time::from_millis(1_795_392_000_000 + i64::try_from(tick).expect("64 times 255 s"));
            let body = Body {
                v: Body::VERSION,
                source: source.clone(),
                declared: fuzz::context().declared.clone(),
                parser: draft.parser.into(),
                observed_at: recorded_at,
                submitter: Submitter::Local,
                place: draft.place,
                payload: None,
                pruned: None,
                redacted: Vec::new(),
                cut: draft.cut,
                fact: draft.fact,
            };
            entries.push(Entry { index, stamp: Stamp { recorded_at, tick, append: index, part: [1, 1] }, body });
        }
    }
    let mut whole = Correlator::new(Config::default());
    let mut records = Vec::new();
    entries.iter().for_each(|entry| whole.apply(entry, &mut records));

    let stop = data.first().map_or(0, |byte| usize::from(*byte) % (entries.len() + 1));
    let mut parted = Correlator::new(Config::default());
    let mut again = Vec::new();
    entries[..stop].iter().for_each(|entry| parted.apply(entry, &mut again));
    let mut parted = Correlator::restore(&parted.snapshot()).expect("our own snapshot");
    entries[stop..].iter().for_each(|entry| parted.apply(entry, &mut again));
    assert_eq!(records, again);
    assert_eq!(whole.snapshot(), parted.snapshot());
    // Any bytes as a snapshot are refused or restored.
    let _ = Correlator::restore(data);
});
