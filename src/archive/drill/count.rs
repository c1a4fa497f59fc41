//! Counting the records of a server, and comparing them with a manifest's.

use super::super::{ArchiveError, Cancel, service};
use crate::pipeline::ingest;
use crate::pipeline::unwrap::{Expect, Unwrap, UnwrapError};
use crate::snapshot::records::Splitter;
use crate::snapshot::tar::{Region, Walker};
use crate::source::{Service, ServiceKind};
use hah_vault_format::SourceName;
use hah_vault_format::manifest::RecordCount;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;

/// How much is read at once.
const PIECE_LEN_BYTES: usize = 256 << 10;

/// How the records of one type compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As many as the manifest says.
    Same,
    /// More: the server adds its own, such as its node and its token.
    More,
    /// Fewer, of a type that must come back.
    Fewer,
    /// Fewer, of a type that a running server tidies up: nodes that do not answer, their sessions, old evaluations.
    Tidied,
}

impl Verdict {
    /// The word for JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::More => "more",
            Self::Fewer => "fewer",
            Self::Tidied => "tidied",
        }
    }
}

/// Records of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// As in the manifest.
    pub tag: String,
    /// What they are.
    pub what: String,
    /// How many the manifest says.
    pub expected: u64,
    /// How many the server has.
    pub found: u64,
    /// How these compare.
    pub verdict: Verdict,
}

/// The records of a server, from a snapshot that it makes of itself.
pub(super) async fn records_of(
    source: &SourceName,
    server: &dyn Service,
    cancel: &Cancel,
) -> Result<Vec<RecordCount>, ArchiveError> {
    let snapshot = service::open(source, server, cancel).await?;
    let (source, stopper) = (source.clone(), snapshot.body.stopper());
    let counting = tokio::task::spawn_blocking(move || count(&source, snapshot.body));
    let counted = tokio::select! {
        counted = counting => counted.map_err(|error| ArchiveError::Internal(error.to_string()))?,
        never = service::stop_when_cancelled(Some(stopper), cancel) => match never {},
    };
    cancel.check()?;
    counted
}

/// Counts in a snapshot, and checks it as a backup does.
fn count(source: &SourceName, body: impl Read) -> Result<Vec<RecordCount>, ArchiveError> {
    let unwrap_failed = |error: UnwrapError| service::read_failed(source, error);
    let tar_failed = |error| ArchiveError::Tar { name: source.clone(), source: error };
    let mut unwrap = Unwrap::open(body, Expect::Snapshot).map_err(unwrap_failed)?;
    let (mut walker, mut records) = (Walker::new(), Splitter::new());
    let mut piece = vec![0; PIECE_LEN_BYTES];
    loop {
        let len = unwrap.read(&mut piece).map_err(unwrap_failed)?;
        if len == 0 {
            break;
        }
        let mut rest = &piece[..len];
        while !rest.is_empty() {
            let (len, region) = walker.next(rest).map_err(tar_failed)?;
            let (now, later) = rest.split_at(len);
            if region == Region::State {
                let Ok(()) = records.push(now, &mut |_| Ok::<(), Infallible>(()));
            }
            rest = later;
        }
    }
    unwrap.finish().map_err(unwrap_failed)?;
    walker.finish().map_err(tar_failed)?;
    let Ok((_, tally)) = records.finish(&mut |_| Ok::<(), Infallible>(()));
    Ok(ingest::counted(&tally))
}

/// Compares what should be there with what is, type by type.
pub(super) fn compare(kind: ServiceKind, expected: &[RecordCount], found: &[RecordCount]) -> Vec<Counted> {
    let mut both: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for count in expected {
        both.entry(&count.tag).or_default().0 += count.count;
    }
    for count in found {
        both.entry(&count.tag).or_default().1 += count.count;
    }
    let verdict = |tag: &str, expected: u64, found: u64| match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Verdict::Same,
        std::cmp::Ordering::Greater => Verdict::More,
        std::cmp::Ordering::Less if is_tidied(kind, tag) => Verdict::Tidied,
        std::cmp::Ordering::Less => Verdict::Fewer,
    };
    let counted = |(tag, (expected, found)): (&str, (u64, u64))| Counted {
        tag: tag.to_owned(),
        what: word(kind, tag).to_owned(),
        expected,
        found,
        verdict: verdict(tag, expected, found),
    };
    let mut all: Vec<Counted> = both.into_iter().map(counted).collect();
    // Numbers as numbers.
    all.sort_by_key(|counted| counted.tag.parse::<u8>().ok());
    all
}

/// Types whose records a server that runs alone deletes or makes anew: Consul takes dead nodes out of its catalog, with
/// their sessions; Nomad collects old evaluations and what belongs to them; Vault revokes leases and their tokens.
fn is_tidied(kind: ServiceKind, tag: &str) -> bool {
    match kind {
        ServiceKind::Consul => matches!(tag, "0" | "3" | "5" | "6" | "9" | "16" | "31"),
        ServiceKind::Nomad => matches!(tag, "2" | "3" | "4" | "5" | "6" | "7" | "10" | "19" | "21"),
        ServiceKind::Vault => matches!(tag, "sys" | "core" | "other"),
    }
}

/// An unused Vault keeps some entries of its own under `logical/`: one in 1.8, those of its OIDC provider since 1.9. More
/// than so many are somebody's secrets.
const VAULT_LOGICAL_MAX: u64 = 24;

/// Records that only somebody who uses the server makes.
pub(super) fn is_user_data(kind: ServiceKind, of: &RecordCount) -> bool {
    let tag = of.tag.as_str();
    match kind {
        // Keys, sessions, prepared queries, intentions.
        ServiceKind::Consul => matches!(tag, "2" | "3" | "7" | "12"),
        // Nodes, jobs, allocations, volumes, services, variables.
        ServiceKind::Nomad => matches!(tag, "0" | "1" | "4" | "18" | "21" | "22"),
        // Entries of mounts. Logins may have been set up to reach it.
        ServiceKind::Vault => tag == "logical" && of.count > VAULT_LOGICAL_MAX,
    }
}

/// What the records of a type are: facts 4.4, and Consul's `structs.MessageType`.
pub(super) fn word(kind: ServiceKind, tag: &str) -> &str {
    let number = tag.parse::<u8>().ok();
    let word = match (kind, number) {
        (ServiceKind::Consul, Some(number)) => consul_word(number),
        (ServiceKind::Nomad, Some(number)) => nomad_word(number),
        _ => None,
    };
    word.unwrap_or(tag)
}

fn consul_word(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "nodes, services, checks",
        2 => "keys",
        3 => "sessions",
        5 => "tombstones",
        6 => "coordinates",
        7 => "prepared queries",
        9 => "autopilot",
        11 => "ACL bootstrap",
        12 => "intentions",
        13 => "CA roots",
        14 => "CA provider state",
        15 => "CA configuration",
        16 => "indexes",
        17 => "ACL tokens",
        19 => "ACL policies",
        22 => "config entries",
        23 => "ACL roles",
        25 => "ACL binding rules",
        27 => "ACL auth methods",
        29 => "chunked entries",
        30 => "federation states",
        31 => "system metadata",
        _ => return None,
    })
}

fn nomad_word(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "nodes",
        1 => "jobs",
        2 => "indexes",
        3 => "evaluations",
        4 => "allocations",
        5 => "time table",
        6 => "periodic launches",
        7 => "job summaries",
        8 => "Vault accessors",
        9 => "job versions",
        10 => "deployments",
        11 => "ACL policies",
        12 => "ACL tokens",
        13 => "scheduler configuration",
        14 => "cluster metadata",
        15 => "service identity tokens",
        16 => "scaling policies",
        17 => "CSI plugins",
        18 => "CSI volumes",
        19 => "scaling events",
        21 => "services",
        22 => "variables",
        23 => "variable quotas",
        24 => "root key metadata",
        25 => "ACL roles",
        26 => "ACL auth methods",
        27 => "ACL binding rules",
        28 => "node pools",
        29 => "job submissions",
        30 => "wrapped root keys",
        31 => "host volumes",
        64 => "namespaces",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Vec<RecordCount> {
        of.iter().map(|(tag, count)| RecordCount { tag: (*tag).into(), count: *count }).collect()
    }

    #[test]
    fn a_vault_with_more_than_its_own_entries_is_in_use() {
        let is_used = |tag: &str, count| is_user_data(ServiceKind::Vault, &counts(&[(tag, count)])[0]);
        assert!(!is_used("logical", VAULT_LOGICAL_MAX) && is_used("logical", VAULT_LOGICAL_MAX + 1));
        assert!(!is_used("core", 100) && !is_used("sys", 100));
    }

    #[test]
    fn types_that_must_come_back_are_told_from_those_that_a_server_tidies_up() {
        let expected = counts(&[("0", 9), ("2", 120), ("17", 10), ("22", 1)]);
        let found = counts(&[("0", 5), ("2", 119), ("17", 11), ("22", 1), ("6", 1)]);
        let compared = compare(ServiceKind::Consul, &expected, &found);
        let verdict = |tag: &str| compared.iter().find(|c| c.tag == tag).map(|c| (c.verdict, c.what.as_str()));
        assert_eq!(verdict("0"), Some((Verdict::Tidied, "nodes, services, checks")));
        assert_eq!(verdict("2"), Some((Verdict::Fewer, "keys")));
        assert_eq!(verdict("17"), Some((Verdict::More, "ACL tokens")));
        assert_eq!(verdict("22"), Some((Verdict::Same, "config entries")));
        assert_eq!(verdict("6"), Some((Verdict::More, "coordinates")));
        let gone = compare(ServiceKind::Vault, &counts(&[("logical", 5)]), &[]);
        assert_eq!((gone[0].verdict, gone[0].what.as_str()), (Verdict::Fewer, "logical"));
    }
}
