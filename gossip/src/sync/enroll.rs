//! What a node without a fleet document does: it asks for the fleet documents, and for nothing else.

use super::frame::{EnrollRequest, decode_enroll_answer, encode};
use super::pull::{Appended, Asker, Protocol, PullError, append, deliver};
use crate::event::{Event, Item};
use crate::identity::HostKey;
use crate::queue::Sender;

/// Fetches all fleet documents of a peer and hands them to the node, then says that it is done.
pub(crate) async fn run(from: HostKey, mut asker: Asker, events: Sender<Event>) -> Result<(), PullError> {
    let result = fetch(from, &mut asker, &events).await;
    let end = Event::Synced { from, items: Vec::new(), complete: result.is_ok() };
    events.send(end, 0).await;
    result
}

async fn fetch(from: HostKey, asker: &mut Asker, events: &Sender<Event>) -> Result<(), PullError> {
    let (mut index, mut document) = (0, Vec::new());
    loop {
        let request = EnrollRequest { index, offset: document.len() as u64 };
        let answer = asker.ask(Protocol::Enroll, encode(&request)).await?;
        let answer = decode_enroll_answer(&answer)?;
        match append(&mut document, answer.total, &answer.bytes)? {
            Appended::Part => continue,
            Appended::Nothing => {}
            Appended::Whole => {
                deliver(events, from, vec![Item::Document(std::mem::take(&mut document))]).await?;
            }
        }
        index += 1;
        if index >= answer.count {
            return Ok(());
        }
    }
}
