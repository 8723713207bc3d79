//! One hook at work: it reads what was learnt, keeps its queue on the disk, and makes one call at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::hook::{Due, Line, QuorumWatch, quorum_changed};
use muster_core::time::Mono;
use muster_core::wire::codec;
use muster_store::{Change, CommitError, Store, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::super::now;
use super::{Quorum, done, reading, row, shown};
use crate::control::wire::HookStatus;
use crate::control::{Answer, Problem};
use crate::hooks::Hook;
use crate::hooks::message::Sender;

/// After so much that was no business of the hook it is noted how far it looked, so that a start need not look again.
const NOTE_EVERY: u64 = 4096;
/// How long is waited for a store that has too much to write.
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// The longest that a task sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Who waits to hear what became of an order.
pub(super) type Reply = oneshot::Sender<Result<Answer, Problem>>;

/// What somebody asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// To try again what was given up.
    Retry(Reply),
    /// To forget it.
    Forget(Reply),
}

/// The store takes no more: the agent ends.
struct Gone;

/// One hook at work.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) hook: Arc<Hook>,
    pub(super) sender: Arc<Sender>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Instant,
    pub(super) line: Line,
    /// The position that the disk has.
    pub(super) saved: u64,
    pub(super) watch: QuorumWatch,
    pub(super) learnt: watch::Receiver<u64>,
    pub(super) quorum: watch::Receiver<Option<Quorum>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) board: watch::Sender<HookStatus>,
}

impl Keeper {
    /// Works until the loop is gone or the store takes no more.
    pub(super) async fn run(mut self) {
        // Dropped with the task, which kills the program that is being run.
        let mut call = JoinSet::new();
        // Whoever begins now begins here, also after a kill; and what came while nobody looked is looked at.
        if self.save().await.is_err() || self.read().await.is_err() {
            return;
        }
        loop {
            let given_up = self.line.given_up();
            let attempt = self.line.begin(&self.hook.policy, now(self.clock));
            if (attempt.is_some() || self.line.given_up() > given_up) && self.save().await.is_err() {
                return;
            }
            if let Some(attempt) = attempt {
                let (hook, message) = (Arc::clone(&self.hook), self.sender.message(&attempt.occurrence));
                tracing::debug!(hook = hook.name, id = attempt.occurrence.id, try_ = attempt.number, "calls");
                call.spawn(async move { hook.call(&message).await });
            }
            let sleep = self.sleep();
            let going_on = tokio::select! {
                biased;
                Some(result) = call.join_next() => {
                    self.called(result.unwrap_or_else(|error| Err(error.to_string()))).await
                }
                Some(order) = self.orders.recv() => self.obey(order).await,
                seen = self.quorum.changed() => match seen {
                    Ok(()) => self.look().await,
                    Err(_) => return,
                },
                more = self.learnt.changed() => match more {
                    Ok(()) => self.read().await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(sleep) => self.look().await,
            };
            if going_on.is_err() {
                return;
            }
        }
    }

    fn sleep(&self) -> Duration {
        let at = now(self.clock).mono;
        let due = match self.line.due(at) {
            Due::Nothing => None,
            Due::At(moment) => Some(moment),
            Due::Now => Some(at),
        };
        let next = [due, self.watch.wakes_at().filter(|moment| *moment > at)].into_iter().flatten().min();
        next.map_or(SLEEP_MAX, |moment: Mono| moment.since(at)).min(SLEEP_MAX)
    }

    async fn called(&mut self, result: Result<(), String>) -> Result<(), Gone> {
        let given_up = self.line.given_up();
        if let Err(reason) = &result {
            tracing::warn!(hook = self.hook.name, reason, "a hook could not be called");
        }
        self.line.end(&self.hook.policy, now(self.clock), result);
        if self.line.given_up() > given_up {
            tracing::error!(
                hook = self.hook.name,
                "a call is given up; muster hook list says which, and muster hook retry tries it again"
            );
        }
        self.save().await
    }

    async fn obey(&mut self, order: Order) -> Result<(), Gone> {
        let (count, reply) = match order {
            Order::Retry(reply) => (self.line.retry(), reply),
            Order::Forget(reply) => (self.line.forget(), reply),
        };
        let saved = self.save().await;
        // Who asked may have hung up.
        drop(reply.send(Ok(done(&self.hook.name, count, Ok(())))));
        saved
    }

    /// Looks how the quorum is.
    async fn look(&mut self) -> Result<(), Gone> {
        let Some(Quorum { lacks, words }) = self.quorum.borrow_and_update().clone() else { return Ok(()) };
        let moment = now(self.clock);
        let Some((lost, since)) = self.watch.seen(moment, lacks) else { return Ok(()) };
        let told = || quorum_changed(&self.sender.host, lost, since, words);
        if self.line.quorum(&self.hook.policy, moment.utc, lost, told) {
            return self.save().await;
        }
        Ok(())
    }

    /// Reads what was learnt since.
    async fn read(&mut self) -> Result<(), Gone> {
        loop {
            self.learnt.borrow_and_update();
            let (store, from, at) = (Arc::clone(&self.store), self.line.position(), now(self.clock).utc);
            let found = tokio::task::spawn_blocking(move || reading::since(&store, from, at)).await;
            let found = match found {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::warn!(hook = self.hook.name, %error, "what was learnt cannot be read for a hook");
                    return Ok(());
                }
                Err(error) => {
                    tracing::error!(hook = self.hook.name, %error, "the reader of what was learnt has ended");
                    return Ok(());
                }
            };
            let news = self.line.learnt(&self.hook.policy, at, found.position, found.occurrences);
            if news || self.line.position() - self.saved >= NOTE_EVERY {
                self.save().await?;
            }
            if !found.more {
                return Ok(());
            }
        }
    }

    /// Writes the queue down. A full disk does not keep anybody from being called: at worst a call is made twice.
    async fn save(&mut self) -> Result<(), Gone> {
        self.board.send_replace(shown(&self.hook, &self.line));
        loop {
            let change = Change::put(Table::Meta, row(&self.hook.name), codec::encode(&self.line));
            let (written, answer) = oneshot::channel();
            self.store.commit(vec![change], move |result| drop(written.send(result)));
            match answer.await {
                Ok(Ok(())) => {
                    self.saved = self.line.position();
                    return Ok(());
                }
                Ok(Err(CommitError::Full)) => return Ok(()),
                Ok(Err(CommitError::Busy { .. })) => tokio::time::sleep(BUSY_WAIT).await,
                Ok(Err(
                    CommitError::Failed { .. }
                    | CommitError::TooLarge { .. }
                    | CommitError::Reserved { .. }
                    | CommitError::Closed,
                ))
                | Err(_) => return Err(Gone),
            }
        }
    }
}
