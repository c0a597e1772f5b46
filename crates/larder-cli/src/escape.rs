//! Shows bytes on a terminal without letting them steer it.

use std::fmt::Write as _;

/// Returns the bytes as one line of text: control characters, invisible direction marks and bytes that are not
/// UTF-8 are escaped, a backslash is doubled.
pub(crate) fn text(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

/// As [`text`], but line breaks and tabs stay, and so does the backslash: for values that people read.
pub(crate) fn lines(bytes: &[u8]) -> String {
    escape(bytes, |character| matches!(character, '\n' | '\t' | '\\'))
}

fn escape(bytes: &[u8], keeps: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                _ if keeps(character) => shown.push(character),
                '\\' => shown.push_str("\\\\"),
                _ if steers(character) => shown.extend(character.escape_default()),
                _ => shown.push(character),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Returns whether a terminal would act on the character or hide something with it.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(text(b"user:1"), "user:1");
        assert_eq!(text("größe".as_bytes()), "größe");
        assert_eq!(text(b"\x1b[2J\n\xff\\"), "\\u{1b}[2J\\n\\xff\\\\");
        assert_eq!(text("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(lines(b"a\n\tb\\\x07"), "a\n\tb\\\\u{7}");
    }
}
