//! What format some lines have.

use memchr::memmem;
use serde::de::IgnoredAny;

use super::{AccessFormat, Format};
use crate::{nginx_access, nginx_error, spiffe_helper, spire};

/// Most lines looked at, and most bytes.
const LINES: usize = 64;
const BYTES: usize = 256 * 1024;

/// Each line votes for the first format that recognises it; more than half of the lines must agree. The two logs of
/// NGINX, mixed in the log of a container, count together, and the more frequent one wins.
pub(super) fn format(sample: &[u8]) -> Option<Format> {
    let sample = &sample[..sample.len().min(BYTES)];
    let head = &sample[..sample.len().min(4096)];
    if head.trim_ascii_start().starts_with(b"{") && is_objects(head) {
        return Some(Format::K8sObjects);
    }
    // The last line may be cut; it votes only when it is the only one.
    let whole = memchr::memrchr(b'\n', sample).map_or(sample, |end| &sample[..end]);
    let mut votes = [0usize; 6];
    let mut lines = 0;
    for line in whole.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).take(LINES) {
        lines += 1;
        if let Some(vote) = vote(line) {
            votes[vote as usize] += 1;
        }
    }
    let (best, n) = votes.iter().enumerate().max_by_key(|(_, n)| **n)?;
    let nginx = votes[Vote::Error as usize] + votes[Vote::Access as usize];
    let agree = if best == Vote::Error as usize || best == Vote::Access as usize { nginx } else { *n };
    if agree * 2 <= lines {
        return None;
    }
    Some(match best {
        0 => Format::K8sAudit,
        1 => Format::CloudEvents,
        2 => Format::NginxError,
        3 => Format::SpiffeHelper,
        4 => Format::Spire,
        _ => Format::NginxAccess(AccessFormat::auto()),
    })
}

#[derive(Clone, Copy)]
enum Vote {
    Audit,
    Deliveries,
    Error,
    Helper,
    Spire,
    Access,
}

fn vote(line: &[u8]) -> Option<Vote> {
    let says = |text: &[u8]| memmem::find(line, text).is_some();
    if line.starts_with(b"{") {
        if says(b"\"audit.k8s.io/") {
            return Some(Vote::Audit);
        }
        if says(b"\"specversion\"") || (says(b"\"headers\"") && (says(b"\"Ce-") || says(b"\"ce-"))) {
            return Some(Vote::Deliveries);
        }
    }
    if nginx_error::recognises(line) {
        Some(Vote::Error)
    } else if spiffe_helper::recognises(line) {
        Some(Vote::Helper)
    } else if spire::recognises(line) {
        Some(Vote::Spire)
    } else if nginx_access::recognises(line) {
        Some(Vote::Access)
    } else {
        None
    }
}

/// A Kubernetes list, or one with the time of its taking around it.
fn is_objects(head: &[u8]) -> bool {
    let says = |text: &[u8]| memmem::find(head, text).is_some();
    says(b"\"apiVersion\"") && says(b"\"items\"") && !says(b"\"audit.k8s.io/")
}

/// Each line is a document of its own, as opposed to one document over many lines.
pub(super) fn document_per_line(text: &[u8]) -> bool {
    let first = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    first.is_some_and(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok())
}
