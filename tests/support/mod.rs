//! What several tests need, and stand-ins for the servers and stores that hah-vault talks to.

pub mod agent;
pub mod agent_http;
pub mod browser;
pub mod certificates;
pub mod consul_server;
pub mod consul_stand_in;
pub mod fault_store;
pub mod fuzz_answers;
pub mod fuzz_targets;
pub mod fuzz_texts;
pub mod held_world;
pub mod hooked_store;
pub mod msgpack;
pub mod nomad_server;
pub mod prometheus;
pub mod repo;
pub mod s3_server;
pub mod service_server;
pub mod small_disk;
pub mod snapshot;
pub mod state;
pub mod stopping_store;
pub mod tools;
pub mod vault_cluster;
pub mod vault_server;
