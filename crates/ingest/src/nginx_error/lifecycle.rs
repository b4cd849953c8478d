//! Lines of the master process: reloads and ends.

use memchr::memmem;
use model::credential::CredentialEvent;

/// What a line says about the life of the process that holds the certificates.
///
/// - A reload is asked for by `signal 1 (SIGHUP) received from N, reconfiguring`; the bare `reconfiguring` that follows
///   is the same reload and is not counted again.
/// - `start worker processes` (one line per load, before one `start worker process N` per worker) means that the
///   configuration on disk, certificates included, is in use. A worker that replaces a crashed one has the second line
///   only, so it is not mistaken for a reload.
/// - `[emerg]` means that the configuration was refused and, on a reload, that the old one stays in use. This is the
///   only place where a level is evidence: the texts are open-ended (every directive of every module has its own),
///   and NGINX gives this level to what keeps it from working with a configuration and to nothing else.
/// - The end of the master, or of a worker by a signal, ends the use of what it held.
pub(super) fn event(level: &str, message: &[u8]) -> Option<CredentialEvent> {
    if level == "emerg" {
        return Some(CredentialEvent::LoadRefused);
    }
    if message == b"start worker processes" {
        return Some(CredentialEvent::Loaded);
    }
    if message.starts_with(b"signal ") {
        if message.ends_with(b", reconfiguring") {
            return Some(CredentialEvent::ReloadAsked);
        }
        if message.ends_with(b", exiting") || message.ends_with(b", shutting down") {
            return Some(CredentialEvent::HolderStopped);
        }
        return None;
    }
    let died = message.starts_with(b"worker process ") && memmem::find(message, b" exited on signal ").is_some();
    died.then_some(CredentialEvent::HolderStopped)
}
