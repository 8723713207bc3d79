//! Makes answers that have to be read from the store, beside the loop.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::answers::Prepared;
use crate::control::{Answer, Code, Problem};

/// Answers that are read at once; others wait. Each keeps a thread busy and pages of the store from being reused.
const AT_ONCE: usize = 4;

/// The threads that read.
#[derive(Debug)]
pub(super) struct Readers {
    places: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends an answer, at once or when it has been read.
    pub(super) fn answer(
        &self,
        prepared: Result<Prepared, Problem>,
        mut reply: oneshot::Sender<Result<Answer, Problem>>,
    ) {
        let job = match prepared {
            // Who asked may have hung up, here and below.
            Ok(Prepared::Done(answer)) => return drop(reply.send(Ok(*answer))),
            Err(problem) => return drop(reply.send(Err(problem))),
            Ok(Prepared::Job(job)) => job,
        };
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            let place = tokio::select! {
                biased;
                () = reply.closed() => return,
                place = places.acquire_owned() => place,
            };
            let result = tokio::task::spawn_blocking(move || {
                let result = job();
                drop(place);
                result
            });
            let result = result.await.unwrap_or_else(|error| {
                Err(Problem::new(Code::Internal, format_args!("the answer was not made: {error}")))
            });
            drop(reply.send(result));
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_takes_long_holds_up_neither_the_loop_nor_those_that_are_known() {
        let readers = Readers::new();
        let (finish, finished) = mpsc::channel::<()>();
        let job = move || {
            finished.recv().unwrap();
            Ok(Answer::Metrics("slow".to_owned()))
        };
        let (reply, slow) = oneshot::channel();
        readers.answer(Ok(Prepared::Job(Box::new(job))), reply);
        let (reply, known) = oneshot::channel();
        readers.answer(Ok(Prepared::Done(Box::new(Answer::Metrics("known".to_owned())))), reply);
        assert_eq!(known.await.unwrap(), Ok(Answer::Metrics("known".to_owned())));
        finish.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), Ok(Answer::Metrics("slow".to_owned())));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_read_and_a_panic_is_an_answer() {
        let readers = Readers::new();
        let taken = Arc::clone(&readers.places).acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let (reply, gone) = oneshot::channel();
        let (began, begun) = oneshot::channel();
        let job = move || {
            began.send(()).unwrap();
            Ok(Answer::Metrics(String::new()))
        };
        readers.answer(Ok(Prepared::Job(Box::new(job))), reply);
        drop(gone);
        assert!(begun.await.is_err());
        drop(taken);
        let (reply, answer) = oneshot::channel();
        readers.answer(Ok(Prepared::Job(Box::new(|| panic!("a reader's bug")))), reply);
        assert_eq!(answer.await.unwrap().unwrap_err().code, Code::Internal);
    }
}
