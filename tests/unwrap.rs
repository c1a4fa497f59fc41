//! Snapshots taken out of their wrapper, checked, and wrapped again.

mod archive;
mod damage;
mod fixtures;
mod gzip;
mod rewrap;
mod walker;
