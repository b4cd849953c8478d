//! Makes a ledger of exactly so many entries, and prints its verifier key: `cargo run -p ledger --example fill -- DIR SIZE`.
//! For programs of others that read such folders (tests/interop).

use ledger::{Append, Config, Lane, Ledger};
use std::error::Error;

/// Entries of an append; about 100 bytes each.
const AT_ONCE: u64 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(size)) = (arguments.next(), arguments.next()) else {
        return Err("usage: fill DIR SIZE".into());
    };
    let size: u64 = size.parse()?;
    let mut config = Config::new(dir);
    config.limits.segment_bytes = 4 << 20;
    config.limits.reserve_bytes = 0;
    config.limits.pause_below_percent = 0;
    ledger::init(&config, Some("log.example/fill"))?;
    let log = Ledger::open(&config)?.ledger;
    let mut next = 0;
    while next < size {
        let end = size.min(next + AT_ONCE);
        let bodies = (next..end).map(|n| format!("{{\"entry\":{n},\"text\":\"filled\"}}").into_bytes()).collect();
        log.append_wait(Append { lane: Lane::Push, bodies, payload: None, position: None })?;
        next = end;
    }
    log.close()?;
    for vkey in log.vkeys() {
        println!("{vkey}");
    }
    Ok(())
}
