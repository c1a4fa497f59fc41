//! The worst day, by the commands of the README as they stand there.

use super::sandbox::{BINARY, Sandbox};
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const MASTER: &str = "11111111-2222-3333-4444-555555555555";
const URL: &str = "s3://bucket/prefix";

/// The code blocks of a numbered step below a heading, for the programs that are here.
fn step(number: usize) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let day = text.split("\n## The worst day\n").nth(1).expect("heading").split("\n## ").next().expect("section");
    let from = day.find(&format!("\n{number}. **")).expect("step");
    let rest = &day[from + 1..];
    let to = rest.find(&format!("\n{}. **", number + 1)).or_else(|| rest.find("\nIf something")).unwrap_or(rest.len());
    let blocks = rest[..to].split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("end of the block"));
    let known = |line: &&str| ["export ", "hah-vault ", "consul "].iter().any(|start| line.starts_with(start));
    blocks.flat_map(|block| block.lines().map(str::trim).filter(known)).map(|line| format!("{line}\n")).collect()
}

/// A new machine, with nothing on it but the identity.
struct NewHost {
    sandbox: Sandbox,
    path: String,
    store: String,
}

impl NewHost {
    fn new(identity: &str, consul: &Path, store: &S3Server) -> Self {
        let sandbox = Sandbox::new();
        sandbox.file("identity.txt", identity);
        let programs =
            [Path::new(BINARY), consul].into_iter().filter_map(|program| program.parent()?.canonicalize().ok());
        let path: Vec<String> = programs.map(|folder| folder.display().to_string()).collect();
        let path = format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap());
        Self { sandbox, path, store: store.endpoint() }
    }

    /// Runs steps; only what stands for something is filled in, and questions are answered.
    fn run(&self, steps: &[usize], server: &ConsulServer) -> Output {
        let mut text: String = steps.iter().map(|number| step(*number)).collect();
        let filled = [
            ("r2://ACCOUNT/BUCKET", URL),
            ("AWS_ACCESS_KEY_ID=…", &format!("AWS_ACCESS_KEY_ID={ACCESS_KEY_ID}")),
            ("AWS_SECRET_ACCESS_KEY=…", &format!("AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}")),
            ("CONSUL_HTTP_ADDR=…", &format!("CONSUL_HTTP_ADDR={}", server.url())),
            ("CONSUL_HTTP_TOKEN=…", &format!("CONSUL_HTTP_TOKEN={MASTER}")),
            ("--to consul ", "--to consul --yes "),
        ];
        filled.iter().for_each(|(from, to)| text = text.replace(from, to));
        assert!(!text.contains('…'), "{text}");
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &text]).env_clear().env("PATH", &self.path).env("HOME", self.sandbox.tmp());
        shell.env("AWS_ENDPOINT_URL", &self.store).env("AWS_REGION", "us-east-1").current_dir(self.sandbox.work());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worst_day_goes_by_the_readme() {
    let Some(program) = consul() else { return };
    let store = S3Server::start();
    let old_host = Sandbox::new();
    let mut lost = ConsulServer::start(&program, MASTER).await;
    lost.fill().await;
    let before = lost.dump(MASTER).await;
    let (url, endpoint) = (lost.url(), store.endpoint());
    let env = [
        ("HAH_VAULT_REPO", URL),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("CONSUL_HTTP_ADDR", url.as_str()),
        ("CONSUL_HTTP_TOKEN", MASTER),
    ];
    old_host.run_with_env(["backup", "--init", "consul"], &env).ok();
    let identity = fs::read_to_string(old_host.config("identity.txt")).unwrap();
    lost.kill();
    drop(old_host);

    // Step 1, then either of the others: first by a file, which adds nothing to the store.
    assert!(step(2).contains("--to consul") && step(3).contains("consul snapshot restore"), "{}{}", step(2), step(3));
    for (way, said) in [(3, "byte for byte"), (2, "to go back")] {
        let fresh = ConsulServer::start(&program, MASTER).await;
        let host = NewHost::new(&identity, &program, &store);
        let output = host.run(&[1, way], &fresh);
        assert!(String::from_utf8_lossy(&output.stdout).contains("consul/20"), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
        assert_eq!(fresh.dump(MASTER).await, before, "{way}");
        // Now the newest is what a new server held: a file of that is warned of.
        if way == 2 {
            let output = host.run(&[1, 3], &fresh);
            assert!(String::from_utf8_lossy(&output.stderr).contains("was about to replace it"), "{output:?}");
        }
    }
}
