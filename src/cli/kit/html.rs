//! The sheet as one HTML file: no script, nothing from outside, one page of A4 or Letter for a single reader.

use super::qr;
use super::sheet::{BLANKS, Copy, HOME, Secret, Sheet, VERSION};
use std::fmt::{self, Write};
use zeroize::Zeroizing;

const STYLE: &str = include_str!("sheet.css");
/// Enough for the words; the codes come on top.
const WORDS_LEN_BYTES: usize = 32 << 10;
/// Enough for the longest code (177 modules a side).
const CODE_LEN_BYTES: usize = 256 << 10;

/// The whole sheet.
pub(super) fn page(sheet: &Sheet) -> Zeroizing<String> {
    // All of it at once: a string that grows leaves copies behind.
    let len = WORDS_LEN_BYTES + CODE_LEN_BYTES * sheet.copies.len().max(1);
    let mut page = Zeroizing::new(String::with_capacity(len));
    // Writing to a String cannot fail.
    let _ = body(sheet, &mut page);
    page
}

/// Text made safe for HTML.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

fn body(sheet: &Sheet, page: &mut String) -> fmt::Result {
    let (id, store) = (sheet.id, Escaped(&sheet.store));
    write!(
        page,
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>hah-vault recovery sheet</title>
<style>
{STYLE}</style>
<h1>hah-vault recovery sheet</h1>
<table>
<tr><th>Repository<td><code>{store}</code>
<tr><th>Id<td><code>{id}</code>
<tr><th>Printed<td>{} by hah-vault {VERSION}
"#,
        sheet.printed
    )?;
    for source in &sheet.sources {
        writeln!(page, "<tr><th>Source<td>{}, newest then: {}", Escaped(&source.name), source.newest)?;
    }
    writeln!(page, "</table>\n<h2>What opens it</h2>")?;
    match &sheet.secret {
        Some(secret) => identity(secret, page)?,
        None => {
            writeln!(page, "<p>The identity is not on this sheet. It is kept where you write it below.")?;
            sheet.copies.iter().try_for_each(|copy| wrapped(copy, page))?;
        }
    }
    writeln!(page, "<h2>The worst day</h2>")?;
    writeln!(
        page,
        "<p>Get hah-vault {VERSION} or newer: {HOME}. Nothing runs? <code>format/SPEC.md</code> there shows"
    )?;
    writeln!(page, "how to restore with <code>age</code> and <code>zstd</code> alone.\n<ol>")?;
    for (what, command) in sheet.commands() {
        writeln!(page, "<li>{what}\n<pre>{}</pre>", Escaped(&command))?;
    }
    writeln!(page, "</ol>\n<h2>No snapshot holds these: write down where they are</h2>")?;
    BLANKS.iter().try_for_each(|blank| writeln!(page, r#"<div class="blank"><span>{blank}</span><i></i></div>"#))?;
    writeln!(page, "</html>")
}

fn identity(secret: &Secret, page: &mut String) -> fmt::Result {
    writeln!(page, r#"<p class="secret">SECRET. Whoever reads this sheet can read every backup.</p>"#)?;
    writeln!(
        page,
        r#"<div class="key"><div><p>The repository identity: save the code's text as <code>identity.txt</code>, or type"#
    )?;
    writeln!(page, "the last line. Typed right, <code>tail -n 1 identity.txt | sha256sum</code> begins with")?;
    writeln!(page, "<b><code>{}</code></b>.\n<pre class=whole>{}</pre></div>", secret.check, Escaped(&secret.file))?;
    code(&secret.file, "the repository identity", page)
}

fn wrapped(copy: &Copy, page: &mut String) -> fmt::Result {
    let label = Escaped(&copy.label);
    writeln!(
        page,
        r#"<div class="key"><div><p>Wrapped key for <b>{label}</b>: useless without that reader's key, needed"#
    )?;
    writeln!(page, "if <code>keys/</code> in the store is gone. Save it as <code>repository-key.age</code>;")?;
    writeln!(page, "<code>sha256sum</code> then begins with <b><code>{}</code></b>.", copy.check())?;
    writeln!(page, "<pre>{}</pre></div>", Escaped(&copy.armored))?;
    code(&copy.armored, &format!("wrapped key for {label}"), page)
}

/// The code beside a key, and the end of both.
fn code(text: &str, label: &str, page: &mut String) -> fmt::Result {
    match qr::svg(text, label) {
        Some(svg) => writeln!(page, "{}</div>", svg.as_str()),
        None => writeln!(page, "<p>It is too long for a code.</div>"),
    }
}
