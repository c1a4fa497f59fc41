//! Foreign bytes in error messages.

/// The most characters of foreign text that a message shows.
pub(crate) const SHOWN_CHARS_MAX: usize = 200;

/// The first bytes as printable ASCII, everything else as `.`; white space is folded into single spaces.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.trim_ascii().iter().take(4 * SHOWN_CHARS_MAX) {
        match byte {
            b'\t' | b'\n' | b'\r' | b' ' if text.ends_with(' ') => {}
            b'\t' | b'\n' | b'\r' | b' ' => text.push(' '),
            b'!'..=b'~' => text.push(char::from(*byte)),
            _ => text.push('.'),
        }
        if text.len() >= SHOWN_CHARS_MAX {
            break;
        }
    }
    text
}

/// Whether the byte occurs in plain English text.
pub(crate) const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(printable(b"\x1b[31mred\x07\r\n \t next \xff\n"), ".[31mred. next .");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable(&[b'a'; 5000]).len(), SHOWN_CHARS_MAX);
    }
}
