//! hah-vault: encrypted, deduplicated, verified backups of Vault, Consul and Nomad snapshots.
//!
//! ```text
//! cli (the binary's face) ──> archive ──> pipeline   bytes <-> sealed objects; synchronous, CPU only
//!                                    ├──> snapshot   what a Raft snapshot is
//!                                    ├──> source     Vault, Consul, Nomad: snapshots from them and back
//!                                    ├──> store      where objects lie
//!                                    ├──> keys       who may read and write
//!                            cli ──> ├──> config     the configuration file, and the environment
//!                                    └──> world      clock and random numbers
//! cli ──> telemetry ──> archive      what happened, as metrics and pings
//! cli ──> agent ──────> archive      schedules, one replica at a time, a control API
//!                                  all ──> format    (crate hah-vault-format) the bytes
//! ```
//!
//! Architecture invariant: dependencies point to the right and down only; `tests/layers.rs` enforces it. The library
//! never prints: progress and warnings go through [`archive::Monitor`].

pub mod agent;
pub mod archive;
pub mod cli;
pub mod config;
pub mod exit;
pub mod keys;
pub mod pipeline;
pub mod room;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod world;
