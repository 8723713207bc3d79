//! A queue bounded in items and in bytes; what does not fit is refused or waited for, never stored.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The sending half; clones share the queue.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    filled: Notify,
    emptied: Notify,
    items_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

/// Makes a queue of at most `items_max` items of together at most `bytes_max` bytes.
pub(crate) fn queue<T>(items_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { items: VecDeque::new(), bytes: 0, closed: false });
    let shared =
        Arc::new(Shared { state, filled: Notify::new(), emptied: Notify::new(), items_max, bytes_max });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Adds an item, or hands it back when the queue is full or nobody reads it any more.
    pub(crate) fn offer(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut state = self.shared.state();
        let full = state.items.len() >= self.shared.items_max
            || (state.bytes.saturating_add(bytes) > self.shared.bytes_max && !state.items.is_empty());
        if full || state.closed {
            return Err(item);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Adds an item even if the queue is full, in exchange for the oldest one that `expendable` names.
    ///
    /// For the few items without which the reader would be wrong for good.
    pub(crate) fn force(&self, item: T, expendable: impl Fn(&T) -> bool) {
        let mut state = self.shared.state();
        if state.closed {
            return;
        }
        if state.items.len() >= self.shared.items_max {
            let oldest = state.items.iter().position(|(item, _)| expendable(item)).unwrap_or(0);
            if let Some((_, bytes)) = state.items.remove(oldest) {
                state.bytes -= bytes;
            }
        }
        state.items.push_back((item, 0));
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Adds an item as soon as there is room; false when nobody reads the queue any more.
    pub(crate) async fn send(&self, item: T, bytes: usize) -> bool {
        let mut item = item;
        loop {
            let emptied = self.shared.emptied.notified();
            match self.offer(item, bytes) {
                Ok(()) => return true,
                Err(_) if self.is_closed() => return false,
                Err(back) => item = back,
            }
            emptied.await;
        }
    }

    /// Lets the reader end once it has read what is there.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    fn is_closed(&self) -> bool {
        self.shared.state().closed
    }
}

impl<T> Shared<T> {
    fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest item, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let mut state = self.shared.state();
        let (item, bytes) = state.items.pop_front()?;
        state.bytes -= bytes;
        drop(state);
        self.shared.emptied.notify_waiters();
        Some(item)
    }

    /// Waits for the next item; none once the queue is closed and empty. Safe to cancel.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.try_recv() {
                return Some(item);
            }
            if self.shared.state().closed {
                return None;
            }
            self.shared.filled.notified().await;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_hands_the_item_back() {
        let (sender, mut receiver) = queue(2, 10);
        assert_eq!(sender.offer('a', 6), Ok(()));
        assert_eq!(sender.offer('b', 6), Err('b'), "too many bytes");
        assert_eq!(sender.offer('c', 4), Ok(()));
        assert_eq!(sender.offer('d', 0), Err('d'), "too many items");
        sender.force('e', |item| *item == 'c');
        assert_eq!([receiver.try_recv(), receiver.try_recv()], [Some('a'), Some('e')]);
    }

    #[tokio::test]
    async fn sender_waits_for_room_and_reader_sees_the_end() {
        let (sender, mut receiver) = queue(1, 10);
        assert!(sender.send(1, 1).await);
        let second = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(2, 1).await }
        });
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(1), Some(2)));
        assert!(matches!(second.await, Ok(true)));
        sender.close();
        assert_eq!(receiver.recv().await, None);
    }
}
