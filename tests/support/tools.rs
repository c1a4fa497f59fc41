//! Commands that tests run beside the product.

use std::process::Command;

/// Insists on a command: `tests/setup.sh` installs all of them.
pub fn tool(name: &str) {
    let there = Command::new(name).arg("--version").output().is_ok();
    assert!(there, "the command {name} is missing: run tests/setup.sh");
}
