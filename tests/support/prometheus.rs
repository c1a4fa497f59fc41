//! A real Prometheus that scrapes one target: `tests/setup_promtool.sh` fetches it.

use super::tools::fetched;
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Kept in a folder of its own; killed when dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes `target`, `host:port`, every four seconds with the token in a file, and judges by the alert rules in `deploy/`.
    /// None where the program is missing.
    pub async fn start(target: &str, token_file: &Path) -> Option<Self> {
        let program = fetched("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml");
        let config = serde_json::json!({
            "global": {"scrape_interval": "4s", "scrape_timeout": "4s", "evaluation_interval": "4s"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "hah-vault",
                "authorization": {"credentials_file": token_file},
                "static_configs": [{"targets": [target]}],
            }],
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display())).arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let prometheus = Self { child, url: format!("http://127.0.0.1:{port}"), http, _folder: folder };
        let began = Instant::now();
        while prometheus.http.get(format!("{}/-/ready", prometheus.url)).send().await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "prometheus does not come up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(prometheus)
    }

    /// What an expression gives now: labels and value of each series.
    pub async fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let form = format!("query={}", percent_encoded(expression));
        let request = self.http.post(format!("{}/api/v1/query", self.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let text = request.send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{expression}: {text}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].take();
        let series = series.as_array().unwrap_or_else(|| panic!("{expression}: no vector")).iter();
        series.map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap())).collect()
    }

    /// The one value of an expression; `None` if it has none.
    pub async fn value(&self, expression: &str) -> Option<f64> {
        let found = self.query(expression).await;
        assert!(found.len() < 2, "{expression}: {found:?}");
        found.first().map(|(_, value)| *value)
    }
}

fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
