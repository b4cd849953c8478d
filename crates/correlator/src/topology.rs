//! Who is at an end: addresses, pods, certificates and names brought together, each with its grade.
//!
//! Strongest first: what a source declares about itself, the pod list, a certificate seen from the address, a
//! Kubernetes service name in the lines, the source's own name, the address alone. A weaker one never replaces a
//! stronger one; nothing is taken from a field that a client can choose.

use std::collections::BTreeSet;

use model::{
    Grade, SourceId, Time, edges::Direction, handshake::Side, identity::SourceKind, record::Endpoint,
    workload::Workload,
};

use crate::{
    episode::Episode,
    store::{Looks, Noted, Source, Store},
    traffic::Shown,
};

/// An identity and how it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) spiffe_id: String,
    pub(crate) grade: Grade,
    pub(crate) by: &'static str,
    pub(crate) entries: Vec<u64>,
}

/// Address without port; brackets of IPv6 stay.
pub(crate) fn host(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => address,
    }
}

/// True for an address with a port, as NGINX writes a listening socket.
pub(crate) fn is_socket(text: &str) -> bool {
    host(text) != text && host(text).bytes().all(|b| b.is_ascii_digit() || b".:[]abcdefABCDEF".contains(&b))
}

/// `127.0.0.1`, `::1` or a unix socket: the local application.
pub(crate) fn is_local(address: &str) -> bool {
    matches!(host(address), "127.0.0.1" | "::1" | "[::1]" | "localhost") || address.starts_with("unix:")
}

/// Namespace and service account of `spiffe://domain/ns/N/sa/S`.
pub(crate) fn account(spiffe_id: &str) -> Option<(&str, &str)> {
    let mut parts = spiffe_id.strip_prefix("spiffe://")?.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("ns", namespace, "sa", account) => Some((namespace, account)),
        _ => None,
    }
}

/// Name and namespace of `name.namespace.svc[.…]`.
pub(crate) fn service(name: &str) -> Option<(&str, &str)> {
    let mut parts = name.split('.');
    let (service, namespace, svc) = (parts.next()?, parts.next()?, parts.next()?);
    (svc == "svc" && !service.is_empty() && !namespace.is_empty()).then_some((service, namespace))
}

/// Common name of a subject in RFC 2253 form.
fn common_name(subject: &str) -> Option<&str> {
    subject.split(',').find_map(|part| part.trim().strip_prefix("CN="))
}

/// Both belong to one process: same cluster, name and instance, whatever the kind.
pub(crate) fn same_unit(a: &SourceId, b: &SourceId) -> bool {
    a.cluster == b.cluster && a.name == b.name && a.instance == b.instance
}

/// The look at a pod that holds at that time, if it lived then as far as the lists tell.
fn alive(looks: &Looks, at: Time) -> Option<&Noted<Workload>> {
    let seen = looks.0.range(..=at).next_back().or_else(|| looks.0.iter().next()).map(|(_, noted)| noted)?;
    let born = seen.fact.created.is_none_or(|created| created <= at);
    let gone = looks.0.values().filter_map(|noted| noted.fact.deleted).min().is_some_and(|end| end < at);
    (seen.fact.kind == "Pod" && born && !gone).then_some(seen)
}

/// What an upstream is to the source that called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// The application behind the called sidecar.
    OwnApplication,
    /// Another workload.
    Peer,
}

impl Store {
    /// What the upstream of a client-side episode is; `None` when nothing tells.
    pub(crate) fn upstream(&self, episode: &Episode) -> Option<Upstream> {
        let key = &episode.key;
        if key.side == Side::Server {
            return None;
        }
        let logs = self.siblings(&key.source, SourceKind::NginxAccess);
        let calls = |direction, peer: &str| {
            logs.iter().any(|log| self.calls.contains_key(&(log.clone(), direction, peer.to_owned())))
        };
        if calls(Direction::Out, &key.peer) {
            return Some(Upstream::Peer);
        }
        let called = host(&key.peer);
        let own = self.addresses(&key.source, episode.first);
        if is_local(called) || own.contains(called) || self.names_for(called).contains(&key.source.name) {
            return Some(Upstream::OwnApplication);
        }
        if episode.clients.iter().any(|client| is_local(client) || own.contains(client)) {
            return Some(Upstream::Peer);
        }
        let inbound = episode.clients.iter().any(|client| calls(Direction::In, client));
        inbound.then_some(Upstream::OwnApplication)
    }

    /// Every source of the process that `unit` belongs to.
    fn unit(&self, unit: &SourceId) -> impl Iterator<Item = (&SourceId, &Source)> {
        let kinds = SourceKind::LINES.into_iter();
        kinds.filter_map(move |kind| self.sources.get_key_value(&SourceId { kind, ..unit.clone() }))
    }

    /// The source of that kind that belongs to the same process as `unit`, if there is one.
    pub(crate) fn siblings(&self, unit: &SourceId, kind: SourceKind) -> Vec<SourceId> {
        let sibling = SourceId { kind, ..unit.clone() };
        if self.sources.contains_key(&sibling) { vec![sibling] } else { Vec::new() }
    }

    /// Logs of the helpers that deliver to the process: of the same name, declared for the same workload, or called
    /// like it behind some word (`spiffe-helper.gateway`).
    pub(crate) fn helpers(&self, unit: &SourceId) -> Vec<SourceId> {
        let found = self.siblings(unit, SourceKind::SpiffeHelper);
        if !found.is_empty() {
            return found;
        }
        let helpers = || self.sources.iter().filter(|(source, _)| source.kind == SourceKind::SpiffeHelper);
        let workload = self.sources.get(unit).and_then(|known| known.declared.workload.as_ref());
        let declared =
            helpers().filter(|(_, known)| workload.is_some() && known.declared.workload.as_ref() == workload);
        let declared: Vec<SourceId> = declared.map(|(source, _)| source.clone()).collect();
        if !declared.is_empty() {
            return declared;
        }
        let called = helpers().filter(|(source, _)| {
            let before = source.name.strip_suffix(unit.name.as_str());
            source.cluster == unit.cluster && before.is_some_and(|before| before.ends_with(['.', '-', '_', '/']))
        });
        called.map(|(source, _)| source.clone()).collect()
    }

    /// Addresses that the process listens on or that the pod list gives its pods.
    pub(crate) fn addresses(&self, unit: &SourceId, at: Time) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (source, known) in self.unit(unit) {
            found.extend(known.listens.iter().map(|socket| host(socket).to_owned()));
            for name in known.pods.iter().chain([&source.name, &source.instance]) {
                let pods = self.pods_by_name(name).filter_map(|looks| alive(looks, at));
                found.extend(pods.flat_map(|noted| noted.fact.addresses.iter().cloned()));
            }
        }
        found.retain(|address| !is_local(address) && !address.starts_with("0.0.0.0"));
        found
    }

    /// The process that listens on that address, when exactly one does.
    pub(crate) fn unit_at(&self, address: &str, at: Time) -> Option<SourceId> {
        let address = host(address);
        if is_local(address) {
            return None;
        }
        let pod = self.pod_at(address, at).map(|noted| &noted.fact.name);
        let mut found: Option<&SourceId> = None;
        for (source, known) in &self.sources {
            let nginx = matches!(source.kind, SourceKind::NginxError | SourceKind::NginxAccess);
            let listens = || known.listens.iter().any(|socket| host(socket) == address);
            let is_pod =
                || pod.is_some_and(|pod| known.pods.contains(pod) || source.name == *pod || source.instance == *pod);
            if !nginx || found.is_some_and(|other| same_unit(other, source)) || !(listens() || is_pod()) {
                continue;
            }
            if found.is_some() {
                return None;
            }
            found = Some(source);
        }
        found.cloned()
    }

    /// The pod at that address at that time, the youngest when a list still names an older one.
    pub(crate) fn pod_at(&self, address: &str, at: Time) -> Option<&Noted<Workload>> {
        let address = host(address);
        self.pods_by_address(address)
            .filter_map(|looks| alive(looks, at))
            .filter(|noted| noted.fact.addresses.iter().any(|known| known == address))
            .max_by_key(|noted| (noted.fact.created, noted.fact.uid.clone()))
    }

    /// Namespace and name of what owns a pod in the end: the Deployment behind its ReplicaSet, …
    pub(crate) fn owner(&self, pod: &Workload) -> (String, String) {
        let Some(owner) = &pod.owner else { return ("Pod".into(), pod.name.clone()) };
        if owner.kind == "ReplicaSet" {
            let set = self.workloads.get(&owner.uid).and_then(|looks| looks.0.values().next_back());
            if let Some(deployment) = set.and_then(|set| set.fact.owner.as_ref()) {
                return (deployment.kind.clone(), deployment.name.clone());
            }
            // A ReplicaSet of a Deployment is called like it, with the hash of the pod template.
            let suffix = pod.template_hash.as_ref().map(|hash| format!("-{hash}"));
            if let Some(name) = suffix.and_then(|suffix| owner.name.strip_suffix(suffix.as_str())) {
                return ("Deployment".into(), name.into());
            }
        }
        (owner.kind.clone(), owner.name.clone())
    }

    /// Certificates shown from that address, the one in use at that time first.
    pub(crate) fn certificates(&self, address: &str, at: Time) -> Vec<&Shown> {
        let Some(list) = self.shown.get(host(address)) else { return Vec::new() };
        let mut found: Vec<&Shown> = list.0.values().collect();
        found.sort_by_key(|shown| {
            let away = if shown.first > at { shown.first - at } else { (at - shown.last).max(0) };
            (away, std::cmp::Reverse(shown.last), shown.entry)
        });
        found
    }

    /// Service name and namespace in the subject of a certificate that verified, shown from that address.
    fn subject_at(&self, address: &str, at: Time) -> Option<(&str, &str)> {
        let shown =
            self.certificates(address, at).into_iter().filter(|shown| shown.verify.as_deref() == Some("SUCCESS"));
        shown.filter_map(|shown| shown.subject.as_deref()).find_map(|subject| service(common_name(subject)?))
    }

    /// Whose certificate it is: signed serial, its own SAN, its subject's DNS name. Anybody can write those into a
    /// certificate of his own, so it must have verified, or failed by its time alone.
    pub(crate) fn whose(&self, shown: &Shown) -> Option<Known> {
        let sure = match shown.verify.as_deref()? {
            "SUCCESS" => Grade::Authenticated,
            // NGINX reports the last error of the chain, which may hide another one before it.
            "FAILED:certificate has expired" | "FAILED:certificate is not yet valid" => Grade::Asserted,
            _ => return None,
        };
        if let Some(signed) = shown.serial.as_deref().and_then(|serial| self.signed(serial)) {
            let entries = vec![signed.entry, shown.entry];
            return Some(Known {
                spiffe_id: signed.id.clone(),
                grade: signed.best.0.min(shown.best).min(sure),
                by: "serial signed by SPIRE",
                entries,
            });
        }
        if let Some(id) = &shown.spiffe_id {
            let entries = vec![shown.entry];
            return Some(Known {
                spiffe_id: id.clone(),
                grade: Grade::Asserted,
                by: "URI SAN of the certificate",
                entries,
            });
        }
        let (name, namespace) = service(common_name(shown.subject.as_deref()?)?)?;
        let id = self.identities().iter().find(|id| account(id) == Some((namespace, name)))?.clone();
        Some(Known {
            spiffe_id: id,
            grade: Grade::Inferred,
            by: "subject of the certificate",
            entries: vec![shown.entry],
        })
    }

    /// The identity that answers or calls at an address at that time.
    pub(crate) fn identity_at(&self, address: &str, at: Time) -> Option<Known> {
        if let Some(known) = self.certificates(address, at).into_iter().find_map(|shown| self.whose(shown)) {
            return Some(known);
        }
        if let Some(pod) = self.pod_at(address, at) {
            let wanted = pod.fact.service_account.as_deref();
            let id = self.identities().iter().find(|id| {
                account(id).is_some_and(|(namespace, name)| namespace == pod.fact.namespace && Some(name) == wanted)
            });
            if let Some(spiffe_id) = id {
                return Some(Known {
                    spiffe_id: spiffe_id.clone(),
                    grade: Grade::Inferred,
                    by: "service account of the pod",
                    entries: vec![pod.entry],
                });
            }
        }
        if let Some(known) = self.unit_at(address, at).and_then(|unit| self.identity_of(&unit, at)) {
            return Some(known);
        }
        let names = self.names_for(address);
        let exact = names
            .iter()
            .find_map(|name| service(name))
            .and_then(|(name, namespace)| self.identities().iter().find(|id| account(id) == Some((namespace, name))));
        if let Some(spiffe_id) = exact {
            return Some(Known {
                spiffe_id: spiffe_id.clone(),
                grade: Grade::Inferred,
                by: "service name",
                entries: Vec::new(),
            });
        }
        self.identity_named(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The identity that a process presents, found by its helper or its names.
    pub(crate) fn identity_of(&self, unit: &SourceId, at: Time) -> Option<Known> {
        for address in self.addresses(unit, at) {
            if let Some(known) = self.certificates(&address, at).into_iter().find_map(|shown| self.whose(shown)) {
                return Some(known);
            }
        }
        for helper in self.helpers(unit) {
            let received = self.steps.get(&helper)?.0.iter().rev();
            let mut named = received.filter(|(_, noted)| noted.fact.spiffe_id.is_some());
            let hit = named.clone().find(|(key, _)| key.0 <= at).or_else(|| named.next_back());
            if let Some((_, noted)) = hit {
                let spiffe_id = noted.fact.spiffe_id.clone()?;
                return Some(Known {
                    spiffe_id,
                    grade: Grade::Asserted,
                    by: "its spiffe-helper",
                    entries: vec![noted.entry],
                });
            }
        }
        let mut names: Vec<&str> = vec![&unit.name];
        for (_, known) in self.unit(unit) {
            names.extend(known.declared.workload.as_deref());
            names.extend(known.serves.iter().filter_map(|name| service(name)).map(|(name, _)| name));
        }
        self.identity_named(&names)
    }

    /// The identity whose service account has one of the names, or is their beginning before a `-` (pods and versions
    /// are called like that): the longest such account, when there is exactly one.
    pub(crate) fn identity_named(&self, names: &[&str]) -> Option<Known> {
        let mut best: Option<(usize, BTreeSet<&String>)> = None;
        for name in names {
            let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
            let Some((len, ids)) = ends.rev().find_map(|end| Some((end, self.accounts(&name[..end])?))) else {
                continue;
            };
            match &mut best {
                Some((longest, known)) if *longest == len => known.extend(ids),
                Some((longest, _)) if *longest > len => {}
                _ => best = Some((len, ids.iter().collect())),
            }
        }
        let (_, ids) = best.filter(|(_, ids)| ids.len() == 1)?;
        let spiffe_id = ids.into_iter().next()?.clone();
        Some(Known { spiffe_id, grade: Grade::Inferred, by: "name", entries: Vec::new() })
    }

    /// The agent that issued for the identity last by that time, else first after it.
    pub(crate) fn agent(&self, spiffe_id: &str, at: Time) -> Option<SourceId> {
        let issues = self.issues(spiffe_id);
        let last = issues.iter().rev().find(|issue| issue.at <= at).or(issues.first());
        last.map(|issue| issue.agent.clone())
    }

    /// The end that wrote `source`.
    pub(crate) fn endpoint_of(&self, source: &SourceId, at: Time) -> Endpoint {
        let addresses = self.addresses(source, at);
        let pod = addresses.iter().find_map(|address| self.pod_at(address, at));
        let mut end = Endpoint {
            address: (addresses.len() == 1).then(|| addresses.first().cloned()).flatten(),
            ..Endpoint::default()
        };
        let identity = self.identity_of(source, at);
        let units = || self.unit(source);
        if let Some(known) = units().map(|(_, known)| &known.declared).find(|declared| declared.workload.is_some()) {
            let workload = known.workload.clone().unwrap_or_default();
            end.name = known.namespace.as_ref().map_or(workload.clone(), |namespace| format!("{namespace}/{workload}"));
            end.node.clone_from(&known.node);
            (end.grade, end.by) = (Grade::Asserted, "declared".into());
        } else if let Some(pod) = pod {
            self.name_by_pod(&mut end, &pod.fact);
        } else if let Some(known) = self.identity_named(&[&source.name]) {
            // A source called like an account stays that workload while its SPIFFE ID is the wrong one.
            end.name =
                account(&known.spiffe_id).map_or_else(|| source.name.clone(), |(ns, name)| format!("{ns}/{name}"));
            (end.grade, end.by) = (Grade::Inferred, "source name".into());
        } else if let Some((namespace, name)) = identity.as_ref().and_then(|known| account(&known.spiffe_id)) {
            end.name = format!("{namespace}/{name}");
            (end.grade, end.by) = (Grade::Inferred, identity.as_ref().map_or("", |known| known.by).into());
        } else if let Some((name, namespace)) =
            units().flat_map(|(_, known)| &known.serves).find_map(|name| service(name))
        {
            end.name = format!("{namespace}/{name}");
            (end.grade, end.by) = (Grade::Inferred, "server name".into());
        } else {
            end.name.clone_from(&source.name);
            (end.grade, end.by) = (Grade::Inferred, "source name".into());
        }
        end.spiffe_id = identity.map(|known| known.spiffe_id);
        end
    }

    /// The end at an address.
    pub(crate) fn endpoint_at(&self, address: &str, at: Time) -> Endpoint {
        let declared = self
            .unit_at(address, at)
            .filter(|unit| self.unit(unit).any(|(_, known)| known.declared.workload.is_some()));
        if let Some(unit) = declared {
            return Endpoint { address: Some(host(address).into()), ..self.endpoint_of(&unit, at) };
        }
        let mut end = Endpoint { address: Some(host(address).into()), ..Endpoint::default() };
        let certificate = self.certificates(address, at).into_iter().find_map(|shown| self.whose(shown));
        let names = self.names_for(address);
        let service_name = names.iter().find_map(|name| service(name));
        if let Some(pod) = self.pod_at(address, at) {
            self.name_by_pod(&mut end, &pod.fact);
            end.spiffe_id = self.identity_at(address, at).map(|known| known.spiffe_id);
        } else if let Some((name, namespace)) = self.subject_at(address, at) {
            // The subject follows the workload's DNS name even while its SPIFFE ID is the wrong one.
            end.name = format!("{namespace}/{name}");
            (end.grade, end.by) = (Grade::Asserted, "certificate seen at this address (subject)".into());
            end.spiffe_id = certificate.map(|known| known.spiffe_id);
        } else if let Some(known) = certificate {
            end.name =
                account(&known.spiffe_id).map_or_else(|| known.spiffe_id.clone(), |(ns, name)| format!("{ns}/{name}"));
            (end.grade, end.by) = (known.grade, format!("certificate seen at this address ({})", known.by));
            end.spiffe_id = Some(known.spiffe_id);
        } else if let Some((name, namespace)) = service_name {
            end.name = format!("{namespace}/{name}");
            (end.grade, end.by) = (Grade::Inferred, "server name".into());
        } else if let Some(unit) = self.unit_at(address, at) {
            end = Endpoint { address: end.address, ..self.endpoint_of(&unit, at) };
        } else if let Some(known) = self.identity_named(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
            end.name =
                account(&known.spiffe_id).map_or_else(|| known.spiffe_id.clone(), |(ns, name)| format!("{ns}/{name}"));
            (end.grade, end.by) = (Grade::Inferred, "name of the upstream".into());
            end.spiffe_id = Some(known.spiffe_id);
        } else if let Some(name) = names.first() {
            end.name.clone_from(name);
            (end.grade, end.by) = (Grade::Inferred, "name of the upstream".into());
        } else {
            end.name = host(address).into();
            (end.grade, end.by) = (Grade::Unknown, "address".into());
        }
        end
    }

    fn name_by_pod(&self, end: &mut Endpoint, pod: &Workload) {
        end.name = format!("{}/{}", pod.namespace, self.owner(pod).1);
        end.pod = Some(pod.name.clone());
        end.node.clone_from(&pod.node);
        (end.grade, end.by) = (Grade::Asserted, "pod list".into());
    }
}
