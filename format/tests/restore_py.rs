//! Runs the tests of `restore.py`, the second reader: its self-test over the vectors, and a small repository made
//! with the real `age` and `zstd` (Debian packages `age`, `zstd`, `python3`).

use std::process::Command;

#[test]
fn the_second_reader_restores_and_refuses() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/restore_test.py");
    let done = Command::new("python3").args(["-B", script]).output().expect("python3, age and zstd are needed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
