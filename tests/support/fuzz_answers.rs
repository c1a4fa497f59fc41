//! A fuzz target for what Vault answers: a real session, and a server that says one thing wrong.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hah_vault::source::address::{Address, NoScheme};
use hah_vault::source::settings::{Reach, VaultSettings};
use hah_vault::source::token::Token;
use hah_vault::source::vault::{Login, Timing, VaultSession};
use hah_vault::source::{Secret, SourceError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::fuzz_targets::Taker;

const ROLE_ID: &str = "role-id-6580e579";
const SECRET_ID: &str = "secret-id-dc181974";
const WRAPPING: &str = "s.wrapping-7bcf6912";
const TOKEN: &str = "s.token-gkE5YSLYSz";
/// Longest error or note, in bytes: messages are cut, and names of fields listed.
const TOLD_LEN_BYTES_MAX: usize = 8 << 10;

const STATUSES: [u16; 12] = [200, 204, 200, 400, 403, 404, 412, 429, 473, 500, 503, 307];

/// Paths whose answer the input is, each with what asks for it, and the secrets that the request carries.
const ASKED: [(&str, Asking, &[&str]); 11] = [
    ("/v1/auth/approle/login", Asking::Token, &[ROLE_ID, SECRET_ID]),
    ("/v1/sys/wrapping/lookup", Asking::Token, &[WRAPPING]),
    ("/v1/sys/wrapping/unwrap", Asking::Token, &[WRAPPING]),
    ("/v1/sys/internal/ui/mounts/", Asking::Secrets, &[TOKEN]),
    ("/v1/secret/data/app", Asking::Secrets, &[TOKEN]),
    ("/v1/consul/creds/", Asking::Consul, &[TOKEN]),
    ("/v1/nomad/creds/", Asking::Nomad, &[TOKEN]),
    ("/v1/aws/creds/", Asking::Aws, &[TOKEN]),
    ("/v1/auth/token/", Asking::Look, &[TOKEN]),
    ("/v1/sys/capabilities-self", Asking::Capabilities, &[TOKEN]),
    ("/v1/sys/leases/", Asking::Consul, &[TOKEN]),
];

#[derive(Clone, Copy)]
enum Asking {
    Token,
    Secrets,
    Consul,
    Nomad,
    Aws,
    Look,
    Capabilities,
}

/// What is said, where.
#[derive(Default)]
struct Said {
    path: &'static str,
    status: u16,
    body: Vec<u8>,
}

struct World {
    runtime: tokio::runtime::Runtime,
    said: Arc<Mutex<Said>>,
    address: String,
}

/// Answers that make sense, of all other paths.
fn canned(path: &str) -> String {
    let lease = r#""lease_id":"x/creds/backup/1","renewable":true,"lease_duration":600"#;
    match path {
        "/v1/auth/approle/login" => format!(
            r#"{{"auth":{{"client_token":"{TOKEN}","lease_duration":600,"renewable":true,"token_type":"service"}}}}"#
        ),
        "/v1/sys/wrapping/lookup" => r#"{"data":{"creation_path":"auth/approle/role/backup/secret-id"}}"#.into(),
        "/v1/sys/wrapping/unwrap" => format!(r#"{{"data":{{"secret_id":"{SECRET_ID}"}}}}"#),
        "/v1/secret/data/app" => r#"{"data":{"data":{"a":"b"},"metadata":{"version":1}}}"#.into(),
        path if path.starts_with("/v1/sys/internal/ui/mounts/") => {
            r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#.into()
        }
        path if path.contains("/creds/") => format!(r#"{{{lease},"data":{{"token":"t","secret_id":"t"}}}}"#),
        _ => "{}".into(),
    }
}

async fn serve(stream: TcpStream, said: Arc<Mutex<Said>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut len) = (String::new(), 0);
        stream.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
        let target = line.split(' ').nth(1)?;
        let path = target.split('?').next()?.to_owned();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await.ok().filter(|len| *len > 0)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                len = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.ok()?;
        let (status, body) = {
            let said = said.lock().unwrap();
            if path.starts_with(said.path) { (said.status, said.body.clone()) } else { (200, canned(&path).into()) }
        };
        let mut answer = format!("HTTP/1.1 {status} Said\r\n");
        if status == 204 {
            answer.push_str("\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
            continue;
        }
        answer.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(&[answer.as_bytes(), &body].concat()).await.ok()?;
    }
}

impl World {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said: Arc<Mutex<Said>> = Arc::default();
        let shared = Arc::clone(&said);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { runtime, said, address }
    }

    fn session(&self) -> Arc<VaultSession> {
        let address = Address::parse(&self.address, NoScheme::Refuse).unwrap().0;
        let settings = VaultSettings {
            reach: Reach::at(vec![address]),
            token: Token::None,
            namespace: None,
            leader_addresses: Vec::new(),
            follow_redirect: true,
            max_retries: 0,
        };
        let login = Login::AppRole {
            mount: "approle".into(),
            role_id: Token::Given(Secret::from(ROLE_ID)),
            secret_id: Some(Token::Given(Secret::from(WRAPPING))),
            wrapped: true,
            role_name: Some("backup".into()),
        };
        let timing = Timing {
            retry_delay: Duration::ZERO,
            given_look_after: Duration::ZERO,
            close_limit: Duration::from_secs(2),
        };
        VaultSession::with_timing(settings, login, None, timing, &mut |text| panic!("{text}")).unwrap()
    }
}

/// What an error shows of itself.
fn shown(error: &SourceError) -> Vec<String> {
    vec![error.to_string(), error.hint().unwrap_or_default(), format!("{error:?}")]
}

/// Any answer of Vault: an error that says no secret and moves no cursor, or what was asked for; and an end.
pub fn vault_answer(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::start);
    let mut data = Taker(data);
    let status = STATUSES[usize::from(data.byte()) % STATUSES.len()];
    let (path, asking, carried) = ASKED[usize::from(data.byte()) % ASKED.len()];
    let body = data.0;
    *world.said.lock().unwrap() = Said { path, status, body: body.to_vec() };
    // An error page may repeat the request; an answer that fits another request may be the secret itself.
    let is_answer = body.starts_with(b"{") && !body.windows(6).any(|word| word == b"errors");
    let secrets = if is_answer { &[ROLE_ID, SECRET_ID, WRAPPING, TOKEN] } else { carried };
    let told = world.runtime.block_on(ask(world.session(), asking));
    for text in told {
        assert!(text.len() <= TOLD_LEN_BYTES_MAX, "{} bytes: {text}", text.len());
        assert!(!text.contains(char::is_control), "{text:?}");
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

async fn ask(session: Arc<VaultSession>, asking: Asking) -> Vec<String> {
    let outcome = match asking {
        Asking::Token => session.token().await.map(drop),
        Asking::Secrets => match session.secrets("secret/app").await {
            Ok(secrets) => secrets.get("nosuch").map(drop),
            Err(error) => Err(error),
        },
        Asking::Consul => session.consul_token("consul/creds/backup").await.map(drop),
        Asking::Nomad => session.nomad_token("nomad/creds/backup").await.map(drop),
        Asking::Aws => session.aws_credentials("aws/creds/backup").await.map(drop),
        Asking::Look => session.lookup_self().await.map(drop),
        Asking::Capabilities => session.capabilities(&["sys/storage/raft/snapshot"]).await.map(drop),
    };
    let mut told = outcome.err().map(|error| shown(&error)).unwrap_or_default();
    told.extend(session.close().await);
    told
}
