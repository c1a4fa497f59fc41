//! Who is let in, and what a hostile client can do: nothing.

use super::super::support::agent_http::{How, Served, TOKEN};
use hah_vault::agent::api::{Access, BODY_LEN_BYTES_MAX};
use hah_vault::agent::client::{AgentClient, ClientError, ClientSettings};
use hah_vault::agent::serve::{Listen, Listener, ServeError, TlsFiles};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn only_a_line_of_the_token_file_opens() {
    let served = Served::start().await;
    for path in ["/", "/healthz", "/readyz", "/v1/openapi.json"] {
        assert_eq!(served.send(served.request("GET", path)).await.status, 200, "{path}");
    }
    for path in ["/v1/status", "/metrics", "/v1/runs", "/v1/nothing"] {
        let reply = served.send(served.request("GET", path)).await;
        assert_eq!((reply.status, reply.json["code"].as_str()), (401, Some("unauthorized")), "{path}");
        assert!(reply.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    }
    for token in ["", "wrong", &TOKEN[1..], &format!("{TOKEN}x")] {
        let reply = served.send(served.request("GET", "/v1/status").bearer_auth(token)).await;
        assert_eq!(reply.status, 401, "{token}");
        assert!(!reply.text.contains(TOKEN));
    }
    // A new token counts at once, beside the old one, and the old one no more when it is gone.
    let new = "another-token-0123456789abcdef";
    std::fs::write(&served.token_file, format!("{TOKEN}\n{new}\n")).unwrap();
    assert_eq!(served.send(served.request("GET", "/v1/status").bearer_auth(new)).await.status, 200);
    assert_eq!(served.get("/v1/status").await.status, 200);
    std::fs::write(&served.token_file, format!("{new}\n")).unwrap();
    assert_eq!(served.get("/v1/status").await.status, 401);
    std::fs::remove_file(&served.token_file).unwrap();
    assert_eq!(served.send(served.request("GET", "/v1/status").bearer_auth(new)).await.status, 500);
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down() {
    let served = Served::start().await;
    let mut limited = 0;
    for number in 0..40 {
        let reply = served.send(served.request("GET", "/v1/status").bearer_auth(format!("guess-{number}"))).await;
        limited += usize::from(reply.status == 429);
        if reply.status == 429 {
            assert!(reply.headers.contains_key("retry-after"));
        }
    }
    assert!(limited >= 20, "{limited}");
    assert_eq!(served.send(served.request("GET", "/healthz")).await.status, 200);
}

#[tokio::test]
async fn without_a_token_a_loopback_listener_shows_and_does_nothing() {
    let served = Served::start_with(How { no_token: true, ..How::default() }).await;
    let status = served.send(served.request("GET", "/v1/status")).await;
    assert_eq!((status.status, &status.json["control"]), (200, &json!(false)));
    let refused = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (403, Some("forbidden")));
    assert_eq!(served.worker.tasks.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_socket_is_its_owners_and_needs_no_token() {
    let mut served = Served::start_with(How { socket: true, ..How::default() }).await;
    let mode = std::fs::metadata(&served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let request = served.request("POST", "/v1/runs").header("content-type", "application/json");
    assert_eq!(served.send(request.body(r#"{"kind":"verify"}"#)).await.status, 202);
    let listen = Listen::Unix(served.socket.clone());
    let second = Listener::bind(&listen, None, &Access::default()).await;
    assert!(matches!(second, Err(ServeError::Bind { .. })), "the socket is in use");
    served.stop().await;
    assert!(!served.socket.exists());
    // What a killed agent left behind is replaced; a file that is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&served.socket).unwrap());
    assert!(Listener::bind(&listen, None, &Access::default()).await.is_ok());
    let file = served.folder.path().join("file");
    std::fs::write(&file, "data").unwrap();
    assert!(Listener::bind(&Listen::Unix(file.clone()), None, &Access::default()).await.is_err());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "data");
}

#[tokio::test]
async fn nobody_listens_to_the_network_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let bound = Listener::bind(&address.parse().unwrap(), None, &Access::default()).await;
        assert!(matches!(bound, Err(ServeError::NeedsToken { .. })), "{address}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for content in ["", "short\n", "# a-comment-that-is-long-enough\n"] {
        std::fs::write(&path, content).unwrap();
        let access = Access { token_file: Some(path.clone()), ..Access::default() };
        let bound = Listener::bind(&"0.0.0.0:0".parse().unwrap(), None, &access).await;
        assert!(matches!(bound, Err(ServeError::Token { .. })), "{content:?}");
    }
    for text in ["", "8205", "host:8205", "127.0.0.1", "unix://relative", "http://127.0.0.1:1"] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn names_that_somebody_points_at_us_are_refused() {
    let served = Served::start_with(How { hosts: vec!["backup.example".into()], ..How::default() }).await;
    for (host, status) in [("evil.example", 421), ("backup.example:8205", 200), ("localhost", 200), ("127.0.0.1", 200)]
    {
        let reply = served.send(served.request("GET", "/v1/status").bearer_auth(TOKEN).header("host", host)).await;
        assert_eq!(reply.status, status, "{host}");
    }
    let none = raw(served.port(), b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(none.starts_with("HTTP/1.0 421"), "{none}");
}

#[tokio::test]
async fn pages_of_other_sites_can_start_nothing() {
    let served = Served::start().await;
    let post = || served.request("POST", "/v1/schedules/pause").bearer_auth(TOKEN);
    let json = "application/json";
    let cross = post().header("origin", "http://evil.example").header("content-type", json).body("{}");
    assert_eq!(served.send(cross).await.status, 403);
    let cross = post().header("sec-fetch-site", "cross-site").header("content-type", json).body("{}");
    assert_eq!(served.send(cross).await.status, 403);
    // What a form can send without being asked first.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = served.send(post().header("content-type", kind).body("{}")).await;
        assert_eq!((reply.status, reply.json["code"].as_str()), (415, Some("unsupported")), "{kind}");
    }
    let own = post().header("origin", &served.base).header("content-type", json).body("{}");
    assert_eq!(served.send(own).await.status, 200);
}

#[tokio::test]
async fn every_answer_has_the_headers_that_browsers_heed() {
    let served = Served::start().await;
    for path in ["/", "/healthz", "/v1/status", "/v1/nothing"] {
        let headers = served.send(served.request("GET", path)).await.headers;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
}

/// Sends bytes and reads what comes until the connection ends.
async fn raw(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bodies_and_heads_have_limits() {
    let served = Served::start().await;
    let long = format!("{{\"source\":\"{}\"}}", "x".repeat(BODY_LEN_BYTES_MAX));
    let reply = served.ask("POST", "/v1/schedules/pause", &long).await;
    assert_eq!((reply.status, reply.json["code"].as_str()), (413, Some("too_large")));
    // Without a length, and without an end.
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let answer = raw(served.port(), format!("{head}{}", chunk.repeat(8)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let header = format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: {}\r\n\r\n", "x".repeat(40_000));
    let answer = raw(served.port(), header.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = raw(served.port(), format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    for rubbish in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n", b"GET"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port())).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        drop(stream);
    }
    assert_eq!(served.get("/v1/status").await.status, 200);
}

#[tokio::test]
async fn slow_clients_hold_nobody_up_and_are_dropped() {
    let served = Served::start().await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port())).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(served.get("/v1/status").await.status, 200);
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await.expect("dropped");
    }
    // A body that never comes.
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\
         Content-Type: application/json\r\n\r\n{{"
    );
    let answer = raw(served.port(), head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls_names").join(name)
}

fn authority() -> reqwest::Certificate {
    reqwest::Certificate::from_pem(&std::fs::read(tls("authority.pem")).unwrap()).unwrap()
}

#[tokio::test]
async fn tls_is_spoken_and_client_certificates_can_be_asked_for() {
    let files = TlsFiles { certificate: tls("server.pem"), key: tls("server.key.pem"), client_ca: None };
    let hosts = || vec!["vault.test".to_owned()];
    let served = Served::start_with(How { tls: Some(files.clone()), hosts: hosts(), ..How::default() }).await;
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let client = || reqwest::Client::builder().no_proxy().resolve("vault.test", here).tls_certs_only([authority()]);
    let url = format!("{}/v1/status", served.base);
    let answer = client().build().unwrap().get(&url).bearer_auth(TOKEN).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let files = TlsFiles { client_ca: Some(tls("authority.pem")), ..files };
    let served = Served::start_with(How { tls: Some(files), hosts: hosts(), ..How::default() }).await;
    let url = format!("{}/v1/status", served.base);
    assert!(client().build().unwrap().get(&url).bearer_auth(TOKEN).send().await.is_err());
    let mut pem = std::fs::read(tls("client.pem")).unwrap();
    pem.extend(std::fs::read(tls("client.key.pem")).unwrap());
    let with = client().identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap();
    assert_eq!(with.get(&url).bearer_auth(TOKEN).send().await.unwrap().status(), 200);
    assert_eq!(with.get(&url).send().await.unwrap().status(), 401, "a certificate does not stand for a token");
    let broken = TlsFiles { certificate: tls("README.md"), key: tls("server.key.pem"), client_ca: None };
    let access = Access { token_file: Some(served.token_file.clone()), ..Access::default() };
    let bound = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Some(&broken), &access).await;
    assert!(matches!(bound, Err(ServeError::Tls { .. })));
}

#[tokio::test]
async fn the_client_asks_follows_and_tells_what_was_refused() {
    let served = Served::start().await;
    let settings =
        ClientSettings { url: served.base.clone(), token_file: Some(served.token_file.clone()), ca_file: None };
    let client = AgentClient::new(&settings).unwrap();
    assert_eq!(client.get("/v1/status").await.unwrap()["instance"], "tests");
    let run = client.post("/v1/runs", &json!({"kind": "backup", "source": "vault"})).await.unwrap();
    let mut told = 0;
    let ended = client.follow(run["id"].as_str().unwrap(), &mut |_| told += 1).await.unwrap();
    assert_eq!(ended["state"], "done");
    assert!(told >= 1);
    let refused = client.post("/v1/runs", &json!({"kind": "backup", "source": "nobody"})).await;
    match refused {
        Err(ClientError::Refused { status: 404, code, detail, .. }) => {
            assert_eq!((code.as_str(), detail.as_str()), ("not_found", "there is no source nobody"));
        }
        other => panic!("{other:?}"),
    }
    let nobody = AgentClient::new(&ClientSettings { url: "http://127.0.0.1:1".into(), ..ClientSettings::default() });
    assert!(matches!(nobody.unwrap().get("/v1/status").await, Err(ClientError::Connect { .. })));
}
