//! What operators order: each verb makes a command, signs it and hands it to the fleet in one go.

mod order;
mod rollback;
mod sending;

use clap::{Args, Subcommand};
use muster_core::id::{ChannelId, Closure, HostId, RolloutId};
use serde_json::{Value, json};

use super::{Exit, Failure};
use crate::control::client::{Client, encoded};
use crate::control::wire::{Quarantines, RolloutShow};
use order::Order;
use rollback::Rollback;

/// The operators' verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Verbs {
    Pause(Pause),
    Resume(Resume),
    Cancel(Cancel),
    Promote(Promote),
    Clear(Clear),
    Skip(Skip),
    Readmit(Readmit),
    Rollback(Rollback),
}

impl Verbs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Pause(it) => it.order.run("pause", async |_| it.scope.fields()),
            Self::Resume(it) => it.order.run("resume", async |_| it.scope.fields()),
            Self::Cancel(it) => it.order.run("cancel", async |_| Ok(json!({ "rollout": it.rollout }))),
            Self::Promote(it) => it.order.run("promote", async |client| it.target.fields(client).await),
            Self::Clear(it) => it.order.run("clear", async |client| it.target.fields(client).await),
            Self::Skip(it) => {
                it.order.run("skip", async |_| Ok(json!({ "host": it.host, "rollout": it.rollout })))
            }
            Self::Readmit(it) => it.order.run("readmit", async |_| Ok(json!({ "host": it.host }))),
            Self::Rollback(it) => it.run(),
        }
    }
}

/// Holds back whoever is not dispatched yet, until it is resumed; hosts in flight finish by themselves.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster pause stable --reason 'the database moves tonight' --key operator
  muster pause stable@v2 --expires 2h --reason 'looking at web-01' \\
      --key ~/.ssh/id_ed25519.pub
  muster pause --host db-01 --reason 'disk is being replaced' --key operator

It holds on every host that has heard of it, before any coordinator says so.")]
pub(super) struct Pause {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    order: Order,
}

/// Lifts a pause; of a channel, a rollout or a host, whichever was paused.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster resume stable --reason 'the database has moved' --key operator

A pause of a channel is lifted by resuming the channel, and no other way; hosts
that were paused by name stay paused.")]
pub(super) struct Resume {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    order: Order,
}

/// Stops a rollout for good: nobody more is dispatched, hosts in flight finish by themselves.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster cancel stable@v2 --reason 'the release is withdrawn' --key operator

Who has the release already keeps it: muster rollback sends a channel back.
muster clear lets a cancelled rollout go on.")]
pub(super) struct Cancel {
    /// The rollout: CHANNEL@REF.
    rollout: RolloutId,
    #[command(flatten)]
    order: Order,
}

/// Opens what follows a wave that waits for a person (`promotion: manual`).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster promote stable@v2 --reason 'the canaries look well' --key operator
  muster promote stable@v2 --wave 1 --reason 'the canaries look well' \\
      --key operator

Without --wave the first wave is meant that asks for it and has not got it. The
next wave begins once this one is done.")]
pub(super) struct Promote {
    #[command(flatten)]
    target: PromoteTarget,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, Args)]
struct PromoteTarget {
    /// The rollout: CHANNEL@REF.
    rollout: RolloutId,
    /// The wave that waits for it, counted from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    wave: Option<u32>,
}

/// Lets a failed rollout go on without the hosts that failed, or lifts the quarantine of a closure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster clear stable@v2 --reason 'web-01 had a broken disk' --key operator
  muster clear stable dir:v2 --reason 'it was the probe' --key operator

A rollout that is cleared still dispatches no closure that is quarantined; clear
that too, if it is well.")]
pub(super) struct Clear {
    #[command(flatten)]
    target: ClearTarget,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, Args)]
struct ClearTarget {
    /// A rollout, CHANNEL@REF; or the channel on which a closure is quarantined.
    #[arg(value_name = "ROLLOUT|CHANNEL")]
    subject: String,
    /// The closure, after its channel.
    closure: Option<Closure>,
}

/// Goes on without a host: nobody waits for it any more, and its slot is free.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster skip web-03 --reason 'it is in repair' --key operator
  muster skip web-03 --rollout stable@v2 --reason 'it is in repair' \\
      --key operator")]
pub(super) struct Skip {
    /// The host.
    host: HostId,
    /// In this rollout only; otherwise in all, until the command expires.
    #[arg(long, value_name = "CHANNEL@REF")]
    rollout: Option<RolloutId>,
    #[command(flatten)]
    order: Order,
}

/// Lets a coordinator take part again whose store was lost or put back in time.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster readmit alpha --reason 'its disk was replaced' --key operator")]
pub(super) struct Readmit {
    /// The coordinator.
    host: HostId,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// A channel, or one rollout of it: CHANNEL@REF.
    #[arg(value_name = "CHANNEL|ROLLOUT", required_unless_present = "host")]
    subject: Option<String>,
    /// One host instead.
    #[arg(long, value_name = "HOST", conflicts_with = "subject")]
    host: Option<HostId>,
}

impl ScopeArgs {
    fn fields(&self) -> Result<Value, Failure> {
        if let Some(host) = &self.host {
            return Ok(json!({ "host": host }));
        }
        let subject = self.subject.as_deref().unwrap_or_default();
        if subject.contains('@') {
            let rollout: RolloutId = subject.parse().map_err(Failure::usage)?;
            return Ok(json!({ "rollout": rollout }));
        }
        let channel: ChannelId = subject.parse().map_err(Failure::usage)?;
        Ok(json!({ "channel": channel }))
    }
}

impl PromoteTarget {
    async fn fields(&self, client: &Client) -> Result<Value, Failure> {
        let wave = match self.wave {
            Some(wave) => wave - 1,
            None => {
                let route = format!("/v1/rollouts/{}", encoded(&self.rollout.to_string()));
                let show: RolloutShow = client.read(&route).await?;
                let waits = show.waves.iter().find(|wave| wave.manual_promotion && !wave.promoted);
                // If none waits, the agent says so of the one that is under way.
                waits.map_or(show.rollout.wave, |wave| wave.wave)
            }
        };
        Ok(json!({ "rollout": self.rollout, "wave": wave }))
    }
}

impl ClearTarget {
    async fn fields(&self, client: &Client) -> Result<Value, Failure> {
        let Some(closure) = &self.closure else {
            let rollout: RolloutId = self.subject.parse().map_err(|error| {
                Failure::usage(error).hint("muster clear CHANNEL@REF, or muster clear CHANNEL CLOSURE")
            })?;
            return Ok(json!({ "rollout": rollout }));
        };
        let channel: ChannelId = self.subject.parse().map_err(Failure::usage)?;
        let standing: Quarantines = client.read("/v1/quarantines").await?;
        let of_it = standing
            .quarantines
            .iter()
            .filter(|it| it.channel == channel.as_str() && it.closure == closure.as_str());
        let decisions: Vec<Value> = of_it
            .map(|it| json!({ "logIndex": it.decision.log_index, "ordinal": it.decision.ordinal }))
            .collect();
        Ok(json!({ "channel": channel, "closure": closure, "quarantines": decisions }))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_verb_has_an_example_in_its_help() {
        let cli = Cli::command();
        let fleet = cli.find_subcommand("fleet").unwrap();
        let verbs = ["pause", "resume", "cancel", "promote", "clear", "skip", "readmit", "rollback", "plan"];
        let commands = verbs.iter().map(|name| cli.find_subcommand(name).unwrap());
        for command in commands.chain(fleet.get_subcommands()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (name, begins) = (command.get_name(), after.lines().next().unwrap_or_default());
            assert!(begins.starts_with("Example") && after.contains(&format!(" {name} ")), "{name}: {after}");
        }
    }

    #[test]
    fn what_a_pause_covers_is_told_by_its_form() {
        let scope = |subject: Option<&str>, host: Option<&str>| {
            let host = host.map(|host| host.parse().unwrap());
            ScopeArgs { subject: subject.map(str::to_owned), host }.fields()
        };
        assert_eq!(scope(Some("stable"), None), Ok(json!({ "channel": "stable" })));
        assert_eq!(scope(Some("stable@v2"), None), Ok(json!({ "rollout": "stable@v2" })));
        assert_eq!(scope(None, Some("db-01")), Ok(json!({ "host": "db-01" })));
        for senseless in ["", "@", "stable@", "Stable Channel"] {
            assert_eq!(scope(Some(senseless), None).unwrap_err().exit, Exit::Usage, "{senseless}");
        }
    }
}
