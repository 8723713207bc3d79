//! A network daemon that was taken over: a program in its place speaks to the privileged helper, with all that it may hold.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use ciborium::Value as Cbor;
use muster_core::coordination;
use muster_core::document::Fleet;
use muster_core::wire::{DECISION_VERSION, Decision, DecisionBody, codec};
use muster_signing::{DocumentParts, Namespace, SigningKey, assemble, sha256, sign_decision, sign_document};
use muster_tests::machine::{Machine, Site, System, can_run_machines};
use serde_json::json;

use super::assert_settled_on;

/// Sends a request, shows the answer in hexadecimal.
const SPEAK: &str = r#"use IO::Socket::UNIX;
my $door = IO::Socket::UNIX->new(Peer => "/run/muster-activate/activate.sock") or die "no door: $!";
open(my $file, "<:raw", "/run/request") or die; local $/; my $request = <$file>;
print $door $request; $door->flush; shutdown($door, 1);
my $answer = <$door>; print unpack("H*", $answer);"#;
/// The serial of refs that no operator of the site has used.
const SERIAL: u64 = 77;
/// The index of log entries that the site's own log does not reach here.
const LOG_INDEX: u64 = 900;

/// What the attacker shows and asks for; honest until a test changes it.
#[derive(Clone)]
struct Lie {
    /// Who signs the ref.
    signs_ref: SigningKey,
    /// Whose dispatch it is, and to what.
    dispatched: (String, String),
    /// What is asked for.
    asked: String,
    /// Which coordinators sign the dispatch.
    coordinators: Vec<SigningKey>,
    with_papers: bool,
}

struct Attacker<'a> {
    site: &'a Site,
    victim: &'a Machine,
}

impl Attacker<'_> {
    /// What the operators signed and a quorum agreed to.
    fn truth(&self) -> Lie {
        let keys = self.site.machines.iter().take(2).map(|machine| machine.key.clone());
        Lie {
            signs_ref: self.site.operator.key.clone(),
            dispatched: (self.victim.name.clone(), self.site.path("v1").to_owned()),
            asked: self.site.path("v1").to_owned(),
            coordinators: keys.collect(),
            with_papers: true,
        }
    }

    fn papers(&self, lie: &Lie) -> Cbor {
        let (fleet, site) = (self.site.document.to_string().into_bytes(), self.site);
        let signed = |key: &SigningKey, namespace, bytes: &[u8]| {
            let signatures = vec![sign_document(key, namespace, bytes)];
            Cbor::Bytes(DocumentParts { bytes: bytes.to_vec(), signatures }.to_wire())
        };
        let channel_ref = json!({
            "kind": "muster/channel-ref/1", "fleet": "home", "channel": "stable", "ref": "r77", "serial": SERIAL,
            "signedAt": site.document["signedAt"], "fleetSerial": 1, "fleetHash": sha256(&fleet).to_string(),
            "targets": { "node-1": site.path("v1"), "node-2": site.path("v2") },
        });
        let certificate = self.certificate(lie, &fleet);
        map([
            ("fleets", Cbor::Array(vec![signed(&site.operator.key, Namespace::Fleet, &fleet)])),
            (
                "channel_ref",
                signed(&lie.signs_ref, Namespace::ChannelRef, channel_ref.to_string().as_bytes()),
            ),
            ("certificate", Cbor::Bytes(certificate)),
        ])
    }

    fn certificate(&self, lie: &Lie, fleet: &[u8]) -> Vec<u8> {
        let (host, target) = &lie.dispatched;
        let name = "home".parse().unwrap();
        let now: DateTime<Utc> = Utc::now();
        let decision = Decision {
            v: DECISION_VERSION,
            epoch: coordination::epoch(&name, &Fleet::parse(fleet).unwrap(), 0),
            fleet: name,
            fleet_serial: 1,
            log_index: LOG_INDEX,
            ordinal: 0,
            body: DecisionBody::Dispatch {
                host: host.parse().unwrap(),
                rollout_id: "stable@r77".parse().unwrap(),
                target_closure: target.parse().unwrap(),
                wave: 0,
                soak_due_at: now,
                soak_secs: 0,
                not_after: now + TimeDelta::minutes(5),
            },
        };
        let payload = codec::encode(&decision);
        let sign = |key: &SigningKey| (key.public(), sign_decision(key, "home", &payload));
        assemble(&payload, &lie.coordinators.iter().map(sign).collect::<BTreeMap<_, _>>())
    }

    /// Asks for a switch; gives the helper's answer.
    fn ask(&self, lie: &Lie) -> String {
        let switch =
            map([("dispatch", self.dispatch()), ("to", text(&lie.asked)), ("timeout_secs", Cbor::from(60))]);
        let papers = if lie.with_papers { self.papers(lie) } else { Cbor::Null };
        self.carry_out(map([("switch", switch)]), papers)
    }

    fn dispatch(&self) -> Cbor {
        map([("rollout", text("stable@r77")), ("log_index", Cbor::from(LOG_INDEX))])
    }

    fn carry_out(&self, order: Cbor, papers: Cbor) -> String {
        let what = map([("carry_out", map([("order", order), ("papers", papers)]))]);
        let request = codec::encode(&map([("v", Cbor::from(1)), ("what", what)]));
        fs::write(self.victim.path("/run/request"), request).unwrap();
        let answer = self.run_as_agent(&["perl", "-e", SPEAK]).expect("the helper answers");
        let bytes = data_encoding::HEXLOWER.decode(answer.as_bytes()).unwrap();
        let answer: Cbor = ciborium::from_reader(&bytes[..]).unwrap();
        format!("{answer:?}")
    }

    /// Runs a program with all rights that the agent has; gives what it wrote if it exits with 0.
    fn run_as_agent(&self, program: &[&str]) -> Option<String> {
        let rights = ["setpriv", "--reuid", "muster", "--regid", "muster", "--groups", "muster-agent"];
        let output = self.victim.command(&[&rights, program].concat()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

fn text(text: &str) -> Cbor {
    Cbor::Text(text.to_owned())
}

fn map<const N: usize>(entries: [(&str, Cbor); N]) -> Cbor {
    Cbor::Map(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

#[test]
fn a_daemon_that_was_taken_over_activates_nothing_unsigned_early_or_for_another_host() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(3).launch(&[System::new("v1"), System::new("v2")]);
    let victim = &site.machines[0];
    for system in ["v1", "v2"] {
        victim.run(["nix-store", "--realise", site.path(system)]).ok();
    }
    victim.run(["systemctl", "stop", "muster.service"]).ok();
    let attacker = Attacker { site: &site, victim };
    let truth = attacker.truth();

    let v1 = site.path("v1");
    for attempt in [
        &["nix-env", "--profile", "/nix/var/nix/profiles/system", "--set", v1][..],
        &["systemd-run", "--no-ask-password", &format!("{v1}/bin/switch-to-configuration"), "switch"],
        &["ln", "-sfn", v1, "/boot/default"],
        &["cat", "/etc/ssh/ssh_host_ed25519_key"],
    ] {
        assert_eq!(attacker.run_as_agent(attempt), None, "{attempt:?}");
    }

    let stranger = muster_tests::fresh_key();
    let (own, v2) = (vec![victim.key.clone()], site.path("v2").to_owned());
    let lies = [
        ("no-papers", Lie { with_papers: false, ..truth.clone() }),
        ("channel-ref", Lie { signs_ref: stranger, ..truth.clone() }),
        ("certificate", Lie { coordinators: own, ..truth.clone() }),
        ("other-host", Lie { dispatched: ("node-2".to_owned(), v2.clone()), ..truth.clone() }),
        ("other-order", Lie { asked: v2.clone(), ..truth.clone() }),
        ("forbidden", Lie { dispatched: (victim.name.clone(), v2.clone()), asked: v2, ..truth.clone() }),
    ];
    for (rule, lie) in lies {
        let answer = attacker.ask(&lie);
        assert!(answer.contains("refused") && answer.contains(rule), "{rule}: {answer}");
    }
    let back = map([
        ("dispatch", attacker.dispatch()),
        ("to", text(v1)),
        ("timeout_secs", Cbor::from(60)),
        ("live", Cbor::Bool(true)),
    ]);
    let answer = attacker.carry_out(map([("roll_back", back)]), Cbor::Null);
    assert!(answer.contains("nothing-to-roll-back"), "{answer}");
    assert_settled_on(&site, victim, "v0");
    assert_eq!(victim.switches(), [""; 0]);

    // The same words are believed when they are true, and once.
    let answer = attacker.ask(&truth);
    assert!(answer.contains("done"), "{answer}");
    site.wait_for_system(victim, "v1");
    let answer = attacker.ask(&truth);
    assert!(answer.contains("used"), "{answer}");
    assert_eq!(victim.times("began", "switch", v1), 1);
}
