//! The web page, in a real Chromium.

use super::super::support::agent_http::{How, Served, TOKEN};
use super::super::support::browser::{BACKSPACE, Browser, ENTER, ESCAPE, HOME, LEFT, TAB};
use hah_vault::agent::RunKind;
use serde_json::{Value, json};
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
async fn the_page_shows_how_things_are_and_keeps_up() {
    let served = Served::start().await;
    let Some(browser) = opened(&served).await else { return };
    browser.until(&format!("{VERDICT} === 'Locked'")).await;
    assert!(!browser.text("body").await.contains("vault/"), "nothing without the token");
    browser.log().await;
    browser.unlock(TOKEN).await;
    browser.until(&format!("{VERDICT} === 'All is well' && {LEVEL} === 'good'")).await;
    browser.seen("1 source, backed up").await;
    browser.seen("file, 1 snapshot").await;
    browser.seen("4.0 kB").await;
    browser.seen("1.0 kB, 30 B new, 20 B stored").await;
    let title = browser.run("return document.title").await;
    assert!(title.as_str().unwrap().starts_with("\u{2713} All is well"), "{title}");
    // Something else backs it up: the page learns of it by itself.
    served.ask("POST", "/v1/runs", r#"{"kind":"backup","source":"vault"}"#).await;
    browser.seen("file, 2 snapshots").await;
    browser.until("document.querySelector('svg[role=slider]').getAttribute('aria-valuemax') === '2'").await;
    // The token lies in this tab only.
    let kept = browser.run("return [sessionStorage.length, localStorage.length, document.cookie, location.href]").await;
    assert_eq!(kept, json!([1, 0, "", format!("{}/", served.base)]));
    browser.open(&served.base).await;
    browser.seen("file, 2 snapshots").await;
    content(&browser).await;
    browser.click("Forget token").await;
    browser.until(&format!("{VERDICT} === 'Locked' && sessionStorage.length === 0")).await;
    assert!(!browser.text("body").await.contains("vault/"));
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
async fn words_from_outside_stay_words() {
    let words = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>\"'><svg onload=window.hit=1>\
                 <a href=\"javascript:window.hit=1\">a</a></pre></li><iframe srcdoc='<script>top.hit=1</script>'></iframe>\
                 <style>*{display:none}</style><form action=//evil.example>${window.hit=1}";
    let served = Served::start().await;
    *served.worker.words.lock().unwrap() = Some(words.into());
    let Some(browser) = unlocked(&served).await else { return };
    browser.log().await;
    let elements = "return document.querySelectorAll('img, iframe, a, form, script, style, object, embed').length";
    let before = browser.run(elements).await;
    let shown = json!(words);
    let times = |css: &str| format!("document.querySelector('{css}').textContent.includes({shown})");
    let within_json =
        |css: &str| format!("document.querySelector('{css}').textContent.includes({})", json!(shown.to_string()));
    browser.until(&times("#repository")).await;
    browser.until(&times(".picked")).await;
    browser.confirmed("Back up…", "Start").await;
    browser.until(&format!("{} && {}", times("#runs li"), within_json("#runs pre"))).await;
    served.worker.failing.store(1, Ordering::Relaxed);
    browser.confirmed("Back up…", "Start").await;
    browser.until(&times("#verdict")).await;
    browser.until(&times(".source p")).await;
    let title = browser.run("return document.title").await;
    assert!(title.as_str().unwrap().contains("<img"), "{title}");
    let chart = "document.querySelector('svg[role=slider]')";
    browser.until(&format!("{chart}.getAttribute('aria-valuetext').includes({shown})")).await;
    // A snapshot's own words.
    browser.run(&format!("{chart}.focus()")).await;
    browser.press(&[HOME]).await;
    browser.click("Details").await;
    browser.until(&within_json("#ask-data")).await;
    browser.click("Close").await;
    assert_eq!(browser.run("return window.hit === undefined").await, true);
    assert_eq!(browser.run(elements).await, before);
    content(&browser).await;
    // If the page had a hole: its policy holds.
    let hole =
        "try { document.querySelector('main').innerHTML = '<p>x</p>'; return 'written' } catch (e) { return e.name }";
    assert_eq!(browser.run(hole).await, "TypeError");
    let script = "const s = document.createElement('img'); s.setAttribute('onerror', 'window.hit=1'); s.src = 'data:,x'; \
                  document.body.append(s)";
    browser.run(&format!("try {{ {script} }} catch {{}}")).await;
    let fetched = browser.run("return fetch('http://localhost:1/').then(() => 'sent', e => e.name)").await;
    assert_eq!((fetched, browser.run("return window.hit ?? null").await), (json!("TypeError"), Value::Null));
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
async fn a_collection_shows_its_plan_first() {
    let served = Served::start().await;
    let Some(browser) = unlocked(&served).await else { return };
    let name = served.get("/v1/manifests").await.json["manifests"][0]["manifest"].as_str().unwrap().to_owned();
    for answer in ["Cancel", "Retire 1 snapshot"] {
        browser.click("Collect…").await;
        browser.until("document.querySelector('#ask').open").await;
        assert!(browser.text("#ask-items").await.contains(&name));
        browser.click(answer).await;
    }
    browser.until("document.querySelector('#runs li').innerText.match(/^Collection [^(]*done/m)").await;
    let tasks = served.worker.tasks.lock().unwrap().clone();
    let gcs: Vec<_> = tasks.iter().filter(|task| task.kind == RunKind::Gc).collect();
    assert_eq!(gcs.iter().map(|task| task.dry_run).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(gcs[2].only.as_ref().map(Vec::len), Some(1));
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
    // On no schedule, they count all the same.
    for tile in ["Last verified", "Last rehearsed"] {
        browser.until(&format!("/{tile}\\s+\\d+ s ago/i.test(document.querySelector('#tiles').innerText)")).await;
    }
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

/// Contrast of texts with what lies behind them (WCAG 2), where it is below 4.5; controls without a name; and whether
/// the page is wider than the screen.
const FLAWS: &str = r#"
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data]; };
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = node => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; }
  return [255, 255, 255]; };
const found = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!own || !node.checkVisibility() || node.closest('script, style, [disabled]')) continue;
  const style = getComputedStyle(node), front = rgb(node instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(front), light(behind(node))].sort((x, y) => y - x);
  if ((a + .05) / (b + .05) < 4.5) found.push(`contrast ${((a + .05) / (b + .05)).toFixed(2)}: ${node.textContent.slice(0, 40)}`);
}
for (const node of document.querySelectorAll('button, input, progress, section, dialog, [role=slider], [role=meter]')) {
  if (!node.checkVisibility()) continue;
  const name = node.textContent.trim() || node.ariaLabel || node.getAttribute('aria-labelledby') || node.labels?.[0]?.textContent.trim();
  if (!name) found.push(`no name: ${node.outerHTML.slice(0, 80)}`);
}
if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
return found;
"#;

#[tokio::test]
async fn the_page_is_legible_on_every_screen() {
    let served = Served::start_with(How { budget_bytes: Some(4200), ..How::default() }).await;
    served.worker.failing.store(1, Ordering::Relaxed);
    let Some(browser) = opened(&served).await else { return };
    let folder = std::env::var_os("HAH_VAULT_SCREENSHOTS").map(std::path::PathBuf::from);
    let look = async |name: &str| {
        for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            browser.screen(width, scheme).await;
            let flaws = browser.run(FLAWS).await;
            assert_eq!(flaws, json!([]), "{name}, {width}, {scheme}");
            let picture = browser.picture().await;
            if let Some(folder) = &folder {
                std::fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), picture).unwrap();
            }
        }
    };
    browser.until("!document.querySelector('#login').hidden").await;
    look("locked").await;
    browser.unlock(TOKEN).await;
    browser.seen("vault/2").await;
    browser.until(&format!("{VERDICT} === '95 % of the storage budget is used'")).await;
    look("warning").await;
    browser.confirmed("Back up…", "Start").await;
    browser.until(&format!("{LEVEL} === 'bad'")).await;
    browser.until("document.querySelector('#said').textContent === ''").await;
    look("failed").await;
    browser.click("Pause…").await;
    look("asking").await;
}
