//! Selectors: which hosts a wave, an edge, a budget or the electorate means.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::fleet::{Fleet, FleetError, Host};
use crate::id::{ChannelId, HostId, Tag};

const KEYS: &[&str] = &["tags", "tagsAny", "hosts", "channel", "all", "not", "and"];

/// Names hosts of a fleet document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The hosts with all of these tags.
    Tags(Vec<Tag>),
    /// The hosts with any of these tags.
    TagsAny(Vec<Tag>),
    /// These hosts.
    Hosts(Vec<HostId>),
    /// The hosts on this channel.
    Channel(ChannelId),
    /// Every host.
    All,
    /// The hosts that the other does not select.
    Not(Box<Self>),
    /// The hosts that all of the others select.
    And(Vec<Self>),
}

impl Selector {
    /// The hosts that it selects.
    pub fn resolve(&self, fleet: &Fleet) -> BTreeSet<HostId> {
        let selected = fleet.hosts.iter().filter(|(id, host)| self.selects(id, host));
        selected.map(|(id, _)| id.clone()).collect()
    }

    /// Whether it selects a host.
    pub fn selects(&self, id: &HostId, host: &Host) -> bool {
        match self {
            Self::Tags(tags) => tags.iter().all(|tag| host.tags.contains(tag)),
            Self::TagsAny(tags) => tags.iter().any(|tag| host.tags.contains(tag)),
            Self::Hosts(hosts) => hosts.contains(id),
            Self::Channel(channel) => host.channel == *channel,
            Self::All => true,
            Self::Not(other) => !other.selects(id, host),
            Self::And(others) => others.iter().all(|other| other.selects(id, host)),
        }
    }

    /// Refuses names that the fleet document does not know, and lists that name nothing.
    pub(super) fn check(&self, fleet: &Fleet, place: &str) -> Result<(), FleetError> {
        let empty = |key| Err(FleetError::EmptySelector { place: place.to_owned(), key });
        match self {
            Self::Tags(tags) | Self::TagsAny(tags) => {
                if tags.is_empty() {
                    return empty("tags");
                }
                match tags.iter().find(|tag| !fleet.knows_tag(tag)) {
                    Some(tag) => Err(FleetError::UnknownTag { place: place.to_owned(), tag: tag.clone() }),
                    None => Ok(()),
                }
            }
            Self::Hosts(hosts) if hosts.is_empty() => empty("hosts"),
            Self::Hosts(hosts) => match hosts.iter().find(|host| !fleet.hosts.contains_key(*host)) {
                Some(host) => Err(FleetError::UnknownHost { place: place.to_owned(), host: host.clone() }),
                None => Ok(()),
            },
            Self::Channel(channel) => fleet.require_channel(channel, place),
            Self::All => Ok(()),
            Self::Not(other) => other.check(fleet, place),
            Self::And(others) if others.is_empty() => empty("and"),
            Self::And(others) => others.iter().try_for_each(|other| other.check(fleet, place)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], between: &str) -> fmt::Result {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    f.write_str(between)?;
                }
                write!(f, "{item}")?;
            }
            Ok(())
        }
        match self {
            Self::Tags(tags) => {
                f.write_str("tagged ")?;
                list(f, tags, " and ")
            }
            Self::TagsAny(tags) => {
                f.write_str("tagged ")?;
                list(f, tags, " or ")
            }
            Self::Hosts(hosts) => list(f, hosts, ", "),
            Self::Channel(channel) => write!(f, "on channel {channel}"),
            Self::All => f.write_str("all hosts"),
            Self::Not(other) => write!(f, "not ({other})"),
            Self::And(others) => {
                f.write_str("(")?;
                list(f, others, ") and (")?;
                f.write_str(")")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneKey)
    }
}

struct OneKey;

impl<'de> Visitor<'de> for OneKey {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a selector: an object with one key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
        let one = || de::Error::custom("a selector has exactly one key; {\"and\": [..]} joins several");
        let key: String = map.next_key()?.ok_or_else(one)?;
        let selector = match key.as_str() {
            "tags" => Selector::Tags(map.next_value()?),
            "tagsAny" => Selector::TagsAny(map.next_value()?),
            "hosts" => Selector::Hosts(map.next_value()?),
            "channel" => Selector::Channel(map.next_value()?),
            "all" if map.next_value::<bool>()? => Selector::All,
            "all" => return Err(de::Error::custom("a selector's \"all\" can only be true")),
            "not" => Selector::Not(map.next_value()?),
            "and" => Selector::And(map.next_value()?),
            other => return Err(de::Error::unknown_field(other, KEYS)),
        };
        match map.next_key::<String>()? {
            None => Ok(selector),
            Some(key) if KEYS.contains(&key.as_str()) => Err(one()),
            Some(key) => Err(de::Error::unknown_field(&key, KEYS)),
        }
    }
}
