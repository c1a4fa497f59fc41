//! `agent`, and the commands that let one do the work.

use super::sandbox::{Ran, Sandbox, fixture_path};
use super::signals::{signal, spawn, until};
use crate::support::browser::Browser;
use hah_vault::archive::retention::Policy;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

pub(super) const TOKEN: &str = "agent-token-0123456789abcdef0123";
/// Memory of an agent that waits.
const IDLE_RSS_KIB_MAX: u64 = 40 << 10;

/// An agent in a sandbox with a repository; killed when dropped.
pub(super) struct Running {
    pub(super) sandbox: Arc<Sandbox>,
    child: Option<Child>,
    pub(super) url: String,
    token_file: PathBuf,
    notify: UnixDatagram,
}

pub(super) fn config(listen: &str, token_file: &str, more: &str) -> String {
    let vault = fixture_path("vault-00.snap");
    format!(
        "file \"vault\" {{\n  path = \"{}\"\n  schedule = \"@yearly\"\n}}\nagent {{\n  listen = \"{listen}\"\n  \
         token_file = \"{token_file}\"\n  restore_folder = \".\"\n  {more}\n}}\n",
        vault.display()
    )
}

impl Running {
    pub(super) fn start(listen: &str) -> Self {
        Self::start_in(&Arc::new(Sandbox::with_repository()), listen, "", &[])
    }

    /// With more in its block, and in its environment.
    pub(super) fn start_in(sandbox: &Arc<Sandbox>, listen: &str, more: &str, env: &[(&str, &str)]) -> Self {
        let token_file = sandbox.file("token", format!("{TOKEN}\n"));
        let socket = sandbox.work().join("agent.sock");
        let url = match listen {
            "socket" => format!("unix://{}", socket.display()),
            _ => {
                let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
                format!("127.0.0.1:{port}")
            }
        };
        sandbox.file("config.hcl", config(&url, &token_file.display().to_string(), more));
        let url = if url.starts_with("unix") { url } else { format!("http://{url}") };
        let _ = fs::remove_file(sandbox.work().join("notify"));
        let notify = UnixDatagram::bind(sandbox.work().join("notify")).unwrap();
        let mut command = sandbox.command(["--config", "config.hcl", "--log-format", "json", "agent"]);
        command.env("NOTIFY_SOCKET", sandbox.work().join("notify")).envs(env.iter().copied());
        let child = Some(spawn(command));
        let running = Self { sandbox: Arc::clone(sandbox), child, url, token_file, notify };
        assert!(running.told().starts_with("READY=1\n"));
        running
    }

    /// What systemd is told next.
    fn told(&self) -> String {
        let mut text = [0; 1000];
        self.notify.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let len = self.notify.recv(&mut text).expect("the service manager is told");
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    pub(super) fn child(&self) -> &Child {
        self.child.as_ref().unwrap()
    }

    /// A command that lets the agent do it.
    pub(super) fn ask(&self, args: &[&str]) -> Ran {
        let token_file = self.token_file.display().to_string();
        let all = ["--agent", &self.url, "--agent-token-file", &token_file];
        self.sandbox.run(all.iter().chain(args))
    }

    /// Stops it as systemd does; what it wrote.
    pub(super) fn stop(mut self) -> Ran {
        signal(self.child(), "-TERM");
        Ran::from(self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn commands_go_to_an_agent_that_does_them() {
    for listen in ["127.0.0.1", "socket"] {
        let agent = Running::start(listen);
        // The first backup is due at once.
        until("a first snapshot", || agent.ask(&["list", "--json"]).ok().objects().len() == 1);
        let backup = agent.ask(&["backup", "vault", "--json"]).ok();
        assert_eq!((&backup.objects()[0]["type"], &backup.objects()[0]["source"]), (&"backup".into(), &"vault".into()));
        let listed = agent.ask(&["list", "vault", "--json"]).ok().objects();
        assert_eq!(listed.len(), 2);
        // Of one second, their names stand in any order.
        assert!(listed.iter().any(|one| one["manifest"] == backup.objects()[0]["manifest"]));
        assert!(agent.ask(&["list"]).ok().text().contains("vault/20"));
        assert_eq!(agent.ask(&["show", "vault@latest", "--json"]).ok().objects()[0]["kind"], "vault");
        agent.ask(&["hold", "vault@latest", "--reason", "audit"]).ok();
        assert_eq!(agent.ask(&["list", "--json"]).ok().objects()[1]["hold"], true);
        agent.ask(&["hold", "--release", "vault@latest"]).ok();
        let verify = agent.ask(&["verify", "--json"]).ok().objects();
        assert_eq!((&verify[0]["type"], &verify[0]["damaged"]), (&"verify".into(), &false.into()));
        // identity.txt lies in the configuration folder.
        agent.ask(&["verify", "--rehearse"]).ok();
        let gc = agent.ask(&["gc", "--json"]).ok().objects();
        assert_eq!((&gc[0]["type"], &gc[0]["kept"], &gc[0]["dropped"]), (&"gc".into(), &2.into(), &0.into()));
        let status = agent.ask(&["status", "--json"]).ok().objects();
        assert_eq!(status[0]["jobs"][0]["failures"], 0);
        assert!(agent.ask(&["status"]).ok().text().contains("@yearly"));
        let unknown = agent.ask(&["backup", "nomad"]);
        unknown.refused(1, "there is no source nomad", "lists them");
        agent.ask(&["backup", "vault=x.snap"]).refused(2, "NAME=PATH is not for an agent", "");
        // Nothing for an agent: done here.
        agent.ask(&["stats"]).ok();
        let ended = agent.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(!ended.stderr.contains(TOKEN));
        for line in ended.stderr.lines().filter(|line| line.starts_with('{')) {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
        }
        assert!(ended.stderr.lines().all(|line| line.starts_with('{')), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn its_page_backs_up_verifies_and_rehearses_a_real_repository() {
    let agent = Running::start("127.0.0.1");
    let Some(browser) = Browser::start().await else { return };
    browser.open(&agent.url).await;
    browser.unlock(TOKEN).await;
    // The first backup is due at once.
    browser.seen("file, 1 snapshot").await;
    browser.confirmed("Back up…", "Start").await;
    browser.seen("Backup of vault: done").await;
    browser.seen("file, 2 snapshots").await;
    browser.until("document.querySelector('#verdict').dataset.level === 'good'").await;
    // Nothing is new in the second.
    let listed = agent.ask(&["list", "--json"]).ok().objects();
    let name = listed[1]["manifest"].as_str().unwrap();
    browser.until(&format!("document.querySelector('.picked').innerText.includes('{name}')")).await;
    browser.until("document.querySelector('.picked').innerText.includes(', 0 B new, ')").await;
    browser.confirmed("Verify…", "Start").await;
    browser.seen("Verification: done").await;
    browser.confirmed("Rehearse…", "Start").await;
    browser.seen("Rehearsal: done").await;
    picture(&browser, "real").await;
    browser.click("Details").await;
    browser.until("JSON.parse(document.querySelector('#ask-data').textContent || '{}').kind === 'vault'").await;
    browser.click("Close").await;
    assert_eq!(agent.ask(&["list", "--json"]).ok().objects().len(), 2);
    assert_eq!(agent.stop().code, 0);
}

/// With `HAH_VAULT_SCREENSHOTS`, the page goes there as it looks on screens and in colours of all kinds.
pub(super) async fn picture(browser: &Browser, name: &str) {
    let Some(folder) = std::env::var_os("HAH_VAULT_SCREENSHOTS").map(PathBuf::from) else { return };
    for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
        browser.screen(width, scheme).await;
        fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), browser.picture().await).unwrap();
    }
}

#[test]
fn an_agent_refuses_wrong_tokens_and_works_on() {
    let agent = Running::start("127.0.0.1");
    let wrong = agent.sandbox.file("wrong", "wrong-token-0123456789abcdef0123\n").display().to_string();
    let ran = agent.sandbox.run(["--agent", &agent.url, "--agent-token-file", &wrong, "list"]);
    ran.refused(1, "the token is wrong", "token file");
    let ran = agent.sandbox.run(["--agent", &agent.url, "list"]);
    ran.refused(1, "a token is needed", "");
    agent.ask(&["list"]).ok();
    assert_eq!(agent.stop().code, 0);
}

#[test]
fn a_reload_takes_the_new_configuration_or_leaves_the_old() {
    let agent = Running::start("127.0.0.1");
    until("a first snapshot", || agent.ask(&["list", "--json"]).ok().objects().len() == 1);
    let listen = agent.url.trim_start_matches("http://").to_owned();
    let token_file = agent.token_file.display().to_string();
    let new = config(&listen, &token_file, "schedule { gc = \"0 3 * * *\" }").replace("@yearly", "every 300d");
    agent.sandbox.file("config.hcl", &new);
    signal(agent.child(), "-HUP");
    assert!(agent.told().starts_with("RELOADING=1\n"));
    assert!(agent.told().starts_with("READY=1\n"));
    let status = agent.ask(&["status", "--json"]).ok().objects();
    let texts: Vec<&str> =
        status[0]["jobs"].as_array().unwrap().iter().map(|job| job["schedule"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["every 300d", "0 3 * * *"]);
    agent.sandbox.file("config.hcl", new.replace("0 3 * * *", "0 33 * * *"));
    signal(agent.child(), "-HUP");
    assert!(agent.told().starts_with("RELOADING=1\n"));
    assert!(agent.told().starts_with("READY=1\n"));
    assert_eq!(agent.ask(&["status", "--json"]).ok().objects()[0]["jobs"], status[0]["jobs"]);
    let ended = agent.stop();
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("the old one stays") && ended.stderr.contains("0 33 * * *"), "{}", ended.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_agent_is_small() {
    let agent = Running::start("127.0.0.1");
    until("a first snapshot", || agent.ask(&["list", "--json"]).ok().objects().len() == 1);
    for _ in 0..20 {
        agent.ask(&["status"]).ok();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", agent.child().id())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss_kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    println!("idle agent: {rss_kib} KiB");
    assert!(rss_kib < IDLE_RSS_KIB_MAX, "{rss_kib} KiB");
}

#[test]
fn what_an_agent_cannot_be_is_told_before_it_starts() {
    let sandbox = Sandbox::with_repository();
    let refused = |text: String, code: i32, error: &str, hint: &str| {
        sandbox.file("config.hcl", text);
        sandbox.run(["--config", "config.hcl", "agent"]).refused(code, error, hint);
        sandbox.run(["--config", "config.hcl", "agent", "--dry-run"]).refused(code, error, hint);
    };
    let open = config("0.0.0.0:8205", "token", "").replace("  token_file = \"token\"\n", "");
    refused(open, 2, "0.0.0.0:8205 is open to the network", "set token_file");
    refused(config("127.0.0.1:0", "nowhere", ""), 2, "the token file nowhere cannot be used", "openssl rand");
    sandbox.file("token", TOKEN);
    refused(config("8205", "token", ""), 2, "is no address", "");
    let bad = config("127.0.0.1:0", "token", "schedule { gc = \"61 * * * *\" }");
    refused(bad, 2, "config.hcl:9: schedule.gc of agent: schedule \"61 * * * *\"", "");
    sandbox.run(["agent"]).refused(2, "no source is configured", "");
    sandbox.run(["status"]).refused(2, "status asks an agent", "--agent");
    sandbox.file("config.hcl", config("127.0.0.1:0", "token", "schedule { verify = \"@daily\" }"));
    let plan = sandbox.run(["--config", "config.hcl", "agent", "--dry-run"]).ok().text();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["jobs"][0]["schedule"], "@yearly");
    assert_eq!(plan["jobs"][1]["kind"], "verify");
    // Without a retention it keeps what gc keeps.
    assert_eq!(plan["retention"], Policy::default().describe());
    let more = "retention { keep_last = 7 }\n  budget = \"1GB\"";
    let own = "  retention {\n    keep_all = true\n  }\n  schedule = \"@yearly\"";
    let text = config("127.0.0.1:0", "token", more).replace("  schedule = \"@yearly\"", own);
    sandbox.file("config.hcl", &text);
    let plan = sandbox.run(["--config", "config.hcl", "agent", "--dry-run"]).ok().text();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["retention"], &plan["retention_of"]["vault"]), (&"last 7".into(), &"everything".into()));
    let both = text.replace("keep_all = true", "keep_all = true\n    keep_last = 1");
    refused(both, 2, "retention.keep_all of file \"vault\"", "");
}
