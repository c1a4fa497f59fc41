//! Retiring, collecting, bringing back and holding snapshots, with the store's clock in the test's hands.

mod crashes;
mod damaged;
mod holds;
mod lab;
mod lifecycle;
mod refusals;
mod rules;
mod undelete;
