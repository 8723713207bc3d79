//! Ids: newtypes that can only hold a valid value, so that holding one is the proof.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that does not have the form its id demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {kind}: {rule}")]
pub struct InvalidId {
    /// Which id was wanted.
    pub kind: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), rule }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                if $valid(value) { Ok(Self(value.into())) } else { Err(InvalidId::new($kind, value, $rule)) }
            }
        }

        text_form!($name);
    };
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

id! {
    /// The name of a fleet, as its documents give it.
    FleetName, "fleet name", "a lower-case letter, then at most 62 of a-z, 0-9 and -", name_with_dashes
}
id! {
    /// A host's name in the fleet document.
    HostId, "host name", "1 to 63 of a-z, 0-9 and -, neither first nor last a -", host_name
}
id! {
    /// The name of a channel.
    ChannelId, "channel name", "a lower-case letter, then at most 62 of a-z, 0-9 and -", name_with_dashes
}
id! {
    /// What the operator releases on a channel, usually a git commit.
    ChannelRef, "channel ref", "a letter or digit, then at most 127 of A-Z, a-z, 0-9, '.', '_' and '-'", release_name
}
id! {
    /// The name of a health probe.
    ProbeName, "probe name", "a lower-case letter, then at most 62 of a-z, 0-9 and -", name_with_dashes
}
id! {
    /// What a host runs: a NixOS system's store path, or `dir:<name>` of the directory backend.
    Closure, "closure",
    "/nix/store/<32 base-32 characters>-<name> or dir:<name>, at most 255 bytes, never with '..'", closure
}
id! {
    /// An operator's name in the fleet document.
    OperatorName, "operator name", "a letter or digit, then at most 127 of A-Z, a-z, 0-9, '.', '_' and '-'", release_name
}
id! {
    /// A tag of hosts.
    Tag, "tag", "a lower-case letter, then at most 62 of a-z, 0-9 and -", name_with_dashes
}
id! {
    /// The name of a rollout policy.
    PolicyName, "policy name", "a lower-case letter, then at most 62 of a-z, 0-9 and -", name_with_dashes
}

impl Closure {
    /// The name of a release of the directory backend, if it is one.
    pub fn directory_release(&self) -> Option<&str> {
        self.0.strip_prefix("dir:")
    }
}

/// One release on one channel: `{channel}@{ref}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutId {
    text: Box<str>,
    at: usize,
}

impl RolloutId {
    /// Names the rollout of a ref on a channel.
    pub fn new(channel: &ChannelId, target_ref: &ChannelRef) -> Self {
        Self { text: format!("{channel}@{target_ref}").into(), at: channel.as_str().len() }
    }

    /// The channel that it is on.
    pub fn channel(&self) -> ChannelId {
        ChannelId(self.text[..self.at].into())
    }

    /// The ref that it releases.
    pub fn target_ref(&self) -> ChannelRef {
        ChannelRef(self.text[self.at + 1..].into())
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for RolloutId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let Some((channel, target_ref)) = value.split_once('@') else {
            return Err(InvalidId::new("rollout id", value, "{channel}@{ref}"));
        };
        Ok(Self::new(&channel.parse()?, &target_ref.parse()?))
    }
}

text_form!(RolloutId);

fn name_with_dashes(value: &str) -> bool {
    value.len() <= 63
        && value.starts_with(|c: char| c.is_ascii_lowercase())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn host_name(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&value.len())
        && value.bytes().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

fn release_name(value: &str) -> bool {
    value.len() <= 128
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The grammar of store paths: a base-32 hash without e, o, u and t, and a name of the characters that Nix allows.
fn store_path(rest: &str) -> bool {
    let Some((hash, name)) = rest.split_at_checked(32) else { return false };
    let base32 = |b: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&b);
    let Some(name) = name.strip_prefix('-') else { return false };
    hash.bytes().all(base32)
        && !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b))
}

fn closure(value: &str) -> bool {
    let form = match (value.strip_prefix("dir:"), value.strip_prefix("/nix/store/")) {
        (Some(name), _) => release_name(name),
        (None, Some(rest)) => store_path(rest),
        (None, None) => false,
    };
    form && value.len() <= 255 && !value.contains("..")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
        for value in good {
            assert!(value.parse::<T>().is_ok(), "{value:?} should be accepted");
        }
        for value in bad {
            assert!(value.parse::<T>().is_err(), "{value:?} should be refused");
        }
    }

    #[test]
    fn every_id_holds_only_what_its_rule_allows() {
        let long = "a".repeat(64);
        check::<HostId>(&["a", "web-01", "0"], &["", "-a", "a-", "A", "a.b", "a\0", &long]);
        check::<ChannelId>(&["stable", "s-1"], &["", "1s", "-s", "Stable", "a_b", &long]);
        check::<ChannelRef>(&["a1b2", "v1.2_3-x"], &["", ".x", "-x", "a/b", "a b", &"a".repeat(129)]);
        check::<ProbeName>(&["http"], &["", "Http", "9"]);
        check::<Closure>(
            &["dir:v1", "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web-26.05"],
            &[
                "",
                "dir:",
                "dir:..",
                "dir:a..b",
                "dir:a/b",
                "dir:-x",
                "v1",
                "/nix/store/",
                "/nix/store/0123456789abcdfghijklmnpqrsvwxye-x",
                "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-",
                "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a/../b",
                "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a\0",
                "/nix/store/éééééééééééééééé-a",
            ],
        );
        check::<RolloutId>(&["stable@v1"], &["stable", "@v1", "stable@", "Stable@v1", "stable@v1@v2"]);
    }

    #[test]
    fn a_rollout_id_gives_back_its_halves() {
        let id: RolloutId = "stable@v1.2".parse().unwrap();
        assert_eq!(id.channel().as_str(), "stable");
        assert_eq!(id.target_ref().as_str(), "v1.2");
    }

    #[test]
    fn a_bad_id_in_json_names_the_rule() {
        let error = serde_json::from_str::<HostId>("\"-x\"").unwrap_err().to_string();
        assert!(error.contains("neither first nor last a -"), "{error}");
    }
}
