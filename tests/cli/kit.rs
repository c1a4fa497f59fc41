//! The recovery sheet: what is on it opens the repository, and no secret is on it unless it was asked for.

use super::sandbox::{BINARY, Sandbox, fixture};
use crate::support::consul_server::{ConsulServer, consul};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const SECRETS: [&str; 2] = ["AGE-SECRET-KEY-1", "HAH-VAULT-WRITER-1"];

/// The text of each QR code in a page, read back from its squares.
fn codes(page: &str) -> Vec<String> {
    const SCALE: usize = 4;
    let read = |svg: &str| {
        let number = |text: &str| text.parse::<usize>().expect("number");
        let side = number(svg.split_once(' ').expect("side").0);
        let squares = svg.rsplit_once(r#"d=""#).expect("path").1.split('M').skip(1);
        let mut dark = vec![false; side * side];
        for square in squares {
            let (x, y) = square.split_once('h').and_then(|(at, _)| at.split_once(' ')).expect("square");
            dark[number(y) * side + number(x)] = true;
        }
        let pixel = |x: usize, y: usize| if dark[y / SCALE * side + x / SCALE] { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side * SCALE, side * SCALE, pixel);
        image.detect_grids()[0].decode().expect("code").1
    };
    let svgs = page.split(r#"viewBox="0 0 "#).skip(1).map(|svg| svg.split_once("</svg>").expect("end").0);
    svgs.map(read).collect()
}

fn sha256sum_of(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    let path = sandbox.work().join(name);
    assert_eq!(path.metadata().expect(name).permissions().mode() & 0o777, 0o600, "{name}");
    fs::read_to_string(path).expect(name)
}

#[test]
fn a_sheet_with_the_identity_opens_everything_alone() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let ran = sandbox.run(["kit", "--with-identity", "--html", "kit.html", "--out", "kit.txt"]).ok();
    assert!(ran.stderr.contains("warning: the sheet holds the repository identity"), "{ran:?}");
    assert!(ran.stdout.is_empty(), "{ran:?}");
    let (html, text) = (read(&sandbox, "kit.html"), read(&sandbox, "kit.txt"));
    let exported = sandbox.run(["key", "export"]).ok().text();
    assert_eq!(codes(&html), [exported.as_str()]);
    assert!(text.contains(&exported) && html.contains("SECRET") && text.contains("SECRET"));
    let last = exported.lines().last().unwrap();
    let check = &sha256sum_of(&format!("{last}\n"))[..8];
    assert!(text.contains(&format!("begins with {check}.")), "{text}");
    assert!(html.contains(&format!("<code>{check}</code>")));
    // All else is gone: keys/, repository.json, the configuration folder.
    fs::remove_dir_all(sandbox.repo("keys")).unwrap();
    fs::remove_file(sandbox.repo("repository.json")).unwrap();
    fs::remove_dir_all(sandbox.config("")).unwrap();
    sandbox.file("identity.txt", codes(&html).remove(0));
    let ran = sandbox.run(["restore", "vault@latest", "-o", "-", "--identity", "identity.txt"]).ok();
    assert_eq!(ran.stdout, fixture("vault-00.snap"));
}

#[test]
fn a_sheet_without_it_holds_the_wrapped_key_and_no_secret() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("consul", "consul-00.snap");
    let ran = sandbox.run(["kit", "--html", "kit.html", "--out", "kit.txt"]).ok();
    let (html, text) = (read(&sandbox, "kit.html"), read(&sandbox, "kit.txt"));
    for words in [&html, &text, &ran.stderr] {
        assert!(SECRETS.iter().all(|secret| !words.contains(secret)), "{words}");
    }
    let [code] = &codes(&html)[..] else { panic!("one code") };
    assert!(text.contains(code.as_str()));
    assert!(text.contains(&format!("begins with {}.", &sha256sum_of(code)[..8])));
    // From the QR code, and typed from the text with the line ends of another system.
    fs::remove_dir_all(sandbox.repo("keys")).unwrap();
    sandbox.file("scanned.age", code);
    sandbox.file("typed.age", code.replace('\n', "\r\n"));
    sandbox.run(["restore", "consul@latest", "-o", "-"]).refused(12, "", "--key-file");
    for copy in ["scanned.age", "typed.age"] {
        let ran = sandbox.run(["restore", "consul@latest", "-o", "-", "--key-file", copy]).ok();
        assert_eq!(ran.stdout, fixture("consul-00.snap"));
    }
}

#[test]
fn a_page_needs_nothing_from_outside_and_no_script() {
    let sandbox = Sandbox::with_repository();
    let html = {
        sandbox.run(["kit", "--html", "kit.html"]).ok();
        read(&sandbox, "kit.html")
    };
    for outside in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "href=", " on"] {
        let found = html.match_indices(outside).find(|(at, _)| {
            outside != " on"
                || html[*at..].contains("=\"") && {
                    // An event handler: ` onload="`.
                    let rest = html[*at + 1..].split(['=', ' ', '>', '\n']).next().unwrap_or_default();
                    html[*at + 1 + rest.len()..].starts_with('=')
                }
        });
        assert_eq!(found, None, "{outside}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn names_from_outside_cannot_become_markup_or_commands() {
    let sandbox = Sandbox::new();
    let repo = "<b>$(touch pwned) it's";
    sandbox.run(["--repo", repo, "init"]).ok();
    sandbox.run(["--repo", repo, "kit", "--html", "kit.html", "--out", "kit.txt"]).ok();
    assert!(!read(&sandbox, "kit.html").contains("<b>$"));
    let text = read(&sandbox, "kit.txt");
    let export = text.lines().find_map(|line| line.trim().strip_prefix("export HAH_VAULT_REPO=")).expect("export");
    let echo = format!("printf %s {export}");
    let shell = Command::new("sh").args(["-c", &echo]).current_dir(sandbox.work()).output().unwrap();
    assert!(String::from_utf8(shell.stdout).unwrap().ends_with(repo));
    assert!(!sandbox.work().join("pwned").exists());
}

#[test]
fn its_commands_restore_what_they_say() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    sandbox.backup("nomad", "nomad-00.snap");
    let text = sandbox.run(["kit"]).ok().text();
    let restores: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("hah-vault restore ")).collect();
    assert_eq!(restores.len(), 2, "{text}");
    for restore in restores {
        sandbox.run(std::iter::once("restore").chain(restore.split(' '))).ok();
    }
    for (name, file) in [("vault.snap", "vault-00.snap"), ("nomad.snap", "nomad-00.snap")] {
        assert_eq!(fs::read(sandbox.work().join(name)).unwrap(), fixture(file));
    }
    assert!(text.contains("nomad operator snapshot restore nomad.snap"), "{text}");
    assert!(!text.contains("consul"), "{text}");
}

#[test]
fn init_prints_one_and_no_sheet_is_written_over() {
    let sandbox = Sandbox::new();
    sandbox.file("taken.txt", "mine");
    sandbox.run(["init", "--kit", "taken.txt"]).refused(11, "taken.txt is there already", "sheets are never");
    // Refused before anything was made.
    sandbox.run(["init", "--kit", "sheet.html"]).ok();
    let html = read(&sandbox, "sheet.html");
    assert_eq!(codes(&html).len(), 1);
    assert!(SECRETS.iter().all(|secret| !html.contains(secret)));
    sandbox.run(["kit", "--html", "sheet.html"]).refused(11, "sheet.html is there already", "sheets are never");
    sandbox.run(["kit", "--out", "x.txt", "--html", "missing/y.html"]).ok();
    assert_eq!(fs::read(sandbox.work().join("taken.txt")).unwrap(), b"mine");
}

#[test]
fn the_identity_is_not_printed_for_those_who_do_not_have_it() {
    let sandbox = Sandbox::with_repository();
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    sandbox.run(["kit"]).ok();
    sandbox.run(["kit", "--with-identity", "--out", "kit.txt"]).refused(12, "kit needs an identity", "--identity");
    assert!(!sandbox.work().join("kit.txt").exists());
}

const MASTER: &str = "11111111-2222-3333-4444-555555555555";

/// The commands below a heading, without the words about them.
fn commands(text: &str) -> String {
    let part = text.split("THE WORST DAY").nth(1).expect("heading").split("NO SNAPSHOT").next().expect("heading");
    let steps = part.split_once("\n1. ").expect("step").1;
    steps.lines().filter_map(|line| line.strip_prefix("   ")).map(|line| format!("{line}\n")).collect()
}

/// The host is gone, and with it its keys. There is the store, the sheet, and a new server.
#[tokio::test(flavor = "multi_thread")]
async fn the_worst_day_goes_by_the_sheet_alone() {
    let Some(program) = consul() else { return };
    let mut lost = ConsulServer::start(&program, MASTER).await;
    lost.fill().await;
    let before = lost.dump(MASTER).await;
    let old_host = Sandbox::with_repository();
    let url = lost.url();
    old_host.run_with_env(["backup", "consul"], &[("CONSUL_HTTP_ADDR", &url), ("CONSUL_HTTP_TOKEN", MASTER)]).ok();
    old_host.run(["kit", "--with-identity", "--html", "kit.html", "--out", "kit.txt"]).ok();
    let (page, text) = (read(&old_host, "kit.html"), read(&old_host, "kit.txt"));
    lost.kill();
    fs::remove_dir_all(old_host.config("")).unwrap();

    let server = ConsulServer::start(&program, MASTER).await;
    let new_host = Sandbox::new();
    new_host.file("identity.txt", codes(&page).remove(0));
    let folder = |program: &Path| fs::canonicalize(program.parent().expect("folder")).expect("folder");
    let path = std::env::var("PATH").unwrap();
    let path = match program.parent().is_some_and(|parent| !parent.as_os_str().is_empty()) {
        true => format!("{}:{}:{path}", folder(Path::new(BINARY)).display(), folder(&program).display()),
        false => format!("{}:{path}", folder(Path::new(BINARY)).display()),
    };
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &commands(&text)]).env_clear().env("PATH", path).env("HOME", new_host.tmp());
    shell.env("CONSUL_HTTP_ADDR", server.url()).env("CONSUL_HTTP_TOKEN", MASTER).current_dir(new_host.work());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}\n{}", commands(&text), String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.dump(MASTER).await, before);
}
