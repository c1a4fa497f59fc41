//! Commands that tests run beside the product.

use std::path::PathBuf;
use std::process::Command;

/// Insists on a command: `tests/setup.sh` installs all of them.
pub fn tool(name: &str) {
    let there = Command::new(name).arg("--version").output().is_ok();
    assert!(there, "the command {name} is missing: run tests/setup.sh");
}

/// Prometheus' own checker.
pub fn promtool() -> Option<PathBuf> {
    fetched("promtool")
}

/// A program of Prometheus; none where `tests/setup.sh` was not run. Under CI it must be there.
pub fn fetched(name: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let there = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("tools").join(name);
    let found = [PathBuf::from(name), there]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "{name} is missing: run tests/setup_promtool.sh");
    if found.is_none() {
        println!("NOT TESTED: {name} is missing: run tests/setup_promtool.sh");
    }
    found
}
