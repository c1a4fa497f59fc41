//! Encrypted, deduplicated, verified backups of Vault, Consul and Nomad snapshots.

pub mod pipeline;
pub mod snapshot;
