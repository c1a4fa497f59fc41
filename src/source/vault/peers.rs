//! Whether the active node is among the peers after a restore: a forced one of another cluster's snapshot has been seen
//! to leave it out (vault#31933, openbao#2455), and the next election fails.

use serde::Deserialize;

use super::super::SourceError;
use super::super::address::Address;
use super::{Vault, headers, request_header};

const PATH: &str = "/v1/sys/storage/raft/configuration";
const PATH_LEADER: &str = "/v1/sys/leader";

/// What is of use in `/v1/sys/storage/raft/configuration`.
#[derive(Debug, Deserialize)]
struct Configuration {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    servers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    #[serde(default)]
    address: String,
    #[serde(default)]
    leader: bool,
}

/// What is of use in `/v1/sys/leader`.
#[derive(Debug, Deserialize)]
struct Leader {
    #[serde(default)]
    is_self: bool,
    #[serde(default)]
    leader_cluster_address: String,
}

impl Vault {
    /// What is wrong with the peers; an error if the token does not let us look any more.
    pub(super) async fn peer_faults(&self, at: &Address) -> Result<Vec<String>, SourceError> {
        let endpoint = self.http.endpoint(at)?;
        let headers = headers(self.token().await?.as_ref());
        let peers = endpoint.look::<Configuration>(PATH, &headers).await?.data.config.servers;
        let leader: Leader = endpoint.look(PATH_LEADER, &request_header()).await?;
        Ok(fault(&peers, &leader).map(|text| format!("Vault at {at}: {text}")).into_iter().collect())
    }
}

fn fault(peers: &[Peer], leader: &Leader) -> Option<String> {
    let cluster_address = leader.leader_cluster_address.trim_start_matches("https://");
    // Without high availability there is no such address, and the peers tell alone.
    let is_peer = |peer: &Peer| match cluster_address.is_empty() || !leader.is_self {
        true => peer.leader,
        false => peer.address == cluster_address || peer.leader,
    };
    if peers.iter().any(is_peer) {
        return None;
    }
    let known: Vec<&str> = peers.iter().map(|peer| peer.address.as_str()).collect();
    let known = if known.is_empty() { "nobody".to_owned() } else { known.join(", ") };
    Some(format!(
        "the active node is not among its own Raft peers ({known}): see `vault operator raft list-peers`, and recover \
         with a peers.json before the node is restarted"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(list: &[(&str, bool)]) -> Vec<Peer> {
        list.iter().map(|(address, leader)| Peer { address: (*address).into(), leader: *leader }).collect()
    }

    #[test]
    fn an_active_node_has_to_be_a_peer() {
        let leader = Leader { is_self: true, leader_cluster_address: "https://10.0.0.1:8201".into() };
        let alone = Leader { is_self: false, leader_cluster_address: String::new() };
        for (list, leader, is_fine) in [
            (&[("10.0.0.1:8201", true), ("10.0.0.2:8201", false)][..], &leader, true),
            (&[("10.0.0.1:8201", false)], &leader, true),
            (&[("vault-1:8201", true)], &leader, true),
            (&[("10.0.0.9:8201", false)], &leader, false),
            (&[], &leader, false),
            (&[("127.0.0.1:8201", true)], &alone, true),
            (&[("127.0.0.1:8201", false)], &alone, false),
        ] {
            assert_eq!(fault(&peers(list), leader).is_none(), is_fine, "{list:?}");
        }
    }
}
