//! Reads the few CBOR items that signed messages consist of, in their shortest encoding only.
//!
//! A general decoder would build whatever tree a stranger sends before anyone can say that it is the wrong
//! one. The messages of this crate have one shape, so it is walked along instead.

use thiserror::Error;

/// Why bytes are not the CBOR that a signed message consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("it ends too early")]
    Truncated,
    /// Another kind of item stands where one is due.
    #[error("it is made of other items")]
    Kind,
    /// A length is written with more bytes than it needs.
    #[error("its encoding is not the shortest one")]
    NotShortest,
    /// Something stands behind the message.
    #[error("something stands behind it")]
    Trailing,
}

const BYTE_STRING: u8 = 2;
const ARRAY: u8 = 4;
const TAG: u8 = 6;

/// Takes items off the front of a buffer.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes exactly these bytes, if they are next.
    pub(crate) fn skip(&mut self, expected: &[u8]) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    pub(crate) fn tag(&mut self, expected: u64) -> Result<(), CborError> {
        if self.head(TAG)? == expected { Ok(()) } else { Err(CborError::Kind) }
    }

    /// Takes the head of an array and answers how many items follow.
    pub(crate) fn array(&mut self) -> Result<usize, CborError> {
        usize::try_from(self.head(ARRAY)?).map_err(|_| CborError::Truncated)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(self.head(BYTE_STRING)?).map_err(|_| CborError::Truncated)?;
        self.take(length)
    }

    pub(crate) const fn finish(self) -> Result<(), CborError> {
        if self.0.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CborError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// Takes the head of an item of this major type and answers its argument (RFC 8949 section 3).
    fn head(&mut self, major: u8) -> Result<u64, CborError> {
        let first = *self.0.first().ok_or(CborError::Truncated)?;
        if first >> 5 != major {
            return Err(CborError::Kind);
        }
        self.take(1)?;
        let (length, least) = match first & 0x1f {
            small @ 0..24 => return Ok(u64::from(small)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(CborError::NotShortest),
        };
        let argument = self.take(length)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        if argument < least { Err(CborError::NotShortest) } else { Ok(argument) }
    }
}
