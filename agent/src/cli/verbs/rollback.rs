//! `muster rollback`: a new ref that sends a channel back to what an earlier one released.

use std::collections::BTreeMap;

use clap::Args;
use muster_core::document::Fleet;
use muster_core::id::{ChannelId, ChannelRef, Closure, HostId};
use muster_signing::Namespace;

use super::order::{Known, Signed};
use crate::cli::output::note;
use crate::cli::sign::{ChannelRefRequest, make_channel_ref};
use crate::cli::{Exit, Failure, when};
use crate::control::client::encoded;
use crate::control::wire::{Channel, Released, RolloutState};

/// Sends a channel back: signs and publishes a new ref with the targets of an earlier one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster rollback stable --key operator
  muster rollback stable --to v1 --urgent --key ~/.ssh/id_ed25519.pub
  muster rollback stable --dry-run | muster plan -

Without --to the newest earlier ref is taken whose rollout was finished and that
released something else. The new ref goes through the waves, soak times and
budgets like any other; --urgent lets a host that ran that very closure well go
back at once. No reason is asked for: a rollback is a ref and no command, and a
ref has no place for one; --ref can name it after its reason. --dry-run prints
the ref, and muster plan says what it would do.")]
pub(in crate::cli) struct Rollback {
    /// The channel.
    channel: ChannelId,
    /// The earlier ref whose targets are taken.
    #[arg(long, value_name = "REF")]
    to: Option<ChannelRef>,
    /// The name of the new ref; by default made of the earlier one's and the serial.
    #[arg(long = "ref", value_name = "REF")]
    name: Option<ChannelRef>,
    /// Opens the gates of waves and promotions for closures that already converged on a host.
    #[arg(long)]
    urgent: bool,
    /// Other verbs take one; this one says why it does not.
    #[arg(long, hide = true, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    signed: Signed,
}

impl Rollback {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if self.reason.is_some() {
            let message = "a rollback takes no reason: it signs a channel ref, which has no place for one";
            return Err(Failure::usage(message).hint(
                "--ref REF names the new ref after it; muster pause --reason says why a channel stands still",
            ));
        }
        self.signed.ask(async |client| {
            let known = Known::ask(client).await?;
            let route = format!("/v1/channels/{}", encoded(self.channel.as_str()));
            let channel: Channel = client.read(&route).await?;
            let (newest, earlier) = chosen(&channel, self.to.as_ref())?;
            let serial = newest.serial.checked_add(1).ok_or_else(|| {
                Failure::new(format_args!("no serial is greater than that of {}", newest.r#ref))
                    .hint("a fleet document with the next serial starts the refs' serials anew")
            })?;
            let target_ref = match &self.name {
                Some(name) => name.clone(),
                None => format!("{}-again-{serial}", earlier.r#ref)
                    .parse()
                    .map_err(|error| Failure::new(error).hint("--ref gives the new ref a name of its own"))?,
            };
            note(format_args!(
                "{} goes from {} back to what {} released",
                self.channel, newest.r#ref, earlier.r#ref
            ));
            let request = ChannelRefRequest {
                channel: self.channel.clone(),
                target_ref,
                serial,
                targets: targets(&known.fleet, &self.channel, earlier)?,
                expires_at: None,
                urgent: self.urgent,
            };
            let bytes = make_channel_ref(request, &known.fleet, &known.fleet_bytes, when::now())?;
            let needed = known.fleet.thresholds.channel_ref;
            self.signed.send(client, &known.fleet, Namespace::ChannelRef, bytes, needed).await
        })
    }
}

/// The channel's newest ref, and the one to go back to.
fn chosen<'a>(
    channel: &'a Channel,
    to: Option<&ChannelRef>,
) -> Result<(&'a Released, &'a Released), Failure> {
    let name = &channel.channel;
    let Some(newest) = channel.refs.first() else {
        return Err(Failure::new(format_args!("nothing was ever released on {name}"))
            .hint("muster sign channel-ref makes its first ref"));
    };
    let earlier = channel.refs.iter().skip(1);
    if let Some(to) = to {
        let found = channel.refs.iter().find(|it| it.r#ref == to.as_str());
        let found = found.ok_or_else(|| {
            Failure::new(format_args!("no ref {to} of {name} is known here")).hint(listed(channel))
        })?;
        return Ok((newest, found));
    }
    let finished = |it: &&Released| it.state == Some(RolloutState::Terminal) && it.targets != newest.targets;
    let found = earlier.into_iter().find(finished).ok_or_else(|| {
        Failure::new(format_args!("no earlier ref of {name} was finished and released something else"))
            .hint(listed(channel))
    })?;
    Ok((newest, found))
}

fn listed(channel: &Channel) -> String {
    const LISTED_MAX: usize = 8;
    let refs: Vec<&str> = channel.refs.iter().take(LISTED_MAX).map(|it| it.r#ref.as_str()).collect();
    format!("--to REF names one of {}", refs.join(", "))
}

/// The earlier targets of the hosts that are on the channel today.
fn targets(
    fleet: &Fleet,
    channel: &ChannelId,
    earlier: &Released,
) -> Result<BTreeMap<HostId, Closure>, Failure> {
    let mut targets = BTreeMap::new();
    for (host, closure) in &earlier.targets {
        let host: HostId = host.parse().map_err(Failure::new)?;
        if fleet.hosts.get(&host).is_some_and(|entry| entry.channel == *channel) {
            targets.insert(host, closure.parse().map_err(Failure::new)?);
        }
    }
    if targets.is_empty() {
        return Err(Failure::new(format_args!(
            "none of the hosts of {} is on {channel} today",
            earlier.r#ref
        ))
        .hint("--to REF names another one"));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::control::wire::fixtures::at;

    fn released(name: &str, serial: u64, state: Option<RolloutState>, closure: &str) -> Released {
        Released {
            r#ref: name.to_owned(),
            serial,
            fleet_serial: 1,
            signed_at: at(0),
            state,
            targets: [("web-01".to_owned(), closure.to_owned())].into(),
        }
    }

    #[test]
    fn the_newest_finished_ref_that_released_something_else_is_gone_back_to() {
        use RolloutState::{Reverted, Terminal};
        let refs = vec![
            released("v3", 4, Some(Reverted), "dir:v3"),
            released("v3", 3, Some(Reverted), "dir:v3"),
            released("v2", 2, Some(Terminal), "dir:v2"),
            released("v1", 1, Some(Terminal), "dir:v1"),
        ];
        let channel = Channel { schema: 1, channel: "stable".to_owned(), refs };
        let name = |to: Option<&str>| {
            let to = to.map(|to| to.parse().unwrap());
            chosen(&channel, to.as_ref()).map(|(_, it)| it.r#ref.clone())
        };
        assert_eq!(name(None).unwrap(), "v2");
        assert_eq!(name(Some("v1")).unwrap(), "v1");
        assert!(name(Some("v9")).unwrap_err().hint.unwrap().contains("v3, v3, v2, v1"));
        let only = Channel { refs: channel.refs[..2].to_vec(), ..channel.clone() };
        assert!(chosen(&only, None).unwrap_err().message.contains("no earlier ref"));
        let none = Channel { refs: Vec::new(), ..channel };
        assert!(chosen(&none, None).unwrap_err().message.contains("ever released"));
    }
}
