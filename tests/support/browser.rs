//! A real Chromium without a window, driven by the WebDriver protocol (W3C): only what the tests of the web page need.

use reqwest::Client;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// Longest wait for something on a page.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of an element's id, from the WebDriver standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// One at a time: each takes half a gigabyte.
static ONE: Mutex<()> = Mutex::const_new(());

/// Keys of the WebDriver standard.
pub const ESCAPE: &str = "\u{e00c}";
pub const ENTER: &str = "\u{e007}";
pub const LEFT: &str = "\u{e012}";
pub const HOME: &str = "\u{e011}";
pub const TAB: &str = "\u{e004}";
pub const BACKSPACE: &str = "\u{e003}";

/// Both programs are there. Under CI they must be: `tests/setup.sh` installs them.
fn is_there() -> bool {
    let found = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let is_there = found("chromedriver") && found("chromium");
    assert!(is_there || std::env::var_os("CI").is_none(), "Chromium is missing: run tests/setup_chromium.sh");
    if !is_there {
        println!("NOT TESTED: Chromium or its driver is missing: run tests/setup_chromium.sh");
    }
    is_there
}

/// A browser with a profile of its own; ends when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    http: Client,
    _profile: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts one; none where the programs are missing.
    pub async fn start() -> Option<Self> {
        if !is_there() {
            return None;
        }
        let one = ONE.lock().await;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = port_of(&mut driver);
        let profile = tempfile::tempdir().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut browser = Self { driver, port, session: String::new(), http, _profile: profile, _one: one };
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--lang=en-US",
            &format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": flags},
        }}});
        let session = browser.send("POST", "/session", wanted).await;
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = self.http.request(method.parse().unwrap(), url).timeout(PATIENCE);
        if method == "POST" {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.send("POST", &format!("{}{path}", self.session), body).await
    }

    /// A command of Chromium's own protocol.
    async fn chromium(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Goes to a page.
    pub async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    /// What a script, the body of a function, returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({expression})")).await != true {
            if began.elapsed() > PATIENCE {
                let text = self.run("return document.body.innerText").await;
                panic!("never: {expression}\n{}\n{:?}", text.as_str().unwrap(), self.log().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What can be read of an element.
    pub async fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({}).innerText", json!(css));
        self.run(&script).await.as_str().unwrap().to_owned()
    }

    /// The path of an element that a script finds.
    async fn element(&self, found: &str) -> String {
        self.until(found).await;
        let element = self.run(&format!("return {found}")).await;
        format!("/element/{}", element[ELEMENT].as_str().unwrap())
    }

    /// Clicks a button that can be seen, in the open dialog if there is one, as the mouse does.
    pub async fn click(&self, text: &str) {
        let found = format!(
            "[...(document.querySelector('dialog[open]') ?? document).querySelectorAll('button')].find(button => \
             button.textContent === {} && button.checkVisibility() && !button.disabled)",
            json!(text)
        );
        let element = self.element(&found).await;
        self.post(&format!("{element}/click"), json!({})).await;
    }

    /// Types into a field.
    pub async fn write(&self, css: &str, text: &str) {
        let element = self.element(&format!("document.querySelector({})", json!(css))).await;
        self.post(&format!("{element}/value"), json!({"text": text})).await;
    }

    /// Presses keys where the focus is.
    pub async fn press(&self, keys: &[&str]) {
        let presses = keys
            .iter()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]);
        let actions: Vec<Value> = presses.collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await;
    }

    /// Gives a token to the agent's page.
    pub async fn unlock(&self, token: &str) {
        self.until("!document.querySelector('#login').hidden").await;
        self.write("#token", &format!("{token}{ENTER}")).await;
    }

    /// Waits until a text can be read.
    pub async fn seen(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Clicks a button of the agent's page, and the one that confirms it.
    pub async fn confirmed(&self, button: &str, confirmation: &str) {
        self.click(button).await;
        self.until("document.querySelector('#ask').open").await;
        self.click(confirmation).await;
        self.until("!document.querySelector('#ask').open").await;
    }

    /// A screen of this width, in pixels, and the colours that its owner prefers: `light` or `dark`.
    pub async fn screen(&self, width: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.chromium("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.chromium("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// A picture of the whole page, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let shot = json!({"captureBeyondViewport": true, "format": "png"});
        let data = self.chromium("Page.captureScreenshot", shot).await["data"].take();
        base64::engine::general_purpose::STANDARD.decode(data.as_str().unwrap()).unwrap()
    }

    /// What the browser complained of since the last call: scripts that fail, what a policy forbids, refused requests.
    pub async fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "browser"})).await;
        entries.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// The driver chooses a port and tells of it.
fn port_of(driver: &mut Child) -> u16 {
    let mut output = BufReader::new(driver.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "chromedriver ended");
        let port = line.trim().strip_suffix('.').and_then(|text| text.rsplit_once("successfully on port "));
        if let Some((_, port)) = port {
            // Whatever else it says must go somewhere.
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return port.parse().unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends Chromium only when it is asked to.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let request = format!("DELETE {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", self.session);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
