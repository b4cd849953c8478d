//! Which logs and witnesses somebody trusts, and how many of the witnesses are enough: C2SP tlog-policy, the one file that an
//! auditor keeps.

use crate::cosignature::WitnessKey;
use crate::error::Error;
use crate::note::Vkey;
use std::collections::{BTreeMap, BTreeSet};

/// Logs, witnesses and groups in a policy, at most, each. C2SP recommends at least 32.
const MAX: usize = 256;

/// One `witness` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its name in this policy.
    pub name: String,
    /// Its key.
    pub key: WitnessKey,
    /// Submission prefix, where checkpoints are posted.
    pub url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Whose cosignatures make a checkpoint good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quorum {
    /// `quorum none`.
    Nobody,
    Of(Member),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

/// A trust policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Vkey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Quorum,
}

/// Who has cosigned a note, and whether that is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Name in the policy and Unix time, in the order of the policy.
    pub by: Vec<(String, u64)>,
    /// Whether the policy's quorum has cosigned. Always true with `quorum none`.
    pub quorum: bool,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`Error::BadPolicy`] names the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reading = Reading::default();
        for (line, number) in text.split('\n').zip(1..) {
            reading.line(line).map_err(|detail| Error::BadPolicy { line: number, detail })?;
        }
        let quorum = reading.quorum.ok_or_else(|| Error::BadPolicy {
            line: text.lines().count(),
            detail: "there is no quorum line".to_owned(),
        })?;
        Ok(Self { logs: reading.logs, witnesses: reading.witnesses, groups: reading.groups, quorum })
    }

    /// Keys of the logs that the policy knows; none if it leaves that open.
    pub fn logs(&self) -> &[Vkey] {
        &self.logs
    }

    /// The witnesses that the policy knows.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether any cosignature is asked for (false: `quorum none`).
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum != Quorum::Nobody
    }

    /// Which of the policy's witnesses have cosigned this note, and whether they are enough. Does not look at the log's own
    /// signature: [`crate::Checkpoint::verify`] does.
    ///
    /// # Errors
    /// [`Error::BadNote`]: not a note, or a cosignature of a known witness is wrong.
    pub fn check(&self, note: &str) -> Result<Cosigned, Error> {
        let mut times = Vec::new();
        for witness in &self.witnesses {
            times.push(witness.key.cosigned(note)?);
        }
        let quorum = match self.quorum {
            Quorum::Nobody => true,
            Quorum::Of(member) => self.holds(member, &times),
        };
        let by = self.witnesses.iter().zip(times).filter_map(|(witness, time)| Some((witness.name.clone(), time?)));
        Ok(Cosigned { by: by.collect(), quorum })
    }

    /// A group's members stand before it, so this ends.
    fn holds(&self, member: Member, times: &[Option<u64>]) -> bool {
        match member {
            Member::Witness(at) => times[at].is_some(),
            Member::Group(at) => {
                let group = &self.groups[at];
                group.members.iter().filter(|member| self.holds(**member, times)).count() >= group.threshold
            }
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    logs: Vec<Vkey>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Quorum>,
    names: BTreeMap<String, Member>,
    /// Names that are a group's member already: each can be that once.
    taken: BTreeSet<String>,
}

impl Reading {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(bad) = line.chars().find(|c| c.is_ascii_control() && *c != '\t') {
            return Err(format!("a control character {bad:?}"));
        }
        let items: Vec<&str> = line.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            // The URL of a log is for programs that add to it or watch it.
            ["log", vkey] | ["log", vkey, _] => self.log(vkey),
            ["witness", name, vkey] => self.witness(name, vkey, None),
            ["witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            [first, ..] => Err(format!("`{first}` with {} more is no line of a policy", items.len() - 1)),
        }
    }

    fn log(&mut self, vkey: &str) -> Result<(), String> {
        let vkey: Vkey = vkey.parse().map_err(|error: Error| error.to_string())?;
        if self.logs.iter().any(|other| other.is_same_key(&vkey)) {
            return Err(format!("the key of the log `{}` is there twice", vkey.name()));
        }
        self.logs.push(vkey);
        limit(self.logs.len())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: Option<&str>) -> Result<(), String> {
        let key: WitnessKey = vkey.parse().map_err(|error: Error| error.to_string())?;
        if self.witnesses.iter().any(|other| other.key.is_same_key(&key)) {
            return Err(format!("the key of the witness `{name}` is there twice"));
        }
        self.name(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(Witness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        limit(self.witnesses.len())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), String> {
        let threshold = match threshold {
            "any" => 1,
            "all" => members.len(),
            number => number
                .parse()
                .ok()
                .filter(|k: &usize| k.to_string() == number)
                .ok_or_else(|| format!("`{number}` is not any, all or a number"))?,
        };
        if threshold == 0 || threshold > members.len() {
            return Err(format!("{threshold} of {} members", members.len()));
        }
        let mut list = Vec::new();
        for member in members {
            list.push(self.known(member)?);
            if !self.taken.insert((*member).to_owned()) {
                return Err(format!("`{member}` is a member already, of this group or another one"));
            }
        }
        self.name(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members: list });
        limit(self.groups.len())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        let quorum = if name == "none" { Quorum::Nobody } else { Quorum::Of(self.known(name)?) };
        match self.quorum.replace(quorum) {
            None => Ok(()),
            Some(_) => Err("a second quorum line".to_owned()),
        }
    }

    fn known(&self, name: &str) -> Result<Member, String> {
        self.names.get(name).copied().ok_or_else(|| format!("`{name}` is not defined before this line"))
    }

    fn name(&mut self, name: &str, member: Member) -> Result<(), String> {
        if name == "none" {
            return Err("`none` is no name".to_owned());
        }
        match self.names.insert(name.to_owned(), member) {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` is defined twice")),
        }
    }
}

fn limit(number: usize) -> Result<(), String> {
    if number > MAX { Err(format!("more than {MAX} lines of this kind")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Hash, verify_consistency};
    use crate::note::Checkpoint;
    use crate::{add_checkpoint, with_cosignatures};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::Value;

    /// A recorded conversation with a witness of another implementation (docs/formats/folder.md names it).
    fn exchange() -> (Value, Vec<Value>) {
        let text = include_str!("../tests/fixtures/reference/witness-exchange.jsonl");
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (lines.next().unwrap(), lines.collect())
    }

    fn policy(rest: &str) -> Policy {
        let (keys, _) = exchange();
        let (log, witness) = (keys["log_vkey"].as_str().unwrap(), keys["witness_vkey"].as_str().unwrap());
        Policy::parse(&format!("# kept by the auditor\nlog {log}\n\twitness  w1 {witness}\thttp://w.example \n{rest}"))
            .unwrap()
    }

    #[test]
    fn cosignatures_of_another_implementation_verify_and_no_flipped_bit_does() {
        let policy = policy("quorum w1\n");
        let mut cosigned = 0;
        for case in exchange().1.iter().filter(|case| case["response"]["status"] == 200) {
            let body = case["request"]["body"].as_str().unwrap();
            let answer = case["response"]["body"].as_str().unwrap();
            let (_, note) = body.split_once("\n\n").unwrap();
            Checkpoint::verify(note, policy.logs()).unwrap();
            assert_eq!(policy.check(note).unwrap(), Cosigned { by: vec![], quorum: false });
            let whole = with_cosignatures(note, answer, &policy.witnesses()[0].key).unwrap();
            assert_eq!(whole, format!("{note}{answer}"));
            let found = policy.check(&whole).unwrap();
            assert!(found.quorum && found.by.len() == 1 && found.by[0].0 == "w1" && found.by[0].1 > 1_700_000_000);
            Checkpoint::verify(&whole, policy.logs()).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let Ok(text) = String::from_utf8(bytes) else { continue };
                let holds = policy.check(&text).is_ok_and(|found| found.quorum)
                    && Checkpoint::verify(&text, policy.logs()).is_ok();
                assert!(!holds, "bit {bit} of {whole}");
            }
            cosigned += 1;
        }
        assert!(cosigned >= 3, "the recording holds answers");
    }

    #[test]
    fn our_request_is_the_recorded_one_byte_for_byte() {
        let policy = policy("quorum w1\n");
        let mut checked = 0;
        let mut known = (0, crate::empty_root());
        for case in exchange().1.iter().filter(|case| case["response"]["status"] == 200) {
            let body = case["request"]["body"].as_str().unwrap();
            let (proof, note) = body.split_once("\n\n").unwrap();
            let mut lines = proof.lines();
            let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
            let proof: Vec<Hash> =
                lines.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
            assert_eq!(add_checkpoint(old, &proof, note), body);
            let new = Checkpoint::verify(note, policy.logs()).unwrap();
            assert_eq!(old, known.0);
            assert!(verify_consistency(old, &known.1, new.size, &new.root, &proof));
            known = (new.size, new.root);
            checked += 1;
        }
        assert!(checked >= 3);
    }

    /// A second and third witness key: those of the recording with other bytes would not be keys, so they are made here.
    fn witness_line(name: &str, seed: u8) -> String {
        use sha2::{Digest as _, Sha256};
        let public = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
        let mut key = vec![4];
        key.extend_from_slice(public.as_bytes());
        let id = Sha256::new().chain_update(name).chain_update(b"\n").chain_update(&key).finalize();
        format!("witness {name} {name}+{}+{}\n", crate::payload::hex(&id[..4]), BASE64_STANDARD.encode(key))
    }

    #[test]
    fn groups_count_their_members() {
        let case = &exchange().1[0];
        let note = case["request"]["body"].as_str().unwrap().split_once("\n\n").unwrap().1;
        let note = format!("{note}{}", case["response"]["body"].as_str().unwrap());
        let others = witness_line("w2", 2) + &witness_line("w3", 3);
        let holds = |rest: &str| policy(&format!("{others}{rest}")).check(&note).unwrap().quorum;
        assert!(holds("group g any w1 w2\nquorum g\n"));
        assert!(holds("group g 1 w2 w1\nquorum g\n"));
        assert!(!holds("group g all w1 w2\nquorum g\n"));
        assert!(!holds("group g 2 w1 w2 w3\nquorum g\n"));
        assert!(holds("group a any w2 w1\ngroup b any w3 a\nquorum b\n"));
        assert!(!holds("group a any w2 w1\ngroup b all w3 a\nquorum b\n"));
        assert!(!holds("quorum w2\n"));
        assert!(holds("quorum none"));
        assert!(!policy("quorum none\n").asks_for_witnesses());
    }

    #[test]
    fn a_policy_that_says_something_else_is_refused_with_its_line() {
        let (keys, _) = exchange();
        let (log, witness) = (keys["log_vkey"].as_str().unwrap(), keys["witness_vkey"].as_str().unwrap());
        let start = format!("log {log}\nwitness w1 {witness}\n");
        let refused = |text: String| match Policy::parse(&text) {
            Err(Error::BadPolicy { line, detail }) => (line, detail),
            other => panic!("{text}: {other:?}"),
        };
        for (rest, line) in [
            ("", 2),
            ("quorum w2\n", 3),
            ("quorum none\nquorum none\n", 4),
            ("group g any w2\nquorum g\n", 3),
            ("group g any\nquorum none\n", 3),
            ("group g all\nquorum none\n", 3),
            ("group g 0 w1\nquorum g\n", 3),
            ("group g 2 w1\nquorum g\n", 3),
            ("group g 01 w1\nquorum g\n", 3),
            ("group g some w1\nquorum g\n", 3),
            ("group none any w1\nquorum none\n", 3),
            ("group w1 any w1\nquorum w1\n", 3),
            ("group g any w1 w1\nquorum g\n", 3),
            ("group g any w1\ngroup h any w1\nquorum g\n", 4),
            ("group g any h\ngroup h any w1\nquorum g\n", 3),
            ("quorum\n", 3),
            ("quorum w1 w2\n", 3),
            ("Quorum none\n", 3),
            ("quorum none\r\n", 3),
        ] {
            assert_eq!(refused(format!("{start}{rest}")).0, line, "{rest}");
        }
        assert_eq!(refused(format!("{start}witness w2 {witness}\nquorum none\n")).0, 3, "the same key twice");
        assert_eq!(refused(format!("{start}log {log}\nquorum none\n")).0, 3, "the same log twice");
        assert_eq!(refused(format!("log {witness}\nquorum none\n")).0, 1, "a witness is no log");
        assert_eq!(refused(format!("witness w {log}\nquorum none\n")).0, 1, "a log is no witness");
    }

    proptest::proptest! {
        /// Whatever a file or a witness says: an answer, and never more trust than its parts give.
        #[test]
        fn any_text_is_read_or_refused(
            lines in proptest::collection::vec("(log|witness|group|quorum|#|\u{2014})?[ \t]?[a-z1-9+=\u{e4} \t]{0,40}", 0..8),
            blob in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _ = Policy::parse(&lines.join("\n"));
            let policy = policy("quorum w1\n");
            let key = &policy.witnesses()[0].key;
            let note = "log\n1\nAAAA\n\n";
            let line = format!("\u{2014} witness.counterfoil.test {}\n", BASE64_STANDARD.encode(&blob));
            assert!(with_cosignatures(note, &line, key).is_err());
            assert!(!policy.check(&format!("{note}{line}")).is_ok_and(|found| found.quorum));
            assert!(with_cosignatures(note, &lines.join("\n"), key).is_err());
        }
    }
}
