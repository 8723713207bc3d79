//! The connection itself: what is too long, too slow, too much or no request at all.

use proptest::prelude::*;

use super::*;
use crate::helper::protocol::{FLEETS_MAX, REQUEST_BYTES_MAX, TEXT_BYTES_MAX};

fn refusal(answer: Answer) -> (String, String) {
    match answer {
        Answer::Refused { rule, reason } => (rule, reason),
        other @ (Answer::Done(_) | Answer::Failed(_)) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_carries_one_request_and_nothing_else() {
    let (bench, story) = (Bench::new(), Story::new());
    let request = story.request().encode();
    let twice = [request.clone(), request.clone()].concat();
    let cut = &request[..request.len() - 1];
    let mut other_version = request.clone();
    let at = request.windows(3).position(|bytes| bytes == [0x61, b'v', 1]).unwrap();
    other_version[at + 2] = 2;
    for (bytes, words) in [
        (twice.as_slice(), "bytes follow it"),
        (&[], "not a valid request"),
        (cut, "not a valid request"),
        (b"GET / HTTP/1.1\r\n\r\n", "not a valid request"),
        (&other_version, "version 2 is not 1"),
    ] {
        let (rule, reason) = refusal(bench.say(bytes).await);
        assert_eq!(rule, "malformed", "{reason}");
        assert!(reason.contains(words), "{words}: {reason}");
    }
    let many = CarryOut {
        order: story.order.clone(),
        papers: Some(Papers { fleets: vec![ByteBuf::new(); FLEETS_MAX + 1], ..story.papers() }),
    };
    let (rule, reason) = refusal(bench.ask(&Request::CarryOut(many)).await);
    assert_eq!((rule.as_str(), reason.contains("at most 128")), ("malformed", true), "{reason}");
    assert!(bench.hands.acts.borrow().is_empty());
    assert_eq!(bench.memory(), Memory::default());
}

#[tokio::test]
async fn a_request_without_an_end_is_not_read_to_it() {
    let bench = Bench::new();
    let (mut daemon, helper) = UnixStream::pair().unwrap();
    let endless = async {
        let chunk = vec![0; 1 << 20];
        let mut sent = 0;
        while daemon.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    };
    let mut door = bench.door.clone();
    door.talk_time = Duration::from_secs(60);
    let (sent, ()) = tokio::join!(endless, door.serve(helper, &bench.hands));
    assert!(sent < REQUEST_BYTES_MAX + (4 << 20), "{sent} bytes were taken");
    assert!(bench.hands.acts.borrow().is_empty());
}

#[tokio::test]
async fn a_caller_who_takes_its_time_is_not_waited_for() {
    let (bench, story) = (Bench::new(), Story::new());
    let request = story.request().encode();
    let (mut daemon, helper) = UnixStream::pair().unwrap();
    // All of it, but not its end.
    let slow = async {
        daemon.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        daemon.read_to_end(&mut answer).await.unwrap();
        Answer::decode(&answer).unwrap()
    };
    let (answer, ()) = tokio::join!(slow, bench.door.serve(helper, &bench.hands));
    let (rule, reason) = refusal(answer);
    assert_eq!((rule.as_str(), reason.as_str()), ("slow", "the request did not end within 0.3 s"));
    assert!(bench.hands.acts.borrow().is_empty());
}

#[tokio::test]
async fn a_stranger_is_not_heard() {
    let (mut bench, story) = (Bench::new(), Story::new());
    if nix::unistd::geteuid().is_root() {
        // Whoever runs the test is root, who is always heard; who else is has a table of its own.
        return;
    }
    bench.door.allowed = Allowed::default();
    assert_eq!(refusal(bench.ask(&story.request()).await).0, "stranger");
}

#[test]
fn long_words_are_cut_before_they_are_sent() {
    let answer = Answer::Failed("é".repeat(TEXT_BYTES_MAX));
    let Ok(Answer::Failed(text)) = Answer::decode(&answer.encode()) else { panic!("no answer") };
    assert_eq!(text.len(), TEXT_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Request::decode(&bytes);
        let _ = Answer::decode(&bytes);
        let _ = Memory::decode(&bytes);
    }

    #[test]
    fn a_request_with_a_byte_changed_is_refused_or_judged(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), cuts in any::<bool>()
    ) {
        let story = Story::new();
        let mut bytes = story.request().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(Request::CarryOut(asked)) = Request::decode(&bytes) {
            let trust = json!({
                "fleet": FLEET, "operators": { "a": line_of("alice"), "b": line_of("bob") }, "threshold": 2,
            });
            let site = crate::helper::authorize::Site {
                host: HOST.parse().unwrap(),
                trust: muster_core::document::Trust::parse(trust.to_string().as_bytes()).unwrap(),
                running: None,
            };
            let judged = crate::helper::authorize::authorize(&asked, &site, &Memory::default(), story.now);
            // What passes is what was signed, whatever else the change did.
            if let Ok(authorized) = judged
                && !matches!(asked.order, Order::Reset(_))
            {
                let act = authorized.remembered(|_| Ok::<(), ()>(())).unwrap();
                match act.order() {
                    Order::Switch { to, dispatch, .. } | Order::Boot { to, dispatch, .. } => {
                        assert_eq!((to, dispatch), (&system(TARGET), &story.dispatch()));
                    }
                    Order::RollBack { .. } | Order::Reset(_) => panic!("{:?}", act.order()),
                }
            }
        }
    }
}
