//! Following the events: nothing twice, nothing left out.

use super::*;

/// A loop that knows as many events as the position says.
fn growing(known: watch::Receiver<u64>) -> impl Fn(&Request) -> Option<Result<Answer, Problem>> {
    move |request| {
        let Ask::Query(Query::Events(filter)) = &request.ask else { return stub(request) };
        let last = *known.borrow();
        let limit = u64::from(filter.limit);
        let first = filter.after.map_or(last.saturating_sub(limit), |after| after) + 1;
        let events = (first..=last).take(filter.limit as usize).map(fixtures::event).collect();
        Some(Ok(Answer::Events(wire::Events { schema: SCHEMA, events })))
    }
}

#[test]
fn a_follower_gets_every_event_once_and_in_order() {
    let (known, watched) = watch::channel(5);
    check(Limits::default(), growing(watched), async |bench| {
        for (route, first) in [
            ("/v1/events?follow=1", 1),
            ("/v1/events?follow=1&limit=2", 4),
            ("/v1/events?follow=true&after=1&limit=2", 2),
        ] {
            known.send_replace(5);
            bench.position.send_replace(5);
            let mut stream = bench.client.follow(route).await.unwrap();
            for expected in first..=5 {
                assert_eq!(stream.next().await.unwrap().unwrap().position, expected, "{route}");
            }
            for burst in [6, 8, 2500] {
                let before = known.send_replace(burst);
                bench.position.send_replace(burst);
                for expected in before + 1..=burst {
                    assert_eq!(stream.next().await.unwrap().unwrap(), fixtures::event(expected));
                }
            }
        }
    });
}

/// A loop that knows the events from position 0 up to a number of them, answers as the daemon's does and counts.
fn remembering(
    known: watch::Receiver<u64>,
    answered: watch::Sender<u64>,
) -> impl Fn(&Request) -> Option<Result<Answer, Problem>> {
    move |request| {
        let Ask::Query(Query::Events(filter)) = &request.ask else { return stub(request) };
        let limit = filter.limit as usize;
        let fits = |event: &wire::Event| {
            filter.since.is_none_or(|since| event.at >= since)
                && filter.after.is_none_or(|after| event.position > after)
        };
        let fitting: Vec<_> = (0..*known.borrow()).map(fixtures::event).filter(fits).collect();
        let oldest_first = filter.after.is_some() || filter.since.is_some();
        let skipped = if oldest_first { 0 } else { fitting.len().saturating_sub(limit) };
        let events = fitting.into_iter().skip(skipped).take(limit).collect();
        answered.send_modify(|count| *count += 1);
        Some(Ok(Answer::Events(wire::Events { schema: SCHEMA, events })))
    }
}

#[test]
fn a_follower_gets_all_since_a_time_and_the_very_first_event() {
    for (before, route, first) in [
        (0, "/v1/events?follow=1", 0),
        (0, "/v1/events?follow=1&limit=1", 0),
        (0, "/v1/events?follow=1&since=SINCE", 3),
        (1, "/v1/events?follow=1", 0),
        (9, "/v1/events?follow=1&limit=2", 7),
        (9, "/v1/events?follow=1&since=SINCE&limit=2", 3),
        (9, "/v1/events?follow=1&since=SINCE&after=4&limit=2", 5),
    ] {
        let (known, watched) = watch::channel(before);
        let (answered, answers) = watch::channel(0);
        check(Limits::default(), remembering(watched, answered), async |bench| {
            let since = fixtures::at(3).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            let mut stream = bench.client.follow(&route.replace("SINCE", &encoded(&since))).await.unwrap();
            for expected in first..before {
                assert_eq!(stream.next().await.unwrap().unwrap().position, expected, "{route}");
            }
            answers.clone().wait_for(|count| *count > 0).await.unwrap();
            known.send_replace(before + 12);
            bench.position.send_replace(before + 12);
            for expected in first.max(before)..before + 12 {
                assert_eq!(stream.next().await.unwrap().unwrap().position, expected, "{route}");
            }
        });
    }
}

#[test]
fn a_follower_misses_nothing_that_reaches_the_disk_after_it_was_woken() {
    let (known, watched) = watch::channel(1);
    check(Limits::default(), growing(watched), async |bench| {
        let mut stream = bench.client.follow("/v1/events?follow=1").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().position, 1);
        bench.position.send_replace(9);
        // Long enough for the follower to have asked: questions are answered in their order.
        bench.client.get("/v1/status").await.unwrap();
        known.send_replace(2);
        assert_eq!(stream.next().await.unwrap().unwrap().position, 2);
    });
}

#[test]
fn a_follower_that_comes_back_goes_on_where_it_was() {
    let (_known, watched) = watch::channel(5);
    check(Limits::default(), growing(watched), async |bench| {
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        let request = "GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 4\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("\n\n") {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert!(text.contains("content-type: text/event-stream") && text.contains("id: 5\n"), "{text}");
        assert!(!text.contains("id: 4\n"), "{text}");
    });
}
