//! The agent: in simulated time, over HTTP, in a browser, and with a real Consul.

mod access;
mod api;
mod consul;
mod page;
mod schema;
mod sim;
