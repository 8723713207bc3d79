//! Hooks that are refused, and what a program and a server are told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chrono::DateTime;
use data_encoding::BASE64;
use muster_core::hook::Occurrence;
use muster_signing::{Namespace, OperatorKey, SigningKey, verify_document};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::message::Sender;
use super::*;
use crate::http_client::testing::Authority;

fn read(toml: &str) -> Result<Hook, String> {
    toml::from_str::<RawHook>(toml).map_err(|error| error.to_string())?.complete()
}

#[test]
fn a_hook_is_read_with_its_defaults_and_all_means_every_event() {
    let hook = read("name = \"pager\"\nevents = [\"all\"]\ncommand = [\"/bin/page\", \"-v\"]").unwrap();
    assert_eq!(hook.policy, Policy { events: Event::ALL.into(), tries: 20 });
    assert_eq!(hook.timeout, Duration::from_secs(30));
    assert_eq!(hook.calls, Calls::Command(vec!["/bin/page".to_owned(), "-v".to_owned()]));
    let text = "name = \"w\"\nevents = [\"quarantined\"]\nurl = \"https://x/secret?key=1\"\ntimeout_seconds = 5\ntries = 2";
    let hook = read(text).unwrap();
    assert_eq!(hook.policy, Policy { events: [Event::Quarantined].into(), tries: 2 });
    assert_eq!((hook.place().as_str(), hook.timeout), ("https://x", Duration::from_secs(5)));
}

#[test]
fn what_cannot_be_called_is_refused_with_the_rule() {
    let events = "events = [\"all\"]";
    let command = "command = [\"/x\"]";
    for (text, problem) in [
        (format!("name = \"A\"\n{events}\n{command}"), "1 to 32 of a-z"),
        (format!("name = \"\"\n{events}\n{command}"), "1 to 32 of a-z"),
        (format!("name = \"a\"\nevents = []\n{command}"), "events is empty; there are all, rollout-opened, "),
        (
            format!("name = \"a\"\nevents = [\"boom\"]\n{command}"),
            "no event is called \"boom\"; there are rollout-opened",
        ),
        (format!("name = \"a\"\nevents = [\"all\", \"quarantined\"]\n{command}"), "or all alone"),
        (format!("name = \"a\"\nevents = [\"test\"]\n{command}"), "no event is called \"test\""),
        (format!("name = \"a\"\n{events}"), "either a command or a url"),
        (format!("name = \"a\"\n{events}\n{command}\nurl = \"http://x\""), "either a command or a url"),
        (format!("name = \"a\"\n{events}\ncommand = []"), "command is empty"),
        (format!("name = \"a\"\n{events}\ncommand = [\"page\"]"), "not the whole path"),
        (format!("name = \"a\"\n{events}\n{command}\nca_file = \"/x\""), "ca_file is for an https url"),
        (format!("name = \"a\"\n{events}\nurl = \"http://x\"\nca_file = \"/x\""), "is for an https URL"),
        (format!("name = \"a\"\n{events}\nurl = \"ftp://x\""), "begins with http:// or https://"),
        (format!("name = \"a\"\n{events}\nurl = \"/x\""), "begins with http:// or https://"),
        (format!("name = \"a\"\n{events}\nurl = \"http://me:secret@x\""), "not supported"),
        (format!("name = \"a\"\n{events}\n{command}\ntries = 0"), "tries = 0 is not in 1 to 100"),
        (format!("name = \"a\"\n{events}\n{command}\ntimeout_seconds = 301"), "is not in 1 to 300"),
        (format!("name = \"a\"\n{events}\n{command}\nretries = 1"), "unknown field"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(problem), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

fn sender() -> Sender {
    Sender {
        fleet: "home".parse().unwrap(),
        host: "alpha".parse().unwrap(),
        key: SigningKey::from_seed([3; 32]),
    }
}

fn message() -> Message {
    sender().message(&Occurrence {
        id: "host-failed:event:beta:7:2".to_owned(),
        event: Event::HostFailed,
        at: DateTime::from_timestamp(1_795_000_000, 0).unwrap(),
        rollout: Some("stable@v2".parse().unwrap()),
        host: Some("beta".parse().unwrap()),
        closure: Some("dir:v2".parse().unwrap()),
        reason: Some("ready failed for 3 s".to_owned()),
    })
}

const BODY: &str = r#"{"schema":1,"id":"host-failed:event:beta:7:2","fleet":"home","sender":"alpha","event":"host-failed","at":"2026-11-18T11:06:40Z","rollout":"stable@v2","host":"beta","closure":"dir:v2","reason":"ready failed for 3 s"}"#;

#[test]
fn a_message_is_json_signed_by_the_host_in_a_namespace_of_its_own() {
    let message = message();
    assert_eq!(String::from_utf8(message.body.clone()).unwrap(), BODY);
    let signature = BASE64.decode(message.signature.as_bytes()).unwrap();
    let signed = |namespace| {
        let document = verify_document(namespace, message.body.clone(), vec![signature.clone()]);
        document.signers().contains(&OperatorKey::Ed25519(sender().key.public()))
    };
    assert!(signed(Namespace::Hook) && !signed(Namespace::Command));
}

fn command(script: &str, timeout_secs: u64) -> Hook {
    let words = ["/bin/sh", "-c", script].map(str::to_owned);
    hook(Calls::Command(words.to_vec()), timeout_secs)
}

fn hook(calls: Calls, timeout_secs: u64) -> Hook {
    let policy = Policy { events: Event::ALL.into(), tries: 1 };
    Hook { name: "a".to_owned(), policy, calls, timeout: Duration::from_secs(timeout_secs) }
}

#[tokio::test]
async fn a_program_reads_the_message_and_finds_the_signature_and_little_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let script = format!("cat > {out}; env | sed 's/=.*//' | sort >> {out}", out = out.display());
    assert_eq!(command(&script, 60).call(&message()).await, Ok(()));
    let found = std::fs::read_to_string(out).unwrap();
    let names: Vec<&str> = found.strip_prefix(BODY).unwrap().lines().collect();
    // The shell itself adds the others.
    assert!(names.contains(&SIGNATURE_VARIABLE) && names.contains(&"PATH"), "{names:?}");
    let known = [SIGNATURE_VARIABLE, "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
}

#[tokio::test]
async fn a_program_that_fails_or_does_not_end_says_why_in_a_few_words() {
    for (script, secs, expected) in [
        ("exit 3", 60, Err("/bin/sh: exit code 3")),
        ("echo no route >&2; exit 1", 60, Err("/bin/sh: exit code 1: no route")),
        ("kill -9 $$", 60, Err("/bin/sh: ended by signal 9")),
        ("sleep 1000 & wait", 1, Err("/bin/sh: killed after 1 s")),
        ("exec 0<&-; exit 0", 60, Ok(())),
    ] {
        let result = command(script, secs).call(&message()).await;
        assert_eq!(result, expected.map_err(str::to_owned), "{script}");
    }
    let gone = hook(Calls::Command(vec!["/nowhere/x".to_owned()]), 60).call(&message()).await;
    assert_eq!(gone, Err("/nowhere/x: No such file or directory (os error 2)".to_owned()));
}

/// Takes one request and gives it this answer.
async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, answer: &str) -> String {
    let mut asked = Vec::new();
    while !asked.ends_with(BODY.as_bytes()) {
        asked.push(stream.read_u8().await.unwrap());
    }
    // Whoever has heard enough hangs up.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    String::from_utf8(asked).unwrap()
}

async fn post(answer: &str) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let web = Web::new(&format!("{place}/hooks/secret?key=1"), None).unwrap();
    let hook = hook(Calls::Web(web), 60);
    let message = message();
    let (result, asked) = tokio::join!(hook.call(&message), async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, answer).await
    });
    (result.map_err(|reason| reason.replace(&place, "PLACE")), asked)
}

#[tokio::test]
async fn a_server_is_posted_the_message_and_its_status_decides() {
    let (result, asked) = post("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(result, Ok(()));
    assert!(asked.starts_with("POST /hooks/secret?key=1 HTTP/1.1\r\n"), "{asked}");
    for header in ["content-type: application/json", "muster-event: host-failed"] {
        assert!(asked.contains(&format!("\r\n{header}\r\n")), "{asked}");
    }
    assert!(asked.contains(&format!("\r\nmuster-signature: {}\r\n", message().signature)), "{asked}");
    for (answer, reason) in [
        (
            "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\n\r\n",
            "PLACE: status 301; redirects are not followed",
        ),
        ("HTTP/1.1 503 x\r\n\r\n", "PLACE: status 503 Service Unavailable"),
        ("HTTP/1.1 799 x\r\n\r\n", "PLACE: status 799"),
    ] {
        assert_eq!(post(answer).await.0, Err(reason.to_owned()));
    }
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let reason = post(&endless).await.0.unwrap_err();
    assert!(reason.starts_with("PLACE: "), "{reason}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_at_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let web = Web::new(&place, None).unwrap();
    let result = hook(Calls::Web(web), 1).call(&message()).await;
    assert_eq!(result, Err(format!("{place}: no answer within 1 s")));
}

/// Posts to a server with a certificate of an authority that is believed, or of another one.
async fn post_securely(believed: bool) -> Result<(), String> {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = if believed { &authority } else { &other }.file(folder.path());
    let acceptor = authority.acceptor("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = Web::new(&format!("https://localhost:{port}/x"), Some(ca)).unwrap();
    let (hook, message) = (hook(Calls::Web(web), 60), message());
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not believe the certificate hangs up.
        if let Ok(stream) = acceptor.accept(stream).await {
            serve(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    };
    tokio::join!(hook.call(&message), served).0
}

#[tokio::test]
async fn a_certificate_must_lead_to_an_authority_that_is_believed() {
    assert_eq!(post_securely(true).await, Ok(()));
    let reason = post_securely(false).await.unwrap_err();
    assert!(reason.contains("certificate"), "{reason}");
}
