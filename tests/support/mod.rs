//! Stand-ins for the servers and stores that hah-vault talks to.

pub mod fault_store;
pub mod s3_server;
