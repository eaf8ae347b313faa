//! Bytes as words of a line: as they are, or in quotes.

use std::fmt::{self, Write as _};

/// Bytes as a word that `seshat txn` takes back, and that does not steer a terminal.
pub(crate) struct Word<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(&String::from_utf8_lossy(self.0));
        }
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '"' | '\\' => write!(f, "\\{char}")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\'' => f.write_char(char)?,
                    _ if is_printable(char) => f.write_char(char)?,
                    _ => escaped(f, char.encode_utf8(&mut [0; 4]).as_bytes())?,
                }
            }
            escaped(f, chunk.invalid())?;
        }
        f.write_char('"')
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Whether a word needs no quotes.
fn is_plain(word: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(word) else {
        return false;
    };
    let is_plain = |char: char| !char.is_whitespace() && is_printable(char);
    !text.is_empty() && !text.starts_with('#') && text.chars().all(is_plain)
}

/// Whether a terminal shows `char` as itself. Quotes and backslashes are not: they have a meaning here.
fn is_printable(char: char) -> bool {
    char.escape_debug().eq([char])
}

/// Whether a terminal shows `char` within a text, and does nothing else. Controls, formats and separators are not
/// shown.
pub(crate) fn is_shown(char: char) -> bool {
    if char.is_ascii() {
        return !char.is_ascii_control();
    }
    // Behind another character, so that one that combines with it counts as shown.
    let text: String = ['a', char].into_iter().collect();
    text.escape_debug().count() == 2
}

/// No line has more words.
const MAX_WORDS: usize = 5;

/// The words of a line, up to a comment: `#` at the beginning of a word. Of a line with too many words, one
/// too many.
///
/// # Errors
///
/// Why it has none.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.iter().copied();
    // The word that has begun, if one has.
    let mut word: Option<Vec<u8>> = None;
    while words.len() <= MAX_WORDS
        && let Some(byte) = rest.next()
    {
        match byte {
            b' ' | b'\t' | b'\r' => words.extend(word.take()),
            b'#' if word.is_none() => break,
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some(b'\'') => break,
                        Some(byte) => word.push(byte),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                }
            }
            b'"' => quoted(&mut rest, word.get_or_insert_default())?,
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the end of double quotes.
fn quoted(rest: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), String> {
    loop {
        match rest.next() {
            Some(b'"') => return Ok(()),
            Some(b'\\') => word.push(unescaped(rest)?),
            Some(byte) => word.push(byte),
            None => return Err("a double quote is not closed".to_owned()),
        }
    }
}

/// The byte that an escape stands for.
fn unescaped(rest: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    Ok(match rest.next() {
        Some(byte @ (b'"' | b'\\')) => byte,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'x') => {
            let mut digit = || {
                let digit = rest.next().and_then(|byte| char::from(byte).to_digit(16));
                digit.and_then(|digit| u8::try_from(digit).ok())
            };
            let byte = digit().zip(digit()).map(|(high, low)| high << 4 | low);
            byte.ok_or_else(|| "\\x needs two hexadecimal digits".to_owned())?
        }
        _ => return Err("\\ is followed by one of \" \\ n r t x".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_are_those_of_a_shell() {
        let words = |line: &str| -> Vec<String> {
            let words = split(line.as_bytes()).unwrap().into_iter();
            words.map(|it| String::from_utf8(it).unwrap()).collect()
        };
        assert_eq!(words(" set\tk  v\r"), ["set", "k", "v"]);
        assert_eq!(
            words(r#"'a "b"' "c 'd'" e'f g'"h" '' """#),
            [r#"a "b""#, "c 'd'", "ef gh", "", ""]
        );
        assert_eq!(
            words(r#"'\n' "\n\t\r\\\"\x41" a\n"#),
            ["\\n", "\n\t\r\\\"A", "a\\n"]
        );
        assert_eq!(words("  # set k v"), [""; 0]);
        assert_eq!(words("k#v '#' # v"), ["k#v", "#"]);
        assert_eq!(words(&"k ".repeat(1_000_000)).len(), 6, "one too many");
        for (line, fault) in [
            ("set 'k", "single quote"),
            ("set \"k", "double quote"),
            ("\"\\", "followed by"),
            ("\"\\q\"", "followed by"),
            ("\"\\x4\"", "two hexadecimal digits"),
            ("\"\\xé\"", "two hexadecimal digits"),
        ] {
            let error = split(line.as_bytes()).unwrap_err();
            assert!(error.contains(fault), "{line}: {error}");
        }
    }

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let shown = |bytes: &[u8]| Word(bytes).to_string();
        assert_eq!(shown(b"Uruk"), "Uruk");
        assert_eq!(shown("Zürich".as_bytes()), "Zürich");
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown(b"it's"), "\"it's\"");
        assert_eq!(shown(b"\x1b[2J\0\xff"), r#""\x1b[2J\x00\xff""#);
        // C1 controls, and a character that turns the direction of the text.
        assert_eq!(
            shown("\u{9b}\u{202e}".as_bytes()),
            r#""\xc2\x9b\xe2\x80\xae""#
        );
    }

    proptest! {
        #[test]
        fn a_word_that_was_printed_is_taken_back(words: [Vec<u8>; 3], text: String) {
            let words: Vec<_> = words.into_iter().chain([text.into_bytes()]).collect();
            let shown: Vec<_> = words.iter().map(|it| Word(it).to_string()).collect();
            let line = shown.join(" ");
            prop_assert!(!line.contains(char::is_control), "{line:?}");
            prop_assert_eq!(split(line.as_bytes()).unwrap(), words);
        }

        #[test]
        fn any_bytes_are_words_or_a_fault(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
