//! The sheet as plain text: to be typed from.

use super::sheet::{BLANKS, HOME, Sheet, VERSION};
use std::fmt::Write;
use zeroize::Zeroizing;

/// Enough for any sheet without growing: a string that grows leaves copies behind.
const PAGE_LEN_BYTES: usize = 64 << 10;

/// The whole sheet.
pub(super) fn page(sheet: &Sheet) -> Zeroizing<String> {
    let mut page = Zeroizing::new(String::with_capacity(PAGE_LEN_BYTES));
    // Writing to a String cannot fail.
    let _ = body(sheet, &mut page);
    page
}

fn body(sheet: &Sheet, page: &mut String) -> std::fmt::Result {
    writeln!(page, "HAH-VAULT RECOVERY SHEET\n")?;
    writeln!(page, "Repository  {}", sheet.store)?;
    writeln!(page, "Id          {}", sheet.id)?;
    writeln!(page, "Printed     {} by hah-vault {VERSION}", sheet.printed)?;
    for (i, source) in sheet.sources.iter().enumerate() {
        let head = if i == 0 { "Sources" } else { "" };
        writeln!(page, "{head:<10}  {}, newest then: {}", source.name, source.newest)?;
    }
    writeln!(page, "\nWHAT OPENS IT\n")?;
    match &sheet.secret {
        Some(secret) => {
            writeln!(page, "SECRET. Whoever reads this can read every backup. This file is identity.txt; the lines")?;
            writeln!(page, "with # may be left out while the store is whole:\n")?;
            for line in secret.file.lines() {
                writeln!(page, "{line}")?;
            }
            writeln!(page, "\nTyped right, `tail -n 1 identity.txt | sha256sum` begins with {}.", secret.check)?;
        }
        None => writeln!(page, "The identity is not on this sheet. It is kept where you write it below.")?,
    }
    for copy in sheet.copies.iter().filter(|_| sheet.secret.is_none()) {
        writeln!(page, "\nWrapped key for {}: useless without that reader's key, needed if keys/ in the", copy.label)?;
        writeln!(
            page,
            "store is gone. Save it as repository-key.age; `sha256sum` then begins with {}.\n",
            copy.check()
        )?;
        write!(page, "{}", copy.armored)?;
    }
    writeln!(page, "\nTHE WORST DAY\n")?;
    writeln!(page, "0. Get hah-vault {VERSION} or newer: {HOME}")?;
    writeln!(page, "   Nothing runs? format/SPEC.md there shows how to restore with age and zstd alone.")?;
    for (i, (what, command)) in sheet.commands().iter().enumerate() {
        writeln!(page, "{}. {what}", i + 1)?;
        for line in command.lines() {
            writeln!(page, "   {line}")?;
        }
    }
    writeln!(page, "\nNO SNAPSHOT HOLDS THESE: WRITE DOWN WHERE THEY ARE\n")?;
    BLANKS.iter().try_for_each(|blank| writeln!(page, "{blank}:\n\n____________________________________________\n"))
}
