//! Commands that tests run beside the product.

use std::path::PathBuf;
use std::process::Command;

/// Insists on a command: `tests/setup.sh` installs all of them.
pub fn tool(name: &str) {
    let there = Command::new(name).arg("--version").output().is_ok();
    assert!(there, "the command {name} is missing: run tests/setup.sh");
}

/// Prometheus' own checker; none where `tests/setup.sh` was not run. Under CI it must be there.
pub fn promtool() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let fetched = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("tools/promtool");
    let found = [PathBuf::from("promtool"), fetched]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "promtool is missing: run tests/setup_promtool.sh");
    if found.is_none() {
        println!("NOT TESTED: promtool is missing: run tests/setup_promtool.sh");
    }
    found
}
