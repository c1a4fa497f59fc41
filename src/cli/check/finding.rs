//! What a test found, and how it is told.

use super::super::error::{CliError, chain};
use super::super::list::iso;
use crate::source::SourceError;
use hah_vault_format::UnixTime;
use serde_json::json;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Worth knowing; nothing to do.
    Note,
    /// It works, and something should be done.
    Warning,
    Failed,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// The result of one test.
#[derive(Debug)]
pub(super) struct Finding {
    /// The source, or `configuration`, `store`, `repository`, `clock`.
    pub(super) of: String,
    /// What was tested: `login`, `address https://…`.
    pub(super) what: String,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) words: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn new(of: &str, what: impl Into<String>, verdict: Verdict, words: impl Into<String>) -> Self {
        Self { of: of.to_owned(), what: what.into(), verdict, words: words.into(), hint: None }
    }

    pub(super) fn ok(of: &str, what: impl Into<String>, words: impl Into<String>) -> Self {
        Self::new(of, what, Verdict::Ok, words)
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn failed(of: &str, what: impl Into<String>, error: &CliError) -> Self {
        let words = dated(&chain(error));
        Self { hint: error.hint(), ..Self::new(of, what, Verdict::Failed, words) }
    }

    pub(super) fn refused(of: &str, what: impl Into<String>, error: &SourceError) -> Self {
        let words = dated(&chain(error));
        Self { hint: error.hint(), ..Self::new(of, what, Verdict::Failed, words) }
    }

    pub(super) fn row(&self) -> Vec<String> {
        vec![self.verdict.name().to_owned(), self.of.clone(), self.what.clone(), self.words.clone()]
    }

    pub(super) fn object(&self) -> serde_json::Value {
        let verdict = self.verdict.name().to_ascii_lowercase();
        json!({"type": "check", "subject": self.of, "what": self.what, "result": verdict, "message": self.words, "hint": self.hint})
    }
}

/// Times of certificates are told in seconds since 1970; people want dates.
fn dated(text: &str) -> String {
    let word = |word: &str| {
        let seconds = word.parse::<u64>().ok().filter(|_| word.len() == 10)?;
        UnixTime::from_unix_s(seconds).ok().map(iso)
    };
    let words: Vec<String> = text.split(' ').map(|one| word(one).unwrap_or_else(|| one.to_owned())).collect();
    words.join(" ").replace(" (UNIX)", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_certificates_become_dates() {
        let text = "certificate expired: verification time 1795361411 (UNIX), but certificate is not valid after \
                    1795000000 (361411 seconds ago)";
        let dated = dated(text);
        assert!(dated.contains("2026-11-22") && !dated.contains("UNIX") && dated.contains("361411"), "{dated}");
        assert_eq!(super::dated("port 8200"), "port 8200");
    }
}
