//! Cuts text that others wrote to a length, always between characters.

/// The longest beginning of `text` that fits in `bytes_max` bytes.
pub fn head(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The longest end of `text` that fits in `bytes_max` bytes.
pub fn tail(text: &str, bytes_max: usize) -> &str {
    let first = text.len().saturating_sub(bytes_max);
    let start = (first..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[start..]
}

/// The end of a stream of bytes: remembers only the last of them.
#[derive(Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Tail {
    /// Remembers at most the last `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Takes the stream's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..surplus);
    }

    /// The remembered bytes as text of at most as many bytes; what is not UTF-8 becomes the replacement character.
    pub fn text(&self) -> String {
        // A character that the cut split has lost its beginning; its up to three other bytes say nothing.
        let cut = if self.bytes.len() == self.bytes_max { 3 } else { 0 };
        let split = self.bytes.iter().take(cut).take_while(|byte| **byte & 0xc0 == 0x80).count();
        let bytes = &self.bytes[split..];
        tail(&String::from_utf8_lossy(bytes), self.bytes_max).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        for (text, max, first, last) in [
            ("abc", 2, "ab", "bc"),
            ("abc", 3, "abc", "abc"),
            ("aéé", 2, "a", "é"),
            ("aéé", 3, "aé", "é"),
            ("é", 1, "", ""),
            ("", 0, "", ""),
        ] {
            assert_eq!((head(text, max), tail(text, max)), (first, last), "{text:?} at {max}");
        }
    }

    #[test]
    fn a_tail_keeps_the_end_and_never_grows_past_its_bound() {
        let mut kept = Tail::new(4);
        kept.push(b"abc");
        assert_eq!(kept.text(), "abc");
        kept.push("déf".as_bytes());
        assert_eq!(kept.text(), "déf");
        kept.push(b"g");
        assert_eq!(kept.text(), "éfg");
        kept.push(b"hi");
        assert_eq!(kept.text(), "fghi");
        kept.push(&[0xff; 100]);
        assert!(kept.text().len() <= 4);
    }
}
