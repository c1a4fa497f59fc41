//! The web page, in a real Chromium.

use super::super::support::agent_http::{Served, TOKEN};
use super::super::support::browser::{BACKSPACE, Browser, ENTER, ESCAPE, HOME, LEFT, TAB};
use hah_vault::agent::RunKind;
use serde_json::json;
use std::sync::atomic::Ordering;

/// What the verdict says.
const VERDICT: &str = "document.querySelector('#verdict-text').textContent";
const LEVEL: &str = "document.querySelector('#verdict').dataset.level";

/// A browser that shows the page of an agent, not yet unlocked.
async fn opened(served: &Served) -> Option<Browser> {
    let browser = Browser::start().await?;
    browser.open(&served.base).await;
    Some(browser)
}

/// The same, unlocked, with the first snapshot in sight.
async fn unlocked(served: &Served) -> Option<Browser> {
    let browser = opened(served).await?;
    browser.unlock(TOKEN).await;
    browser.seen("vault/2").await;
    Some(browser)
}

/// Nothing failed and nothing was refused by the page's policy.
async fn content(browser: &Browser) {
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_is_started_and_followed_to_its_end() {
    let served = Served::start().await;
    let Some(browser) = unlocked(&served).await else { return };
    browser.log().await;
    // Asked, and not meant.
    for leave in ["Cancel", ESCAPE] {
        browser.click("Back up…").await;
        browser.until("document.querySelector('#ask').open").await;
        assert!(browser.text("#ask").await.contains("Backup of vault now?"));
        if leave == ESCAPE {
            browser.press(&[ESCAPE]).await
        } else {
            browser.click(leave).await
        }
        browser.until("!document.querySelector('#ask').open").await;
    }
    assert_eq!(served.worker.tasks.lock().unwrap().len(), 1);
    served.worker.takes_ms.store(3000, Ordering::Relaxed);
    browser.confirmed("Back up…", "Start").await;
    let first = "document.querySelector('#runs li')";
    browser.until(&format!("{first}.innerText.includes('running') && {first}.innerText.includes('B read')")).await;
    browser.until("document.querySelector('.source').innerText.includes('running: ')").await;
    browser.until(&format!("{first}.innerText.includes('done, took')")).await;
    browser.seen("file, 2 snapshots").await;
    assert_eq!(served.worker.tasks.lock().unwrap().len(), 2);
    // One that is stopped.
    served.worker.takes_ms.store(600_000, Ordering::Relaxed);
    browser.confirmed("Back up…", "Start").await;
    browser.until(&format!("{first}.innerText.includes('running')")).await;
    browser.confirmed("Stop…", "Stop").await;
    browser.until(&format!("{first}.innerText.includes('aborted')")).await;
    assert_eq!(served.worker.commits.all().len(), 2);
    content(&browser).await;
}

#[tokio::test]
async fn errors_are_shown() {
    let served = Served::start().await;
    let Some(browser) = unlocked(&served).await else { return };
    served.worker.failing.store(1, Ordering::Relaxed);
    browser.confirmed("Back up…", "Start").await;
    browser
        .until(&format!("{LEVEL} === 'bad' && {VERDICT} === 'vault: the last backup failed: the server said no'"))
        .await;
    browser.until("document.querySelector('.source').dataset.level === 'bad'").await;
    browser.until("document.querySelector('.source .failure')").await;
    assert!(browser.text("#runs li").await.contains("failed"));
    assert!(browser.run("return document.title").await.as_str().unwrap().starts_with('\u{2715}'));
    // What the agent refuses.
    served.worker.takes_ms.store(600_000, Ordering::Relaxed);
    let run = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
    browser.confirmed("Back up…", "Start").await;
    browser.until("!document.querySelector('#problem').hidden").await;
    let refusal = format!("the run {} does this already", run["id"].as_str().unwrap());
    assert!(browser.text("#problem[role=alert]").await.contains(&refusal));
    browser.click("Close").await;
    browser.until("document.querySelector('#problem').hidden").await;
    served.ask("POST", &format!("/v1/runs/{}/cancel", run["id"].as_str().unwrap()), "").await;
}

#[tokio::test]
async fn a_wrong_token_opens_nothing_and_a_withdrawn_one_no_more() {
    let served = Served::start().await;
    let Some(browser) = opened(&served).await else { return };
    browser.unlock("wrong-token-0123456789abcdef").await;
    browser.until("document.querySelector('#token-problem').textContent === 'The token is wrong.'").await;
    assert_eq!(
        browser.run("return [sessionStorage.length, document.querySelector('#token').ariaInvalid]").await,
        json!([0, "true"])
    );
    assert!(!browser.text("body").await.contains("vault/"));
    browser.write("#token", &format!("{TOKEN}{ENTER}")).await;
    browser.seen("vault/2").await;
    // Somebody takes the token away while the page is open.
    std::fs::write(&served.token_file, "another-token-0123456789abcdef\n").unwrap();
    browser.until(&format!("{VERDICT} === 'Locked'")).await;
    assert!(!browser.text("body").await.contains("vault/"), "what it showed is gone");
}

#[tokio::test]
async fn an_agent_that_is_gone_is_told_at_once() {
    let mut served = Served::start().await;
    let Some(browser) = unlocked(&served).await else { return };
    browser.until(&format!("{LEVEL} === 'good'")).await;
    served.stop().await;
    browser.until(&format!("{LEVEL} === 'bad' && {VERDICT} === 'No answer from the agent'")).await;
    browser.seen("What is below is old").await;
    assert!(browser.text("body").await.contains("vault/"), "what was known stays in sight");
    let open = "return [...document.querySelectorAll('[data-control]')].filter(b => !b.disabled).length";
    assert_eq!(browser.run(open).await, 0);
    assert_eq!(browser.run("return document.body.classList.contains('old')").await, true);
}

#[tokio::test]
async fn the_other_controls_do_what_they_say() {
    let served = Served::start().await;
    let Some(browser) = unlocked(&served).await else { return };
    browser.confirmed("Pause…", "Pause").await;
    browser.until(&format!("{LEVEL} === 'warn' && {VERDICT} === 'vault: the schedule is paused'")).await;
    browser.confirmed("Resume…", "Resume").await;
    browser.until(&format!("{LEVEL} === 'good'")).await;
    browser.confirmed("Pause all…", "Pause").await;
    browser.until(&format!("{VERDICT} === 'All schedules are paused'")).await;
    assert_eq!(served.get("/v1/status").await.json["paused"], true);
    browser.confirmed("Resume all…", "Resume").await;
    browser.until(&format!("{LEVEL} === 'good'")).await;
    // A share that makes no sense is not sent.
    browser.click("Verify…").await;
    browser.until("document.querySelector('#ask').open").await;
    browser.write("#ask-input", "900").await;
    browser.click("Start").await;
    assert_eq!(browser.run("return document.querySelector('#ask').open").await, true);
    browser.write("#ask-input", &format!("{}7", BACKSPACE.repeat(4))).await;
    browser.click("Start").await;
    browser.seen("Verification: done").await;
    browser.confirmed("Rehearse…", "Start").await;
    browser.seen("Rehearsal: done").await;
    browser.click("Restore…").await;
    browser.until("document.querySelector('#ask').open").await;
    browser.click("Restore").await;
    browser.until("document.querySelector('#said').textContent.startsWith('Restore of vault/2')").await;
    browser.until("document.querySelector('#said').textContent.endsWith(': done')").await;
    let tasks = served.worker.tasks.lock().unwrap().clone();
    let done: Vec<_> = tasks[1..].iter().map(|task| (task.kind, task.read_data_percent)).collect();
    assert_eq!(done, [(RunKind::Verify, Some(7)), (RunKind::Rehearse, None), (RunKind::Restore, None)]);
}

#[tokio::test]
async fn the_keyboard_reaches_every_snapshot() {
    let served = Served::start().await;
    for _ in 0..2 {
        let run = served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await.json;
        served.ended(run["id"].as_str().unwrap()).await;
    }
    let Some(browser) = unlocked(&served).await else { return };
    let chart = "document.querySelector('svg[role=slider]')";
    let at = |place: u32| format!("{chart}.getAttribute('aria-valuenow') === '{place}'");
    browser.until(&at(3)).await;
    browser.run(&format!("{chart}.focus()")).await;
    browser.press(&[LEFT]).await;
    browser.until(&at(2)).await;
    browser.press(&[HOME, LEFT]).await;
    browser.until(&at(1)).await;
    let held = "document.activeElement.textContent === 'Hold…'";
    browser.press(&[TAB]).await;
    browser.until(held).await;
    browser.press(&[ENTER]).await;
    browser.until("document.activeElement.id === 'ask-input'").await;
    browser.press(&["a", "u", "d", "i", "t", ENTER]).await;
    browser.until("document.querySelector('.source .hold')").await;
    browser.until("document.querySelector('.picked').innerText.includes('held')").await;
    let oldest = served.get("/v1/manifests").await.json["manifests"][2].clone();
    assert_eq!(oldest["hold"], true, "{oldest}");
    assert_eq!(served.worker.holds.lock().unwrap().values().collect::<Vec<_>>(), ["audit"]);
    browser.until(&at(1)).await;
    browser.confirmed("Release…", "Release").await;
    browser.until("!document.querySelector('.source .hold')").await;
}
