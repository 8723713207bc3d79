//! `muster hook`: whom this host's agent calls, and what became of it.

use clap::{Args, Subcommand};
use muster_core::hook::Event;

use super::asking::{Agent, raw};
use super::output::{Tone, count, line};
use super::render::{Look, field, field_or_none, flat, relative, tinted};
use super::{Exit, Failure};
use crate::control::client::parse;
use crate::control::wire::{HookDone, HookStatus, Status};

/// Shows and tries the hooks: whom this host's agent calls when something happens.
#[derive(Debug, Args)]
pub(super) struct HookCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the hooks of this host: what waits, what went well, what was given up and why.
    #[command(after_help = "Example:
  muster hook list

Hooks are [[hook]] tables of the agent's configuration. --json prints the whole of muster status --json.")]
    List {
        #[command(flatten)]
        agent: Agent,
    },
    /// Calls a hook now, with an event named test; ends with 1 if that fails.
    #[command(after_help = "Example:
  muster hook test pager

The agent calls it exactly as it would if something had happened, once, and says how it went.")]
    Test(Named),
    /// Tries again what was given up, once the receiver is mended.
    #[command(after_help = "Example:
  muster hook retry pager")]
    Retry(Named),
    /// Forgets what was given up.
    #[command(after_help = "Example:
  muster hook forget pager")]
    Forget(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The hook.
    name: String,
    #[command(flatten)]
    agent: Agent,
}

impl HookCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List { agent } => {
                agent.show("/v1/status", |status: &Status| text(&status.hooks, &Look::of_stdout()))
            }
            Verb::Test(named) => named.run("test", |_| "the hook was called, and it went well".to_owned()),
            Verb::Retry(named) => named.run("retry", |calls| match calls {
                0 => "nothing was given up".to_owned(),
                _ => format!("{} tried again", waits(calls)),
            }),
            Verb::Forget(named) => named.run("forget", |calls| format!("{} forgotten", is(calls))),
        }
    }
}

fn calls_of(calls: u64) -> String {
    count(usize::try_from(calls).unwrap_or(usize::MAX), "call")
}

fn waits(calls: u64) -> String {
    format!("{} {} to be", calls_of(calls), if calls == 1 { "waits" } else { "wait" })
}

fn is(calls: u64) -> String {
    format!("{} {}", calls_of(calls), if calls == 1 { "is" } else { "are" })
}

impl Named {
    fn run(self, verb: &str, went_well: impl FnOnce(u64) -> String) -> Result<Exit, Failure> {
        let body = self.agent.ask(async |client| Ok(client.hook(&self.name, verb).await?))?;
        let done: HookDone = parse(&body)?;
        if self.agent.json {
            raw(&body);
            return Ok(if done.ok { Exit::Done } else { Exit::Refused });
        }
        match done.reason {
            None => {
                line(went_well(done.calls));
                Ok(Exit::Done)
            }
            Some(reason) => Err(Failure::new(format_args!("the call failed: {}", flat(&reason)))
                .hint("mend what is called, or the [[hook]] in the agent's configuration, and try again")),
        }
    }
}

/// The hooks in one table, for the status too.
pub(super) fn table(hooks: &[HookStatus], look: &Look) -> String {
    let rows = hooks.iter().map(|hook| {
        let failed = hook.failed_last.as_ref().map(|reason| {
            let when = hook.failed_last_at.map(|at| format!("{}: ", relative(at, look.now)));
            format!("{}{reason}", when.unwrap_or_default())
        });
        let given_up = match hook.dead.len() {
            0 => field(0),
            dead => tinted(Tone::Bad, dead),
        };
        vec![field(&hook.name), field(hook.pending), field(hook.delivered), given_up, field_or_none(failed)]
    });
    look.table(&["HOOK", "WAITING", "DELIVERED", "GIVEN UP", "LAST TRY FAILED"], rows)
}

fn text(hooks: &[HookStatus], look: &Look) -> String {
    if hooks.is_empty() {
        return "this host's agent has no hooks; a [[hook]] in its configuration makes one".to_owned();
    }
    let what = hooks.iter().map(|hook| {
        let all = hook.events.len() == Event::ALL.len();
        let events = if all { "all".to_owned() } else { hook.events.join(", ") };
        vec![field(&hook.name), field(&hook.calls), field(events)]
    });
    let what = look.table(&["HOOK", "CALLS", "FOR"], what);
    let mut text = format!("{}\n\n{}", table(hooks, look).trim_end(), what.trim_end());
    let dead: Vec<_> = hooks.iter().flat_map(|hook| hook.dead.iter().map(move |dead| (hook, dead))).collect();
    if !dead.is_empty() {
        let rows = dead.into_iter().map(|(hook, dead)| {
            let about = [Some(&dead.event), dead.rollout.as_ref(), dead.host.as_ref()];
            let about: Vec<&str> = about.into_iter().flatten().map(String::as_str).collect();
            let when = relative(dead.at, look.now);
            vec![
                tinted(Tone::Bad, about.join(" ")),
                field(&hook.name),
                field(when),
                field(dead.tries),
                field(&dead.reason),
            ]
        });
        let rows = look.table(&["GIVEN UP", "HOOK", "HAPPENED", "TRIES", "WHY"], rows);
        text.push_str("\n\n");
        text.push_str(rows.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[test]
    fn a_hook_that_fails_says_why_and_what_was_given_up() {
        check(
            &text(&fixtures::hooks(), &look()),
            &[
                "HOOK   WAITING  DELIVERED  GIVEN UP  LAST TRY FAILED",
                "chat   0        7          0         -",
                "pager  2        1          1         2 h ago: https://pager.example.org: status",
                "                                     503 Service Unavailable",
                "",
                "HOOK   CALLS                      FOR",
                "chat   /etc/muster/tell-the-chat  rollout-completed, rollout-failed",
                "pager  https://pager.example.org  quorum-lost",
                "",
                "GIVEN UP     HOOK   HAPPENED  TRIES  WHY",
                "quorum-lost  pager  2 h ago   20     https://pager.example.org: status 503",
                "                                     Service Unavailable",
            ],
        );
        check(
            &text(&[], &look()),
            &["this host's agent has no hooks; a [[hook]] in its configuration makes one"],
        );
    }

    #[test]
    fn what_was_done_with_calls_is_said_in_words() {
        assert_eq!((waits(1), waits(2)), ("1 call waits to be".to_owned(), "2 calls wait to be".to_owned()));
        assert_eq!((is(1), is(0)), ("1 call is".to_owned(), "0 calls are".to_owned()));
    }
}
