//! The length-prefixed strings of the SSH protocol (RFC 4251 section 5).

/// Reads SSH strings off the front of a buffer; every method answers `None` when the buffer is too short.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// Answers whether all was read: what is left over was not covered by any rule.
    pub(crate) const fn finished(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends one SSH string.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Whatever this crate writes is bounded far below 4 GiB; a longer string would not fit the format at all.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What a stranger's bytes look like in an error: readable, and short.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned()
}
