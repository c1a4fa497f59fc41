//! Nomad jobs: the keys of each block against the job specification.

use super::files::{PROGRAM, of};
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};

/// Blocks, and the attributes and blocks in them, as Nomad's documentation lists them (1.7 to 1.11): those in use here.
/// A map takes any key.
const SCHEMA: [(&str, &[&str]); 19] = [
    ("variable", &["type", "description", "default"]),
    (
        "job",
        &["type", "namespace", "region", "datacenters", "node_pool", "priority", "periodic", "group", "update", "meta"],
    ),
    ("periodic", &["cron", "crons", "time_zone", "prohibit_overlap", "enabled"]),
    ("group", &["count", "restart", "reschedule", "ephemeral_disk", "task", "network", "service", "update"]),
    ("restart", &["attempts", "delay", "interval", "mode", "render_templates"]),
    ("reschedule", &["attempts", "delay", "delay_function", "interval", "max_delay", "unlimited"]),
    ("ephemeral_disk", &["migrate", "size", "sticky"]),
    ("update", &["max_parallel", "health_check", "min_healthy_time", "healthy_deadline", "auto_revert"]),
    ("network", &["mode", "port", "dns"]),
    ("port", &["static", "to", "host_network"]),
    (
        "task",
        &[
            "driver",
            "user",
            "config",
            "identity",
            "env",
            "resources",
            "template",
            "service",
            "kill_signal",
            "kill_timeout",
        ],
    ),
    ("identity", &["name", "aud", "change_mode", "change_signal", "env", "file", "filepath", "ttl"]),
    ("resources", &["cpu", "cores", "memory", "memory_max"]),
    ("template", &["data", "destination", "change_mode", "change_signal", "env", "perms", "uid", "gid", "once"]),
    ("service", &["name", "port", "provider", "tags", "check", "check_restart", "task", "address_mode"]),
    ("check", &["name", "type", "path", "port", "interval", "timeout", "protocol", "header", "command"]),
    ("check_restart", &["limit", "grace", "ignore_warnings"]),
    // Of the docker driver.
    ("config", &["image", "args", "readonly_rootfs", "cap_drop", "security_opt", "pids_limit", "ports", "mount"]),
    ("mount", &["type", "target", "source", "readonly", "tmpfs_options"]),
];
const MAPS: [&str; 2] = ["env", "meta"];

fn jobs() -> Vec<(String, Body)> {
    let files = of(".nomad.hcl");
    files.into_iter().map(|file| (file.name, file.text.parse().expect("HCL"))).collect()
}

fn check(file: &str, block: &Block) {
    let name = block.ident.as_str();
    if MAPS.contains(&name) {
        return;
    }
    let (_, keys) = SCHEMA.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{file}: block {name}"));
    for attribute in block.body.attributes() {
        assert!(keys.contains(&attribute.key.as_str()), "{file}: {name}.{}", attribute.key.as_str());
    }
    for inner in block.body.blocks() {
        assert!(keys.contains(&inner.ident.as_str()) || MAPS.contains(&inner.ident.as_str()), "{file}: {name}");
        check(file, inner);
    }
}

/// All blocks of a name, at any depth.
fn blocks<'b>(body: &'b Body, name: &str) -> Vec<&'b Block> {
    let mut found = Vec::new();
    for block in body.blocks() {
        if block.ident.as_str() == name {
            found.push(block);
        }
        found.extend(blocks(&block.body, name));
    }
    found
}

fn value<'b>(block: &'b Block, key: &str) -> &'b Expression {
    &block.body.get_attribute(key).unwrap_or_else(|| panic!("no {key}")).value
}

#[test]
fn every_key_is_in_the_job_specification() {
    for (file, body) in jobs() {
        assert!(body.attributes().next().is_none(), "{file}");
        for block in body.blocks() {
            assert!(["variable", "job"].contains(&block.ident.as_str()), "{file}");
            check(&file, block);
        }
    }
}

#[test]
fn every_variable_is_declared_and_used() {
    for file in of(".nomad.hcl") {
        let body: Body = file.text.parse().unwrap();
        for variable in blocks(&body, "variable") {
            let name = variable.labels[0].as_str();
            assert!(file.text.contains(&format!("var.{name}")), "{}: {name} is not used", file.name);
        }
        for used in file.text.split("var.").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let declared = blocks(&body, "variable").iter().any(|v| v.labels[0].as_str() == name);
            assert!(declared, "{}: {name} is not declared", file.name);
        }
    }
}

#[test]
fn tasks_have_a_memory_limit_no_root_and_an_identity() {
    for (file, body) in jobs() {
        for task in blocks(&body, "task") {
            let resources = blocks(&task.body, "resources")[0];
            assert_eq!(value(resources, "memory").as_number().and_then(|n| n.as_u64()), Some(256), "{file}");
            assert_eq!(value(resources, "cpu").as_number().and_then(|n| n.as_u64()), Some(500), "{file}");
            assert!(value(task, "user").as_str().is_some_and(|user| !user.starts_with(['0', 'r'])), "{file}");
            let config = blocks(&task.body, "config")[0];
            assert_eq!(value(config, "readonly_rootfs").as_bool(), Some(true), "{file}");
            // One for Vault, in the file where the program looks for it by itself.
            let identities = blocks(&task.body, "identity");
            let vault =
                |block: &&&Block| block.body.get_attribute("name").is_some_and(|a| a.value.as_str() == Some("vault"));
            let vault = identities.iter().find(vault).expect("an identity for Vault");
            assert_eq!(value(vault, "file").as_bool(), Some(true), "{file}");
        }
    }
}

#[test]
fn periodic_jobs_do_not_overlap() {
    let periodic: usize = jobs()
        .iter()
        .flat_map(|(file, body)| {
            blocks(body, "periodic").into_iter().map(move |block| (file, block)).collect::<Vec<_>>()
        })
        .map(|(file, block)| assert_eq!(value(block, "prohibit_overlap").as_bool(), Some(true), "{file}"))
        .count();
    assert!(periodic >= 1);
}

/// A text attribute; a heredoc too.
fn text(block: &Block, key: &str) -> String {
    match value(block, key) {
        Expression::HeredocTemplate(heredoc) => heredoc.template.to_string(),
        other => other.as_str().unwrap_or_else(|| panic!("{key} is no text")).to_owned(),
    }
}

#[test]
fn the_agents_configuration_is_one_that_the_program_takes() {
    let (_, body) = jobs().into_iter().find(|(file, _)| file.ends_with("agent.nomad.hcl")).expect("the agent's job");
    let (template, env) = (blocks(&body, "template")[0], blocks(&body, "env")[0]);
    assert_eq!(format!("/{}", text(template, "destination")), text(env, "HAH_VAULT_CONFIG"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.hcl");
    std::fs::write(&config, text(template, "data")).unwrap();
    let mut command = std::process::Command::new(PROGRAM);
    command.args(["agent", "--dry-run"]).env_clear().env("HOME", folder.path());
    for attribute in env.body.attributes() {
        // What Nomad fills in stands for itself.
        let value = attribute.value.as_str().unwrap_or("http://filled.in");
        command.env(attribute.key.as_str(), value);
    }
    let output = command.env("HAH_VAULT_CONFIG", &config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Whoever is in the allocation reaches it without options.
    assert_eq!(plan["listen"], text(env, "HAH_VAULT_AGENT"));
    let jobs: Vec<(&str, &str)> = plan["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["kind"].as_str().unwrap(), job["source"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(jobs, [("backup", "vault"), ("backup", "consul"), ("backup", "nomad"), ("verify", "")]);
    // Nomad waits for longer than the agent: 20 s for runs to finish, 30 s for those that are stopped, 5 s to tell.
    let task = blocks(&body, "task")[0];
    assert_eq!((text(task, "kill_timeout").as_str(), text(task, "kill_signal").as_str()), ("60s", "SIGTERM"));
}
