//! What a system's whole closure holds, as one digest that operators can sign.

use std::time::Duration;

use muster_core::id::Closure;
use muster_signing::{Digest, sha256};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::machine::{Machine, ProgramFailed};

/// How long Nix may take to tell of a whole closure.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
/// The most that is read of what it tells.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why the contents of a system are not known, or are not those that were signed.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// Nix does not tell.
    #[error(transparent)]
    Program(#[from] ProgramFailed),
    /// Nix tells it in a way that is not understood.
    #[error("what nix path-info says of {closure} is not understood: {message}")]
    Form {
        /// The system.
        closure: Closure,
        /// What is wrong.
        message: String,
    },
    /// The contents are others.
    #[error("the contents of {closure} are {found}, but the operators signed {signed}")]
    Other {
        /// The system.
        closure: Closure,
        /// What is there.
        found: Digest,
        /// What was signed.
        signed: Digest,
    },
}

/// One path as Nix tells of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    path: Option<String>,
    nar_hash: Option<NarHash>,
}

/// A hash in one string, or taken apart.
#[derive(Deserialize)]
#[serde(untagged)]
enum NarHash {
    Text(String),
    Parts { algorithm: String, hash: String },
}

impl Machine {
    /// SHA-256 over the sorted lines `<path> <narHash>`, each ended by a newline, of a system's whole closure.
    pub async fn contents(&self, closure: &Closure) -> Result<Digest, ContentsError> {
        let args = [
            "--extra-experimental-features",
            "nix-command",
            "path-info",
            "--recursive",
            "--json",
            "--",
            closure.as_str(),
        ];
        let answer = self.run(&self.programs.nix, &args, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await?;
        digest(&answer).map_err(|message| ContentsError::Form { closure: closure.clone(), message })
    }

    /// Refuses a system whose contents are not those that were signed.
    pub async fn check_contents(&self, closure: &Closure, signed: Digest) -> Result<(), ContentsError> {
        let found = self.contents(closure).await?;
        if found == signed {
            return Ok(());
        }
        Err(ContentsError::Other { closure: closure.clone(), found, signed })
    }
}

/// Reads both shapes of the answer: a list of objects that name their path, and since Nix 2.19 an object by path.
fn digest(answer: &[u8]) -> Result<Digest, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let infos: Vec<(Option<String>, Value)> = match answer {
        Value::Array(list) => list.into_iter().map(|info| (None, info)).collect(),
        Value::Object(mut map) => {
            // The newest shape wraps the object in one that names its version.
            let inner = match map.remove("info") {
                Some(Value::Object(inner)) => inner,
                Some(other) => Map::from_iter([("info".to_owned(), other)]),
                None => map,
            };
            inner.into_iter().map(|(path, info)| (Some(path), info)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err("neither a list nor an object".to_owned());
        }
    };
    let mut lines = infos.into_iter().map(line).collect::<Result<Vec<String>, String>>()?;
    if lines.is_empty() {
        return Err("no path at all".to_owned());
    }
    lines.sort();
    Ok(sha256(lines.concat().as_bytes()))
}

fn line((path, info): (Option<String>, Value)) -> Result<String, String> {
    let info: Info = serde_json::from_value(info).map_err(|error| error.to_string())?;
    let path = path.or(info.path).ok_or("a path without a name")?;
    let path = if path.starts_with('/') { path } else { format!("/nix/store/{path}") };
    let hash = match info.nar_hash.ok_or_else(|| format!("{path} has no narHash, so it is not valid"))? {
        NarHash::Text(text) => text,
        NarHash::Parts { algorithm, hash } if hash.starts_with(&format!("{algorithm}-")) => hash,
        NarHash::Parts { algorithm, hash } => format!("{algorithm}-{hash}"),
    };
    Ok(format!("{path} {hash}\n"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::activation::nixos::testing::Bench;

    #[test]
    fn every_shape_of_the_answer_gives_the_same_digest() {
        let expected = sha256(b"/nix/store/a sha256-AA==\n/nix/store/b sha256-BB==\n");
        for answer in [
            r#"[{"path":"/nix/store/b","narHash":"sha256-BB==","narSize":1},{"path":"/nix/store/a","narHash":"sha256-AA=="}]"#,
            r#"{"/nix/store/b":{"narHash":"sha256-BB=="},"/nix/store/a":{"narHash":"sha256-AA==","references":[]}}"#,
            r#"{"version":2,"info":{"b":{"narHash":{"algorithm":"sha256","format":"base64","hash":"BB=="}},
                "a":{"narHash":"sha256-AA=="}}}"#,
        ] {
            assert_eq!(digest(answer.as_bytes()).unwrap(), expected, "{answer}");
        }
    }

    #[test]
    fn an_answer_that_is_not_understood_is_no_contents() {
        for (answer, problem) in [
            ("", "EOF"),
            ("7", "neither"),
            ("[]", "no path"),
            ("{}", "no path"),
            (r#"[{"narHash":"sha256-AA=="}]"#, "without a name"),
            (r#"{"/nix/store/a":null}"#, "invalid type"),
            (r#"[{"path":"/nix/store/a","valid":false}]"#, "no narHash"),
        ] {
            let error = digest(answer.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn other_contents_than_the_signed_ones_are_refused_with_both_digests() {
        let bench = Bench::new();
        let system = bench.system("one", &[]);
        let info = format!("{}.info", bench.machine.real(system.as_str()).display());
        std::fs::write(info, format!(r#"[{{"path":"{system}","narHash":"sha256-AA=="}}]"#)).unwrap();
        let signed = sha256(format!("{system} sha256-AA==\n").as_bytes());
        bench.machine.check_contents(&system, signed).await.unwrap();
        let other = sha256(b"other");
        let error = bench.machine.check_contents(&system, other).await.unwrap_err().to_string();
        assert_eq!(error, format!("the contents of {system} are {signed}, but the operators signed {other}"));
    }
}
