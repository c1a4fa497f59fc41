//! Each endpoint: what it answers, checked against the OpenAPI document, and what it does.

use super::super::support::agent_http::{Reply, Served, TOKEN};
use super::schema::{check_answer, document};
use hah_vault::agent::RunKind;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// Asks and checks the answer against the document. `template`: the path as the document names it.
async fn checked(served: &Served, method: &str, template: &str, path: &str, body: Option<Value>) -> Reply {
    let reply = match body {
        Some(body) => served.ask(method, path, &body.to_string()).await,
        None => served.send(served.request(method, path).bearer_auth(TOKEN)).await,
    };
    let shown = if reply.kind.ends_with("json") || reply.text.is_empty() {
        reply.json.clone()
    } else {
        Value::String(reply.text.clone())
    };
    check_answer(method, template, reply.status, &reply.kind, &shown);
    reply
}

async fn get(served: &Served, template: &str, path: &str) -> Reply {
    checked(served, "GET", template, path, None).await
}

async fn newest(served: &Served) -> String {
    served.get("/v1/manifests").await.json["manifests"][0]["manifest"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn everything_that_looks_answers_as_described() {
    let served = Served::start().await;
    for path in [
        "/v1/status",
        "/v1/sources",
        "/v1/manifests",
        "/v1/runs",
        "/healthz",
        "/readyz",
        "/metrics",
        "/",
        "/v1/openapi.json",
    ] {
        let reply = get(&served, path, path).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    let status = served.get("/v1/status").await.json;
    assert_eq!((&status["lock"]["kind"], &status["lock"]["held"]), (&json!("none"), &json!(true)));
    assert_eq!(status["control"], true);
    assert_eq!(status["storage"]["bytes"], 4000);
    let sources = served.get("/v1/sources").await.json;
    assert_eq!(sources["sources"][0]["name"], "vault");
    assert_eq!(sources["sources"][0]["manifests"], 1);
    let name = newest(&served).await;
    let manifest = get(&served, "/v1/manifests/{source}/{name}", &format!("/v1/manifests/{name}")).await;
    assert_eq!(manifest.json["manifest"], name);
    let document: Value = served.get("/v1/openapi.json").await.json;
    assert_eq!(document, self::document());
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let served = Served::start().await;
    for (path, operations) in document()["paths"].as_object().unwrap() {
        let concrete = path.replace("{source}", "nobody").replace("{name}", "x").replace("{id}", "x");
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let is_described = operations[method.to_lowercase()].is_object();
            let status = served.ask(method, &concrete, "{}").await.status;
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
        }
    }
    // All routes of the router's source are in the document.
    let source = include_str!("../../src/agent/api/mod.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let described = document();
    assert!(routes.clone().count() > 15);
    for route in routes {
        assert!(described["paths"][route].is_object(), "{route}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let served = Served::start().await;
    let manifest = "/v1/manifests/{source}/{name}";
    for (method, template, path) in [
        ("GET", manifest, "/v1/manifests/vault/20200101T000000Z-00000000"),
        ("GET", manifest, "/v1/manifests/vault/latest"),
        ("GET", "/v1/runs/{id}", "/v1/runs/20200101T000000Z-00000000"),
        ("GET", "/v1/runs/{id}/events", "/v1/runs/x/events"),
        ("POST", "/v1/runs/{id}/cancel", "/v1/runs/x/cancel"),
        ("DELETE", "/v1/holds/{source}/{name}", "/v1/holds/vault/20200101T000000Z-00000000"),
    ] {
        assert_eq!(checked(&served, method, template, path, None).await.status, 404, "{path}");
    }
    let elsewhere = served.get("/v2/status").await;
    assert_eq!((elsewhere.status, elsewhere.json["code"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn a_backup_is_started_followed_and_listed() {
    let served = Served::start().await;
    served.worker.takes_ms.store(300, Ordering::Relaxed);
    let body = json!({"kind": "backup", "source": "vault", "fresh": true});
    let started = checked(&served, "POST", "/v1/runs", "/v1/runs", Some(body.clone())).await;
    assert_eq!(started.status, 202);
    let id = started.json["id"].as_str().unwrap();
    assert_eq!(started.headers["location"], format!("/v1/runs/{id}"));
    let again = checked(&served, "POST", "/v1/runs", "/v1/runs", Some(body)).await;
    assert_eq!((again.status, again.json["code"].as_str()), (409, Some("conflict")));
    let events = served.get(&format!("/v1/runs/{id}/events")).await;
    assert_eq!(events.kind, "text/event-stream");
    let runs: Vec<Value> = events
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let states: Vec<&str> = runs.iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states.last(), Some(&"done"), "{states:?}");
    assert!(states[..states.len() - 1].iter().all(|state| matches!(*state, "queued" | "running")), "{states:?}");
    assert!(runs.last().unwrap()["progress"]["read_bytes"].as_u64().unwrap() >= 100);
    let run = get(&served, "/v1/runs/{id}", &format!("/v1/runs/{id}")).await.json;
    assert_eq!(
        (&run["state"], &run["trigger"], &run["result"]["type"]),
        (&json!("done"), &json!("api"), &json!("backup"))
    );
    let listed = get(&served, "/v1/runs", "/v1/runs?kind=backup&state=done&source=vault&limit=1").await.json;
    assert_eq!(listed["runs"][0]["id"], id);
    assert!(served.worker.tasks.lock().unwrap().last().unwrap().fresh);
}

#[tokio::test]
async fn a_run_is_stopped_before_and_after_it_begins() {
    let served = Served::start().await;
    served.worker.takes_ms.store(60_000, Ordering::Relaxed);
    let backup = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
    let verify = served.ask("POST", "/v1/runs", r#"{"kind":"verify"}"#).await.json;
    for run in [&verify, &backup] {
        let id = run["id"].as_str().unwrap();
        let path = format!("/v1/runs/{id}/cancel");
        assert_eq!(checked(&served, "POST", "/v1/runs/{id}/cancel", &path, None).await.status, 202);
        let ended = served.ended(id).await;
        assert_eq!(ended["state"], "aborted", "{ended}");
        assert!(!ended["error"].is_null());
        // Once more is fine.
        assert_eq!(served.ask("POST", &path, "").await.status, 202);
    }
    assert_eq!(served.worker.commits.all().len(), 1);
    served.worker.failing.store(1, Ordering::Relaxed);
    served.worker.takes_ms.store(0, Ordering::Relaxed);
    let run = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
    let failed = served.ended(run["id"].as_str().unwrap()).await;
    assert_eq!((&failed["state"], &failed["error"]["message"]), (&json!("failed"), &json!("the server said no")));
    let sources = get(&served, "/v1/sources", "/v1/sources").await.json;
    assert_eq!(sources["sources"][0]["failures"], 1);
}

#[tokio::test]
async fn gc_follows_a_dry_run_once_and_only_that() {
    let served = Served::start().await;
    let start = async |body: Value| checked(&served, "POST", "/v1/runs", "/v1/runs", Some(body)).await;
    assert_eq!(start(json!({"kind": "gc"})).await.status, 400);
    assert_eq!(start(json!({"kind": "gc", "plan": "20200101T000000Z-00000000"})).await.status, 404);
    let backup = served.get("/v1/runs").await.json["runs"][0]["id"].clone();
    assert_eq!(start(json!({"kind": "gc", "plan": backup})).await.status, 409);
    let dry = start(json!({"kind": "gc", "dry_run": true})).await;
    assert_eq!(dry.status, 202);
    let plan = dry.json["id"].as_str().unwrap();
    served.ended(plan).await;
    let real = start(json!({"kind": "gc", "plan": plan})).await;
    assert_eq!((real.status, real.json["plan"].as_str()), (202, Some(plan)));
    served.ended(real.json["id"].as_str().unwrap()).await;
    let tasks = served.worker.tasks.lock().unwrap().clone();
    let gcs: Vec<_> = tasks.iter().filter(|task| task.kind == RunKind::Gc).collect();
    assert_eq!((gcs[0].dry_run, &gcs[0].only), (true, &None));
    assert_eq!((gcs[1].dry_run, gcs[1].only.as_ref().map(Vec::len)), (false, Some(1)));
    assert_eq!(start(json!({"kind": "gc", "plan": plan})).await.status, 409, "a plan is followed once");
}

#[tokio::test]
async fn schedules_are_paused_and_resumed() {
    let served = Served::start().await;
    for (path, body, expected) in [
        ("/v1/schedules/pause", json!({"source": "vault"}), json!({"paused": false, "sources": ["vault"]})),
        ("/v1/schedules/pause", json!({}), json!({"paused": true, "sources": ["vault"]})),
        ("/v1/schedules/resume", json!({}), json!({"paused": false, "sources": []})),
    ] {
        let reply = checked(&served, "POST", path, path, Some(body)).await;
        assert_eq!((reply.status, reply.json), (200, expected));
    }
    served.ask("POST", "/v1/schedules/pause", r#"{"source":"vault"}"#).await;
    let sources = served.get("/v1/sources").await.json;
    assert_eq!((&sources["sources"][0]["paused"], &sources["sources"][0]["next"]), (&json!(true), &Value::Null));
    let unknown = checked(&served, "POST", "/v1/schedules/pause", "/v1/schedules/pause", Some(json!({"source": "x"})));
    assert_eq!(unknown.await.status, 404);
}

#[tokio::test]
async fn snapshots_are_held_and_released() {
    let served = Served::start().await;
    let name = newest(&served).await;
    let (template, path) = ("/v1/holds/{source}/{name}", format!("/v1/holds/{name}"));
    let held = checked(&served, "PUT", template, &path, Some(json!({"reason": "audit"}))).await;
    assert_eq!((held.status, held.json["reason"].as_str()), (200, Some("audit")));
    assert_eq!(served.get("/v1/manifests").await.json["manifests"][0]["hold"], true);
    for reason in ["x".repeat(201), "two\nlines".into()] {
        assert_eq!(checked(&served, "PUT", template, &path, Some(json!({"reason": reason}))).await.status, 400);
    }
    assert_eq!(checked(&served, "DELETE", template, &path, None).await.status, 204);
    assert_eq!(served.get("/v1/manifests").await.json["manifests"][0]["hold"], false);
}

#[tokio::test]
async fn restores_go_to_a_new_file_in_the_configured_folder_only() {
    let served = Served::start().await;
    let start = async |body: Value| checked(&served, "POST", "/v1/restores", "/v1/restores", Some(body)).await;
    for file in ["../x", "/etc/passwd", "a/b", ".hidden", "", "..", "a\u{0}b", "c:\\x", &"x".repeat(129)] {
        assert_eq!(start(json!({"manifest": "vault@latest", "file": file})).await.status, 400, "{file:?}");
    }
    assert_eq!(start(json!({"manifest": "nobody@latest", "file": "x.snap"})).await.status, 404);
    let restore = start(json!({"manifest": "vault@latest", "file": "x.snap"})).await;
    assert_eq!((restore.status, restore.json["kind"].as_str()), (202, Some("restore")));
    let task = loop {
        let last = served.worker.tasks.lock().unwrap().last().unwrap().clone();
        if last.kind == RunKind::Restore {
            break last;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(task.file.as_deref(), Some("x.snap"));
    assert_eq!(task.manifest.unwrap().to_string(), newest(&served).await);
}

#[tokio::test]
async fn pages_of_manifests_hold_each_of_them_once() {
    let served = Served::start().await;
    for _ in 0..6 {
        let run = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
        served.ended(run["id"].as_str().unwrap()).await;
    }
    let whole = served.get("/v1/manifests").await.json;
    let names: Vec<&str> =
        whole["manifests"].as_array().unwrap().iter().map(|m| m["manifest"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 7);
    assert!(names.is_sorted_by(|a, b| a > b), "{names:?}");
    let (mut path, mut paged) = ("/v1/manifests?limit=3".to_owned(), Vec::new());
    loop {
        let page = get(&served, "/v1/manifests", &path).await.json;
        let found = page["manifests"].as_array().unwrap();
        paged.extend(found.iter().map(|m| m["manifest"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/manifests?limit=3&after={next}");
    }
    assert_eq!(paged, names);
    for (query, count) in
        [("source=vault", 7), ("source=nomad", 0), ("since=2020-01-01T00:00:00Z", 7), ("until=2020-01-01T00:00:00Z", 0)]
    {
        let found = get(&served, "/v1/manifests", &format!("/v1/manifests?{query}")).await.json;
        assert_eq!(found["manifests"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let served = Served::start().await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        "1",
        "{}",
        r#"{"kind":"restore"}"#,
        r#"{"kind":"backup"}"#,
        r#"{"kind":"backup","source":"Vault"}"#,
        r#"{"kind":"verify","source":null}"#,
        r#"{"kind":"backup","source":"vault","dry_run":true}"#,
        r#"{"kind":"backup","source":"vault","extra":1}"#,
        r#"{"kind":"verify","read_data_percent":101}"#,
        r#"{"kind":"verify","read_data_percent":-1}"#,
        r#"{"kind":"verify","read_data_percent":"5"}"#,
        r#"{"kind":"rehearse","fresh":true}"#,
        r#"{"kind":"gc","dry_run":true,"plan":"x"}"#,
        r#"{"kind":"gc","dry_run":true,"source":"vault"}"#,
        "{\"kind\":\"verify\"} x",
        "\u{0}",
    ] {
        let reply = served.ask("POST", "/v1/runs", body).await;
        assert_eq!((reply.status, reply.json["code"].as_str()), (400, Some("invalid")), "{body}: {}", reply.text);
        check_answer("POST", "/v1/runs", 400, &reply.kind, &reply.json);
    }
    let unknown = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"nobody"}"#).await;
    assert_eq!(unknown.status, 404);
    let null = served.ask("POST", "/v1/schedules/pause", r#"{"source":null}"#).await;
    assert_eq!(null.status, 400, "a null is not the same as nothing");
    for query in ["limit=0", "limit=1001", "limit=x", "source=A", "since=yesterday", "after=x", "color=red"] {
        assert_eq!(served.get(&format!("/v1/manifests?{query}")).await.status, 400, "{query}");
    }
    for query in ["limit=501", "kind=x", "state=x", "source=%00"] {
        assert_eq!(served.get(&format!("/v1/runs?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(served.worker.tasks.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_unavailable_and_the_agent_not_ready() {
    let served = Served::start().await;
    served.worker.is_cut.store(true, Ordering::Relaxed);
    for path in ["/v1/sources", "/v1/manifests"] {
        let reply = get(&served, path, path).await;
        assert_eq!((reply.status, reply.json["code"].as_str()), (503, Some("unavailable")), "{path}");
    }
    assert_eq!(get(&served, "/v1/status", "/v1/status").await.status, 200);
}

#[tokio::test]
async fn a_stopping_agent_ends_in_good_order() {
    let mut served = Served::start().await;
    served.worker.takes_ms.store(200, Ordering::Relaxed);
    let run = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
    let id = run["id"].as_str().unwrap().to_owned();
    while served.agent.registry.find(&id).unwrap().state() != hah_vault::agent::RunState::Running {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    served.agent.begin_stop();
    assert_eq!(served.send(served.request("GET", "/readyz")).await.status, 503);
    assert_eq!(served.ask("POST", "/v1/runs", r#"{"kind":"verify"}"#).await.status, 503);
    served.stop().await;
    assert_eq!(served.agent.registry.find(&id).unwrap().state(), hah_vault::agent::RunState::Done);
    assert!(served.request("GET", "/healthz").send().await.is_err());
}
