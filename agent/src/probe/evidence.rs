//! A probe that reads what another program of the host found out about controls, such as those of a compliance framework.
//!
//! The evidence is a JSON file with a signature beside it, `<file>.sig`, that the host's own key made:
//! `ssh-keygen -Y sign -n muster-evidence -f /etc/ssh/ssh_host_ed25519_key <file>`. Both are read again when either of them
//! was changed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use muster_core::wire::{ProbeMode, ProbeStatus, SubResult};
use muster_signing::{Namespace, OperatorKey, PublicKey, dearmor, verify_document};
use serde::Deserialize;

/// The most that is read of a file of evidence, and of a signature.
const EVIDENCE_BYTES_MAX: u64 = 1024 * 1024;
const SIGNATURE_BYTES_MAX: u64 = 64 * 1024;
/// The most controls of one file: all their results together have to fit into one event.
const CONTROLS_MAX: usize = 128;
/// The longest name of a control, an article or a framework, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest reason of an override, in bytes.
const REASON_BYTES_MAX: usize = 128;
/// How many failing controls are named.
const NAMED_MAX: usize = 5;

/// Where the evidence lies, and how its controls count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Evidence {
    /// The framework that the controls belong to.
    pub framework: String,
    /// The file.
    pub evidence_path: PathBuf,
    /// Controls that count otherwise than enforced.
    #[serde(default)]
    pub control_overrides: BTreeMap<String, Override>,
}

/// How one control counts, and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// How it counts.
    pub mode: ProbeMode,
    /// Why, for who reads the results.
    pub reason: String,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    framework: String,
    controls: Vec<Control>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    id: String,
    status: ProbeStatus,
    article: Option<String>,
}

/// When the two files were last changed; none if that cannot be told.
type Changed = [Option<(SystemTime, u64)>; 2];

/// What was read of the evidence, until it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(Option<(Changed, Result<Report, String>)>);

impl Evidence {
    /// Refuses what cannot be told in an event; the error is why.
    pub fn checked(self) -> Result<Self, String> {
        name("framework", &self.framework)?;
        if !self.evidence_path.is_absolute() {
            return Err(format!("`evidencePath`: {} is not absolute", self.evidence_path.display()));
        }
        if self.control_overrides.len() > CONTROLS_MAX {
            return Err(format!("more than {CONTROLS_MAX} `controlOverrides`"));
        }
        for (id, Override { mode: _, reason }) in &self.control_overrides {
            name("controlOverrides", id)?;
            if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
                return Err(format!("`controlOverrides.{id}.reason` has 1 to {REASON_BYTES_MAX} bytes"));
            }
        }
        Ok(self)
    }

    /// Runs the probe: why it fails, and one result per control.
    pub fn run(&self, key: &PublicKey, memory: &mut Memory) -> (Result<(), String>, Option<Vec<SubResult>>) {
        let paths = [self.evidence_path.clone(), signature_path(&self.evidence_path)];
        let changed = paths.each_ref().map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        });
        let known =
            memory.0.take().filter(|(then, _)| *then == changed && changed.iter().all(Option::is_some));
        let (_, report) = memory.0.insert(known.unwrap_or_else(|| (changed, self.read(&paths, key))));
        match report {
            Ok(report) => {
                let results = self.results(report);
                (self.judge(&results), Some(results))
            }
            Err(reason) => (Err(reason.clone()), None),
        }
    }

    fn read(&self, [path, signature_path]: &[PathBuf; 2], key: &PublicKey) -> Result<Report, String> {
        let bytes = read_bounded(path, EVIDENCE_BYTES_MAX)?;
        let armored = read_bounded(signature_path, SIGNATURE_BYTES_MAX)?;
        let at = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = std::str::from_utf8(&armored).map_err(|error| at(signature_path, &error))?;
        let signature = dearmor(text).map_err(|error| at(signature_path, &error))?;
        let signed = verify_document(Namespace::Evidence, bytes, vec![signature]);
        if signed.count([&OperatorKey::Ed25519(*key)]) != 1 {
            let why = signed.rejected().first().map_or_else(
                || "it is signed by another key than this host's".to_owned(),
                ToString::to_string,
            );
            return Err(at(path, &why));
        }
        let report: Report = serde_json::from_slice(signed.bytes()).map_err(|error| at(path, &error))?;
        self.check(&report).map_err(|why| at(path, &why))?;
        Ok(report)
    }

    fn check(&self, report: &Report) -> Result<(), String> {
        if report.framework != self.framework {
            return Err(format!("it speaks of {:?}, not of {:?}", report.framework, self.framework));
        }
        if report.controls.is_empty() || report.controls.len() > CONTROLS_MAX {
            return Err(format!("{} controls are not 1 to {CONTROLS_MAX}", report.controls.len()));
        }
        let mut ids = std::collections::BTreeSet::new();
        for control in &report.controls {
            name("id", &control.id)?;
            if let Some(article) = &control.article {
                name("article", article)?;
            }
            if !ids.insert(control.id.as_str()) {
                return Err(format!("the control {} comes twice", control.id));
            }
        }
        // Whoever enforces a control by name wants to hear of it.
        let enforced = self.control_overrides.iter().filter(|(_, it)| it.mode == ProbeMode::Enforce);
        match enforced.map(|(id, _)| id).find(|id| !ids.contains(id.as_str())) {
            Some(missing) => Err(format!("it says nothing of the control {missing}")),
            None => Ok(()),
        }
    }

    fn results(&self, report: &Report) -> Vec<SubResult> {
        let result = |control: &Control| {
            let other = self.control_overrides.get(&control.id);
            SubResult {
                control_id: control.id.clone(),
                status: control.status,
                framework: report.framework.clone(),
                article: control.article.clone(),
                effective_mode: other.map_or(ProbeMode::Enforce, |other| other.mode),
                override_reason: other.map(|other| other.reason.clone()),
            }
        };
        report.controls.iter().map(result).collect()
    }

    fn judge(&self, results: &[SubResult]) -> Result<(), String> {
        let fails =
            |it: &&SubResult| it.effective_mode == ProbeMode::Enforce && it.status == ProbeStatus::Fail;
        let failing: Vec<&str> = results.iter().filter(fails).map(|it| it.control_id.as_str()).collect();
        if failing.is_empty() {
            return Ok(());
        }
        let named = failing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = if failing.len() > NAMED_MAX { ", ..." } else { "" };
        Err(format!("{} enforced controls of {} fail: {named}{more}", failing.len(), self.framework))
    }
}

fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    // What is no file may never end, or never begin.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{}: not a file", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > bytes_max) {
        return Err(format!("{}: more than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

fn name(what: &str, value: &str) -> Result<(), String> {
    let good = !value.is_empty() && value.len() <= NAME_BYTES_MAX && !value.chars().any(char::is_control);
    if good {
        Ok(())
    } else {
        Err(format!("`{what}`: {value:?} is not 1 to {NAME_BYTES_MAX} bytes of plain text"))
    }
}

#[cfg(test)]
mod tests;
