//! What a Raft snapshot is: the value format and the records of `state.bin`.

pub mod msgpack;
pub mod records;
