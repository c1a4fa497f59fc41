//! Questions on the terminal.

use super::console::Console;
use crate::keys::Prompt;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// The terminal as it was before a question: the echo comes back even when the answer is ctrl-C.
#[derive(Debug, Clone, Default)]
pub(super) struct Asking(Arc<Mutex<Option<Before>>>);

#[derive(Debug)]
struct Before {
    terminal: Option<(File, Termios)>,
}

impl Asking {
    fn begin(&self) {
        let terminal = File::open("/dev/tty").ok().and_then(|tty| {
            let settings = tcgetattr(&tty).ok()?;
            Some((tty, settings))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Before { terminal });
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether a question was open. If so, the terminal is as it was.
    pub(super) fn interrupt(&self) -> bool {
        let Some(before) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        if let Some((tty, settings)) = before.terminal {
            // The process ends anyway.
            let _ = tcsetattr(&tty, OptionalActions::Now, &settings);
        }
        true
    }
}

/// Asks on the terminal; where there is none, nobody answers.
#[derive(Clone)]
pub(super) struct TerminalPrompt {
    console: Arc<Console>,
    asking: Asking,
    /// From a file or variable: answers every question for a passphrase.
    given: Option<Arc<Zeroizing<String>>>,
}

impl TerminalPrompt {
    pub(super) fn new(console: &Arc<Console>, asking: &Asking, given: Option<Zeroizing<String>>) -> Self {
        Self { console: Arc::clone(console), asking: asking.clone(), given: given.map(Arc::new) }
    }

    /// A question whose answer is not shown.
    pub(super) fn secret(&self, question: &str) -> Option<Zeroizing<String>> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        self.asking.begin();
        let answer = rpassword::prompt_password(format!("{question}: ")).ok().map(Zeroizing::new);
        self.asking.end();
        answer.filter(|text| !text.is_empty())
    }

    /// Whether somebody is there who can be asked.
    pub(super) fn can_ask() -> bool {
        std::io::stderr().is_terminal() && std::io::stdin().is_terminal()
    }

    /// A question whose answer is shown.
    pub(super) fn line(&self, question: &str) -> Option<String> {
        if !Self::can_ask() {
            return None;
        }
        self.console.ask(question);
        self.asking.begin();
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        self.asking.end();
        read.ok().filter(|len| *len > 0).map(|_| line.trim().to_owned())
    }
}

impl Prompt for TerminalPrompt {
    fn message(&self, text: &str) {
        self.console.say(text);
    }

    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let answer = self.line(&format!("{text}\n1: {yes}\n2: {}", no.unwrap_or("no")))?;
        Some(answer == "1" || answer.eq_ignore_ascii_case(yes))
    }

    fn text(&self, description: &str) -> Option<String> {
        self.line(description)
    }

    fn passphrase(&self, description: &str) -> Option<String> {
        match &self.given {
            Some(given) => Some(given.as_str().to_owned()),
            None => self.secret(description).map(|text| text.as_str().to_owned()),
        }
    }
}
