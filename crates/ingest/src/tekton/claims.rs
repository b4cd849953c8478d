//! What a run says about commits, repositories, images: every claim with where it stood. Nothing is chosen here; a
//! later reader compares the claims and says so where they differ.
//!
//! Sources: annotations of Pipelines-as-Code (`pkg/apis/pipelinesascode/keys`) and Konflux, type hints of Tekton
//! Chains (`pkg/artifacts/signable.go`), conventions of the git-clone Task, `status.provenance` (TEP-0110).

use std::borrow::Cow;

use model::{
    Grade,
    run::{ArtifactClaim, CommitClaim},
};
use serde::Deserialize;

use super::wire::{Artifact, Named, Object, RefSource};
use crate::{
    json::{self, Map, Str},
    k8s_objects::digest,
};

/// Every claim of one run.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) commits: Vec<CommitClaim>,
    pub(super) artifacts: Vec<ArtifactClaim>,
}

/// Collects the claims of a run in a fixed order: annotations, parameters, results, artifacts, provenance.
pub(super) fn of(object: &Object<'_>) -> Claims {
    let mut claims = Claims::default();
    claims.metadata("annotation", &object.metadata.annotations);
    if claims.commits.is_empty() {
        // Labels are cleaned, shortened copies of the annotations: read only where those are missing.
        claims.metadata("label", &object.metadata.labels);
    }
    claims.values("param", &object.spec.params.items);
    let Some(status) = &object.status else { return claims };
    for results in [&status.task_results, &status.pipeline_results, &status.results] {
        claims.values("result", &results.items);
    }
    for step in &status.steps.items {
        claims.values("step result", &step.results.items);
        claims.artifacts("step", &step.inputs.items, &step.outputs.items);
    }
    for (_, child) in &status.task_runs.0 {
        claims.values("child result", &child.status.task_results.items);
    }
    claims.artifacts("artifacts", &status.artifacts.inputs.items, &status.artifacts.outputs.items);
    claims.provenance("provenance refSource", &status.provenance.ref_source);
    claims.provenance("provenance configSource", &status.provenance.config_source);
    claims
}

impl Claims {
    fn commit(&mut self, revision: Option<String>, repository: Option<String>, source: String, grade: Grade) {
        let claim = CommitClaim { revision, repository, source, grade };
        if !self.commits.contains(&claim) {
            self.commits.push(claim);
        }
    }

    fn artifact(&mut self, uri: Option<&str>, digest: Option<&str>, source: String) {
        let uri = uri.map(without_credentials);
        let claim = ArtifactClaim { uri, digest: digest.map(str::to_owned), source, grade: Grade::Asserted };
        if !self.artifacts.contains(&claim) {
            self.artifacts.push(claim);
        }
    }

    fn metadata(&mut self, what: &str, map: &Map<'_, Str<'_>>) {
        for (revision, repository) in [
            ("pipelinesascode.tekton.dev/sha", "pipelinesascode.tekton.dev/repo-url"),
            ("build.appstudio.redhat.com/commit_sha", "build.appstudio.openshift.io/repo"),
        ] {
            if let Some(sha) = map.text(revision).filter(|sha| is_commit(sha)) {
                let repository = map.text(repository).map(without_credentials);
                self.commit(Some(sha.to_owned()), repository, format!("{what} {revision}"), Grade::Asserted);
            }
        }
    }

    /// Parameters or results of one list. A repository belongs to the revision beside it.
    fn values(&mut self, what: &str, values: &[Named<'_>]) {
        let texts: Vec<(&str, Cow<'_, str>)> =
            values.iter().filter_map(|v| Some((v.name.get()?, json::string(v.value?)?))).collect();
        let revisions = texts.iter().filter(|(name, text)| names_revision(name) && is_commit(text.trim()));
        let mut paired = false;
        for (name, revision) in revisions {
            // Chains' hints come in pairs of one prefix; the other conventions have one repository a list.
            let prefix = name.strip_suffix("CHAINS-GIT_COMMIT");
            let repository = texts.iter().find(|(other, text)| match prefix {
                Some(prefix) => other.strip_suffix("CHAINS-GIT_URL") == Some(prefix),
                None => names_repository(other) && is_address(text),
            });
            paired |= repository.is_some();
            let repository = repository.map(|(_, url)| without_credentials(url.trim()));
            self.commit(Some(revision.trim().to_owned()), repository, format!("{what} {name}"), Grade::Asserted);
        }
        if !paired {
            // `url` alone may be anything; an address that ends in .git, or a name that says so, may not.
            let alone =
                |name: &str, text: &str| names_repository(name) && is_address(text) && (name != "url" || is_git(text));
            if let Some((name, url)) = texts.iter().find(|(name, text)| alone(name, text.trim())) {
                self.commit(None, Some(without_credentials(url.trim())), format!("{what} {name}"), Grade::Asserted);
            }
        }
        self.images(what, &texts);
        for value in values {
            let (Some(name), Some(raw)) = (value.name.get(), value.value) else { continue };
            let input = name.ends_with("ARTIFACT_INPUTS");
            if !input && !name.ends_with("ARTIFACT_OUTPUTS") {
                continue;
            }
            let Ok(hint) = serde_json::from_str::<Hint<'_>>(raw.get()) else { continue };
            self.located(hint.uri.get(), hint.digest.get(), input, format!("{what} {name}"));
        }
    }

    /// `*IMAGE_URL` + `*IMAGE_DIGEST`, `*ARTIFACT_URI` + `*ARTIFACT_DIGEST`, `IMAGES`, and any `name@sha256:…`.
    fn images(&mut self, what: &str, texts: &[(&str, Cow<'_, str>)]) {
        for (uri_name, digest_name) in [("IMAGE_URL", "IMAGE_DIGEST"), ("ARTIFACT_URI", "ARTIFACT_DIGEST")] {
            for (name, text) in texts {
                let Some(prefix) = name.strip_suffix(digest_name) else { continue };
                let uri = texts.iter().find(|(other, _)| other.strip_suffix(uri_name) == Some(prefix));
                if let Some(digest) = digest(text.trim()) {
                    self.artifact(uri.map(|(_, uri)| uri.trim()), Some(digest), format!("{what} {name}"));
                }
            }
        }
        for (name, text) in texts {
            if name.ends_with("IMAGE_DIGEST") || name.ends_with("ARTIFACT_DIGEST") {
                continue;
            }
            // One reference, or Chains' list of them.
            let list = *name == "IMAGES";
            for reference in text.split(|c: char| list && (c == ',' || c.is_whitespace())) {
                if let Some((uri, tail)) = reference.trim().split_once('@')
                    && digest(tail) == Some(tail)
                    && !uri.contains(char::is_whitespace)
                {
                    self.artifact(Some(uri), Some(tail), format!("{what} {name}"));
                }
            }
        }
    }

    fn artifacts(&mut self, what: &str, inputs: &[Artifact<'_>], outputs: &[Artifact<'_>]) {
        for (word, artifacts, input) in [("inputs", inputs, true), ("outputs", outputs, false)] {
            for value in artifacts.iter().flat_map(|artifact| &artifact.values.items) {
                let digest = value.digest.0.iter().find_map(|(name, hex)| Some(format!("{name}:{}", hex.get()?)));
                self.located(value.uri.get(), digest.as_deref(), input, format!("{what} {word}"));
            }
        }
    }

    /// A commit when the address is one of git, else an artifact that the run made; other inputs are not ours.
    fn located(&mut self, uri: Option<&str>, digest: Option<&str>, input: bool, source: String) {
        // `algorithm:hex`; a bare `sha256:` is what a task writes that made nothing.
        let digest =
            digest.filter(|digest| digest.split_once(':').is_some_and(|(_, hex)| is_commit(hex) || hex.len() > 64));
        let commit = digest.and_then(|digest| digest.split_once(':')).map(|(_, hex)| hex);
        match (uri, commit) {
            (Some(uri), Some(commit)) if is_git(uri) && is_commit(commit) => {
                self.commit(Some(commit.to_owned()), Some(repository(uri)), source, Grade::Asserted);
            }
            _ if input || (uri.is_none() && digest.is_none()) => {}
            _ => self.artifact(uri, digest, source),
        }
    }

    /// The resolver wrote it: the definition that ran came from this commit.
    fn provenance(&mut self, source: &str, from: &RefSource<'_>) {
        if let (Some(uri), Some(sha1)) = (from.uri.get().filter(|uri| is_git(uri)), from.digest.text("sha1")) {
            self.commit(Some(sha1.to_owned()), Some(repository(uri)), source.to_owned(), Grade::Authenticated);
        }
    }
}

/// Value of Chains' structured hints.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Hint<'a> {
    #[serde(borrow)]
    uri: Str<'a>,
    #[serde(borrow)]
    digest: Str<'a>,
}

fn names_revision(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "revision",
        "commit",
        "commit-sha",
        "commit-id",
        "commit_sha",
        "commit_id",
        "sha",
        "git-revision",
        "git-commit",
        "git-sha",
        "git_revision",
        "git_commit",
        "git_sha",
        "source-revision",
    ];
    name.ends_with("CHAINS-GIT_COMMIT") || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn names_repository(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "url",
        "git-url",
        "git_url",
        "repo-url",
        "repo_url",
        "repository",
        "repository-url",
        "repo",
        "git-repo",
        "git_repo",
        "git-repository",
        "source-url",
        "source_url",
    ];
    name.ends_with("CHAINS-GIT_URL") || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// 7 to 64 hex digits: a branch or tag is no claim about a commit.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An address, and not a reference to another value (`$(params.url)`).
fn is_address(text: &str) -> bool {
    let text = text.trim();
    !text.starts_with('$') && !text.contains(char::is_whitespace) && (text.contains("://") || text.starts_with("git@"))
}

fn is_git(uri: &str) -> bool {
    uri.starts_with("git+")
        || uri.starts_with("git://")
        || uri.starts_with("git@")
        || uri.strip_suffix(".git").is_some()
}

/// The address of a repository out of a URI such as `git+https://git.example/x.git@abc`.
fn repository(uri: &str) -> String {
    without_credentials(uri.strip_prefix("git+").unwrap_or(uri))
}

/// The address without user, password and query: both may hold secrets.
pub(crate) fn without_credentials(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or(address);
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_users_passwords_and_queries() {
        for (address, clean) in [
            ("https://u:p@git.example/x.git?token=1", "https://git.example/x.git"),
            ("https://git.example/a@b", "https://git.example/a@b"),
            ("git@git.example:shop/x.git", "git@git.example:shop/x.git"),
            ("ssh://git@git.example/x", "ssh://git.example/x"),
        ] {
            assert_eq!(without_credentials(address), clean);
        }
    }
}
