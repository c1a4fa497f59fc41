//! Questions on the terminal.

use super::console::Console;
use crate::keys::Prompt;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Whether a question is open, and the terminal as it was before: the echo comes back even when the answer is ctrl-C.
#[derive(Debug, Clone, Default)]
pub(super) struct Asking(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
enum Asked {
    /// No question is open.
    #[default]
    Nothing,
    /// One is, on this terminal.
    Something(Option<(File, Termios)>),
    /// A signal came: nothing is asked any more.
    NoMore {
        /// Whether something would have been.
        is_cut: bool,
    },
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks by `question`, unless a signal has come: its answer could only be waited for by a thread that nothing stops.
    fn during<T>(&self, question: impl FnOnce() -> Option<T>) -> Option<T> {
        match &mut *self.lock() {
            Asked::NoMore { is_cut } => {
                *is_cut = true;
                return None;
            }
            asked => {
                let terminal = File::open("/dev/tty").ok().and_then(|tty| Some((tcgetattr(&tty).ok()?, tty)));
                *asked = Asked::Something(terminal.map(|(settings, tty)| (tty, settings)));
            }
        }
        let answer = question();
        let mut asked = self.lock();
        if matches!(*asked, Asked::Something(_)) {
            *asked = Asked::Nothing;
        }
        answer
    }

    /// A signal came. Whether a question is open: then the terminal is as it was.
    pub(super) fn interrupt(&self) -> bool {
        let mut asked = self.lock();
        let is_cut = matches!(*asked, Asked::NoMore { is_cut: true });
        match std::mem::replace(&mut *asked, Asked::NoMore { is_cut }) {
            Asked::Something(terminal) => {
                if let Some((tty, settings)) = terminal {
                    // The process ends anyway.
                    let _ = tcsetattr(&tty, OptionalActions::Now, &settings);
                }
                true
            }
            Asked::Nothing | Asked::NoMore { .. } => false,
        }
    }

    /// Whether a question was not asked because of a signal: that nobody answered it means nothing.
    pub(super) fn is_cut(&self) -> bool {
        matches!(*self.lock(), Asked::NoMore { is_cut: true })
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
        let answer = self.asking.during(|| rpassword::prompt_password(format!("{question}: ")).ok());
        answer.map(Zeroizing::new).filter(|text| !text.is_empty())
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
        let mut line = String::new();
        // Open before it is shown: whoever sees it may answer with ctrl-C.
        let read = self.asking.during(|| {
            self.console.ask(question);
            std::io::stdin().lock().read_line(&mut line).ok()
        });
        read.filter(|len| *len > 0).map(|_| line.trim().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_signal_nothing_is_asked_and_its_answer_means_nothing() {
        let asking = Asking::default();
        assert_eq!(asking.during(|| Some(1)), Some(1));
        assert!(!asking.interrupt() && !asking.is_cut(), "no question was open");
        assert_eq!(asking.during(|| -> Option<()> { panic!("asked") }), None);
        assert!(asking.is_cut() && !asking.interrupt() && asking.is_cut());
    }

    #[test]
    fn a_signal_finds_the_question_that_is_open() {
        let asking = Asking::default();
        asking.during(|| {
            assert!(asking.interrupt());
            Some(())
        });
        assert!(!asking.interrupt() && !asking.is_cut());
    }
}
