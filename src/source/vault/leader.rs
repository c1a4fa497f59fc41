//! Who is the active node.

use serde::Deserialize;

use super::super::address::{Address, HostClass};
use super::super::http::{Endpoint, Request};
use super::super::{ServiceKind, SourceError};
use super::{Vault, request_header};

const PATH: &str = "/v1/sys/leader";
const PATH_SEAL_STATUS: &str = "/v1/sys/seal-status";

/// What is of use in `/v1/sys/leader`. Without high availability only the first is there.
#[derive(Debug, Deserialize)]
struct Leader {
    ha_enabled: bool,
    #[serde(default)]
    is_self: bool,
    #[serde(default)]
    leader_address: String,
    raft_applied_index: Option<u64>,
}

/// What is of use in `/v1/sys/seal-status`.
#[derive(Debug, Deserialize)]
pub(super) struct SealStatus {
    pub(super) initialized: bool,
    pub(super) sealed: bool,
}

/// A node that may be the active one.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) address: Address,
    /// The standby that named it.
    via: Option<Address>,
}

impl Candidate {
    /// An error at a leader's address says who named it.
    pub(super) fn explain(&self, error: SourceError) -> SourceError {
        match &self.via {
            Some(via) if matches!(error, SourceError::Connect { .. } | SourceError::Silent { .. }) => {
                let (service, via) = (ServiceKind::Vault, via.to_string());
                SourceError::Leader { service, via, source: Box::new(error) }
            }
            _ => error,
        }
    }
}

/// What a node says about the leader.
enum Says {
    /// It is itself, or there is no other.
    Here,
    /// It is there; the text is a node's api_addr.
    There(String),
    /// It does not say: a proxy keeps the question from it.
    Nothing,
}

impl Vault {
    /// The nodes to ask for a snapshot, the best first, and what is wrong with the others.
    ///
    /// A node of our own list that says it is the leader needs no belief in what others say. An address that a standby
    /// names gets the token only if a redirect there would be followed.
    pub(super) async fn candidates(&self) -> Result<(Vec<Candidate>, Vec<SourceError>), SourceError> {
        let (mut candidates, mut unknown, mut errors): (Vec<Candidate>, Vec<Candidate>, _) = Default::default();
        for address in self.addresses().await? {
            match self.ask_leader(&self.http.endpoint(&address)?).await {
                Ok(Says::Here) => return Ok((vec![Candidate { address, via: None }], errors)),
                Ok(Says::Nothing) => unknown.push(Candidate { address, via: None }),
                Ok(Says::There(leader)) => match self.leader(&address, &leader) {
                    Ok(found) if candidates.iter().any(|c| c.address == found) => {}
                    Ok(found) => candidates.push(Candidate { address: found, via: Some(address) }),
                    Err(error) => errors.push(error),
                },
                Err(error) => errors.push(error),
            }
        }
        candidates.append(&mut unknown);
        Ok((candidates, errors))
    }

    /// The active node's address.
    ///
    /// # Errors
    /// There is none, or none that can be reached.
    pub async fn find_leader(&self) -> Result<Address, SourceError> {
        let (candidates, errors) = self.candidates().await?;
        let first = candidates.into_iter().next().map(|candidate| candidate.address);
        first.ok_or_else(|| SourceError::join(ServiceKind::Vault, errors))
    }

    fn leader(&self, via: &Address, leader: &str) -> Result<Address, SourceError> {
        let service = ServiceKind::Vault;
        // Vault itself takes https for an api_addr without a scheme.
        let with_scheme = if leader.contains("://") { leader.to_owned() } else { format!("https://{leader}") };
        let failed = |to: String, reason| SourceError::Redirect { service, address: via.to_string(), to, reason };
        let to = Address::from_location(&with_scheme, "").map_err(|reason| failed("another place".into(), reason))?;
        if !self.settings.follow_redirect {
            return Err(failed(to.to_string(), "VAULT_DISABLE_REDIRECTS forbids it"));
        }
        check_redirect(via, &to, &self.settings.leader_addresses).map_err(|reason| failed(to.to_string(), reason))
    }

    async fn ask_leader(&self, endpoint: &Endpoint) -> Result<Says, SourceError> {
        let headers = request_header();
        let answer = endpoint.send(&Request::look(PATH, &headers, &endpoint.patience)).await?;
        let address = endpoint.address.to_string();
        match answer.status {
            200 => match answer.json::<Leader>().await {
                Ok(leader) if !leader.ha_enabled || leader.is_self => Ok(Says::Here),
                Ok(leader) if leader.leader_address.is_empty() => {
                    Err(SourceError::NoLeader { service: ServiceKind::Vault, address })
                }
                Ok(leader) => Ok(Says::There(leader.leader_address)),
                Err(_) => Ok(Says::Nothing),
            },
            503 => match endpoint.look::<SealStatus>(PATH_SEAL_STATUS, &headers).await {
                Ok(SealStatus { initialized: false, .. }) => Err(SourceError::Uninitialised { address }),
                Ok(SealStatus { sealed: true, .. }) => Err(SourceError::Sealed { address }),
                _ => Err(answer.refused().await),
            },
            _ => Ok(Says::Nothing),
        }
    }

    /// The node's Raft index, if it tells.
    pub(super) async fn index(&self, endpoint: &Endpoint) -> Option<u64> {
        endpoint.look::<Leader>(PATH, &request_header()).await.ok()?.raft_applied_index
    }
}

/// Where to go instead of `to`, or why not to go there with a token.
pub(super) fn check_redirect(
    from: &Address,
    to: &Address,
    mapping: &[(Address, Address)],
) -> Result<Address, &'static str> {
    if let Some((_, instead)) = mapping.iter().find(|(leader, _)| leader == to) {
        // Somebody wrote it down for this very case.
        return Ok(instead.clone());
    }
    let from_here = from.class() == HostClass::Loopback;
    match to.class() {
        _ if from.is_https() && !to.is_https() => Err("it would send the token unencrypted"),
        HostClass::Never => Err("no server has such an address"),
        HostClass::Loopback if !from_here => Err("it is this machine, and we come from another one"),
        HostClass::Other if from.socket().is_some() && !to.is_https() => Err("it would send the token unencrypted"),
        _ => Ok(to.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::address::NoScheme;
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text, NoScheme::Refuse).expect(text).0
    }

    #[test]
    fn tokens_are_not_sent_just_anywhere() {
        for (from, to, allowed) in [
            ("http://10.0.0.1:8200", "http://10.0.0.2:8200", true),
            ("http://10.0.0.1:8200", "https://vault-2:8200", true),
            ("https://vault:8200", "https://10.0.0.2:8200", true),
            ("http://127.0.0.1:8200", "http://10.0.0.2:8200", true),
            ("http://127.0.0.1:8200", "http://127.0.0.1:8210", true),
            ("unix:///agent.sock", "https://vault-2:8200", true),
            ("https://vault:8200", "http://vault-2:8200", false),
            ("unix:///agent.sock", "http://vault-2:8200", false),
            ("https://vault:8200", "https://127.0.0.1:8200", false),
            ("http://10.0.0.1:8200", "http://localhost:8200", false),
            ("http://10.0.0.1:8200", "http://169.254.169.254:80", false),
            ("http://10.0.0.1:8200", "http://0.0.0.0:8200", false),
        ] {
            assert_eq!(check_redirect(&address(from), &address(to), &[]).is_ok(), allowed, "{from} to {to}");
        }
    }

    #[test]
    fn a_leader_that_cannot_be_reached_is_mapped() {
        let mapping = [(address("http://10.0.0.1:8200"), address("https://vault-1.example.com"))];
        let to = check_redirect(&address("https://vault.example.com"), &mapping[0].0, &mapping);
        assert_eq!(to, Ok(mapping[0].1.clone()));
    }
}
