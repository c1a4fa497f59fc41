//! `deploy/`: every file is read by a real parser of its kind, and names nothing that does not exist.

mod container;
mod files;
mod kubernetes;
mod names;
mod nomad;
mod policies;
mod scripts;
mod systemd;
