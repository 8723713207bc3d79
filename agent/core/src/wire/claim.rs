//! Whose words signed content claims to be: all that is read of it before its signature is checked.
//!
//! The content is walked over without anything being built of it, so that what strangers send costs little.

use super::codec::DecodeError;
use crate::id::{FleetName, HostId};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The fleet and the host that content names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) fleet: FleetName,
    pub(crate) host: HostId,
}

impl Claim {
    /// Finds what content claims; whether the rest of it can be read shows later.
    pub(crate) fn of(content: &[u8]) -> Result<Self, DecodeError> {
        let (fleet, host) =
            find(content).ok_or_else(|| malformed("it is no map that names fleet and host"))?;
        Ok(Self { fleet: fleet.parse().map_err(malformed)?, host: host.parse().map_err(malformed)? })
    }
}

fn malformed(detail: impl ToString) -> DecodeError {
    DecodeError::new("signed content", detail)
}

fn find(content: &[u8]) -> Option<(&str, &str)> {
    let mut walk = Walk(content);
    let (mut fleet, mut host) = (None, None);
    let (MAP, entries) = walk.head()? else { return None };
    for _ in 0..entries {
        match walk.text()? {
            "fleet" => fleet = Some(walk.text()?),
            "host" => host = Some(walk.text()?),
            _ => walk.skip()?,
        }
        if let (Some(fleet), Some(host)) = (fleet, host) {
            return Some((fleet, host));
        }
    }
    None
}

/// Walks over CBOR (RFC 8949 section 3) whose lengths are all written in front.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    /// Takes the head of an item: its major type and its argument.
    fn head(&mut self) -> Option<(u8, u64)> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        let length = match first & 0x1f {
            small @ 0..24 => return Some((first >> 5, u64::from(small))),
            wide @ 24..28 => 1 << (wide - 24),
            _ => return None,
        };
        let argument = self.take(length)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        Some((first >> 5, argument))
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let (TEXT, length) = self.head()? else { return None };
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Walks over one item and all that it holds.
    fn skip(&mut self) -> Option<()> {
        let mut items: u64 = 1;
        while items > 0 {
            items -= 1;
            items = match self.head()? {
                (BYTES | TEXT, length) => self.take(length).map(|_| items)?,
                (ARRAY, length) => items.checked_add(length)?,
                (MAP, length) => items.checked_add(length.checked_mul(2)?)?,
                (TAG, _) => items.checked_add(1)?,
                (UNSIGNED | NEGATIVE, _) | (_, _) => items,
            };
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use ciborium::cbor;

    fn encoded(value: &ciborium::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_stands_around_a_claim_is_walked_over() {
        let content = cbor!({
            "at" => -70000, "body" => {"list" => [1, 2.5, null, {"deep" => [[["x"]], true]}], "n" => u64::MAX},
            "host" => "web1", "long" => "y".repeat(300), "fleet" => "home", "after" => 1,
        });
        let claim = Claim::of(&encoded(&content.unwrap())).unwrap();
        assert_eq!((claim.fleet.as_str(), claim.host.as_str()), ("home", "web1"));
    }

    #[test]
    fn content_that_ends_early_or_names_nobody_claims_nothing() {
        let whole = encoded(&cbor!({"host" => "web1", "fleet" => "home"}).unwrap());
        for end in 0..whole.len() {
            assert!(Claim::of(&whole[..end]).is_err(), "{end}");
        }
        let others = [
            cbor!({"host" => "web1"}).unwrap(),
            cbor!({"host" => 1, "fleet" => "home"}).unwrap(),
            cbor!({"host" => "no/host", "fleet" => "home"}).unwrap(),
            cbor!(["host", "fleet"]).unwrap(),
        ];
        for other in others {
            assert!(Claim::of(&encoded(&other)).is_err(), "{other:?}");
        }
    }

    #[test]
    fn lengths_that_no_content_has_are_refused() {
        for hostile in
            [&[0xbf][..], &[0xbb, 0xff], &[0xa1, 0x61, b'a', 0x9b, 255, 255, 255, 255, 255, 255, 255, 255]]
        {
            assert!(Claim::of(hostile).is_err(), "{hostile:?}");
        }
        let mut deep = vec![0xa1, 0x61, b'a'];
        deep.extend([0x81; 100_000]);
        assert!(Claim::of(&deep).is_err());
    }
}
