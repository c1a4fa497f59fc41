//! The agent: in simulated time, over HTTP, and with a real Consul.

mod access;
mod api;
mod consul;
mod schema;
mod sim;
