//! Logs of SPIRE's server and agents (1.0 to 1.14), as text, terminal text and JSON.
//!
//! Every line of interest becomes one [`Credential`]; polling, plugin and health lines are passed. The message tells
//! *what* happened and never *why*: `Could not reattest agent` is written for a dead token and for a dead server alike,
//! so the [`Trouble`] is read from the text of the error.

pub(crate) mod logrus;
mod trouble;

use logrus::Record;
use model::{
    Fact, Text, Time,
    credential::{Credential, CredentialEvent as Event, Trouble},
    identity::Serial,
};

pub(crate) use trouble::read as trouble_of;

use crate::{
    Context, Draft, Outcome,
    lines::{Framed, Seen},
};

/// Parser and version as they stand in a body.
pub const PARSER: &str = "spire/1";

/// Longest message of a fact.
pub(crate) const LONGEST_MESSAGE: usize = 512;

/// Reads one line.
pub fn parse(line: &Framed<'_>, context: &Context<'_>, seen: &mut Seen, out: &mut Vec<Draft>) -> Outcome {
    let Some(record) = Record::read(line.text) else {
        return Outcome::Opaque(
            "not_a_line_of_this_format",
            "neither logrus text nor JSON with `level` and `msg`".into(),
        );
    };
    let occurred = record.occurred(line, context);
    seen.level(&record.level);
    seen.when(&occurred);
    let Some(event) = event(&record) else {
        return Outcome::Passed;
    };
    let mut fact = Credential { message: message(&record), ..blank(occurred, event) };
    fill(&mut fact, &record);
    out.push(Draft { place: None, parser: PARSER, fact: Fact::Credential(fact), cut: Vec::new() });
    Outcome::Understood
}

/// True when a line can be one of this format.
pub fn recognises(line: &[u8]) -> bool {
    // NGINX Plus writes JSON error logs with `level` and `msg` too.
    Record::read(Framed::read(line).text)
        .is_some_and(|record| record.field("system") != Some("spiffe-helper") && record.field("tid").is_none())
}

pub(crate) fn blank(occurred: model::When, event: Event) -> Credential {
    Credential {
        occurred,
        event,
        spiffe_id: None,
        entry_id: None,
        agent_id: None,
        serial: None,
        not_after: None,
        replaces_not_after: None,
        ttl_seconds: None,
        trouble: None,
        pid: None,
        tainted: false,
        message: Text::from(""),
    }
}

/// What the line says, by its fixed message; `None` for lines that change no credential.
fn event(record: &Record<'_>) -> Option<Event> {
    let msg = record.msg.as_ref();
    Some(match msg {
        // Agent: the workloads' certificates (pkg/agent/manager).
        "Renewing X509-SVID" => Event::Renewing,
        "Creating X509-SVID" => Event::Creating,
        "Fetched X.509 SVID" => Event::Received,
        "No identity issued" => Event::NoIdentity,
        // Agent: its own certificate (pkg/agent/svid, pkg/agent/attestor).
        "Node attestation was successful" | "Successfully reattested node" | "Successfully rotated agent SVID" => {
            Event::AgentRenewed
        }
        "Could not reattest agent"
        | "Could not rotate agent SVID"
        | "Failed to renew agent"
        | "Failed to retrieve attestation result"
        | "Cache manager crashed"
        | "Agent needs to re-attest; will attempt to re-attest"
        | "Agent needs to re-attest: removing SVID and shutting down"
        | "Agent failed re-attestation; removing SVID and shutting down"
        | "Agent is banned: removing SVID and shutting down"
        // The first two words are misspelt in 1.13.
        | "Trust Bandle and Server dont agree.... bootstrapping again"
        | "Trust Bundle and Server don't agree, rebootstrapping" => Event::AgentRefused,
        "Failed to fetch authorized entries" | "Synchronize failed" | "SVID sync failed" => Event::SyncFailed,
        "Agent crashed" | "Agent stopped gracefully" => Event::AgentStopped,
        "Starting agent" => Event::AgentStarted,
        "Bundle updated" => Event::BundleUpdated,
        // Server (pkg/server/api, pkg/server/ca, pkg/server/endpoints).
        "Signed X509 SVID" => Event::Signed,
        "Agent attestation request completed" => Event::AgentRenewed,
        "Agent is not attested" | "Agent SVID is expired" | "Agent SVID is not active" | "Agent is banned" => {
            Event::AttestationRefused
        }
        "Agent deleted" | "Agent banned" => Event::EntryChanged,
        "X509 CA prepared" | "X509 CA activated" => Event::AuthorityChanged,
        // Written once for TCP and once for the local socket.
        "Starting Server APIs" if record.field("network") == Some("tcp") => Event::ServerStarted,
        "Server stopped gracefully" | "Server crashed" => Event::ServerStopped,
        "API accessed" if record.field("type") == Some("audit") => return audit(record),
        _ if is_refused_attestation(record) => Event::AttestationRefused,
        // Agents before 0.12 wrote the error into the message.
        _ if msg.starts_with("synchronize failed: ") => Event::SyncFailed,
        _ => return None,
    })
}

/// `Nodeattestor(k8s_psat): unable to validate token …`: the message is the error, so only its place identifies it.
fn is_refused_attestation(record: &Record<'_>) -> bool {
    let named = record.msg.get(..13).is_some_and(|start| start.eq_ignore_ascii_case("nodeattestor("));
    named || (record.level == "error" && record.field("method") == Some("AttestAgent"))
}

/// The server's audit line: who asked for what. Most of them are polls, which change nothing.
fn audit(record: &Record<'_>) -> Option<Event> {
    let succeeded = record.field("status") == Some("success");
    match record.field("method")? {
        "BatchCreateEntry" | "BatchUpdateEntry" | "BatchDeleteEntry" if succeeded => Some(Event::EntryChanged),
        // The end of validity without a serial: all there is at level info.
        "BatchNewX509SVID" if succeeded => Some(Event::Signed),
        // Other lines carry a failed one, and a successful attestation, better.
        "RenewAgent" if succeeded => Some(Event::AgentRenewed),
        "PrepareX509Authority" | "ActivateX509Authority" | "TaintX509Authority" | "RevokeX509Authority"
            if succeeded =>
        {
            Some(Event::AuthorityChanged)
        }
        _ => None,
    }
}

fn fill(fact: &mut Credential, record: &Record<'_>) {
    let field = |name: &str| record.field(name).map(|value| value.chars().take(512).collect::<String>());
    fact.spiffe_id = field("spiffe_id");
    fact.entry_id = field("entry_id");
    let agent = |id: &String| id.contains("/spire/agent/");
    let expires_at = || record.field("expires_at").and_then(time);
    match fact.event {
        Event::Renewing => fact.replaces_not_after = expires_at(),
        Event::Signed => {
            fact.agent_id = field("caller_id").filter(agent);
            fact.serial = record.field("serial_num").and_then(Serial::from_decimal);
            fact.not_after = record.field("expiration").and_then(time).or_else(expires_at);
        }
        Event::EntryChanged => {
            fact.agent_id = field("parent_id").filter(agent).or_else(|| fact.spiffe_id.clone().filter(agent));
        }
        Event::AgentRenewed | Event::AttestationRefused => {
            let own = fact.spiffe_id.clone().filter(agent);
            fact.agent_id = field("agent_id").or_else(|| field("caller_id").filter(agent)).or(own);
        }
        Event::AuthorityChanged => fact.not_after = record.field("expiration").and_then(time),
        Event::Received => {
            // A fraction of a second is cut off: never claim more validity than there was.
            let seconds = record.field("ttl").and_then(|ttl| ttl.split('.').next()?.parse().ok());
            fact.ttl_seconds = seconds;
        }
        _ => {}
    }
    if matches!(
        fact.event,
        Event::AgentRefused | Event::SyncFailed | Event::AttestationRefused | Event::AgentStopped | Event::NoIdentity
    ) {
        fact.trouble = trouble(record, fact.event);
    }
}

/// From the error's text, or, on lines without one, from a message that is one itself.
fn trouble(record: &Record<'_>, event: Event) -> Option<Trouble> {
    match record.field("error") {
        Some(error) => Some(trouble_of(error)),
        None if matches!(event, Event::AgentStopped | Event::NoIdentity) => None,
        None => Some(trouble_of(&record.msg)),
    }
}

/// RFC 3339, or seconds since 1970 (audit lines).
fn time(text: &str) -> Option<Time> {
    Time::parse(text).or_else(|| text.parse().ok().filter(|n| *n > 0).map(Time::from_seconds))
}

/// Message and error, and on changes of entries and authorities the fields that say what changed.
fn message(record: &Record<'_>) -> Text {
    let mut text = match record.field("method") {
        Some(method) if record.msg == "API accessed" => method.to_owned(),
        _ => record.msg.as_ref().to_owned(),
    };
    if let Some(error) = record.field("error") {
        text = format!("{text}: {error}");
    }
    for name in ["local_authority_id", "slot", "parent_id", "selectors", "dns_name", "caller_uid", "caller_path"] {
        if record.msg != "Agent attestation request completed"
            && let Some(value) = record.field(name)
        {
            text = format!("{text} {name}={value}");
        }
    }
    Text::from(&text[..text.floor_char_boundary(LONGEST_MESSAGE)])
}

#[cfg(test)]
mod tests;
