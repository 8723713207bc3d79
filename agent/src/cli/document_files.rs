//! A signed document as files: `stable.json`, and beside it `stable.json.sig` and `stable.json.<operator>.sig`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use muster_core::id::OperatorName;
use muster_signing::{DOCUMENT_BYTES_MAX, SIGNATURES_MAX, SignatureError, armor, dearmor};

use super::Failure;

/// The most that is read of a signature's file.
const SIGNATURE_FILE_BYTES_MAX: usize = 16 * 1024;

/// A document and the signatures found beside it, none of them verified yet.
#[derive(Debug, Clone)]
pub struct DocumentFiles {
    /// The document's bytes.
    pub bytes: Vec<u8>,
    /// The signatures, in the order of their files' names.
    pub signatures: Vec<SignatureFile>,
}

/// One file beside a document.
#[derive(Debug, Clone)]
pub struct SignatureFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds: a raw SSHSIG.
    pub signature: Result<Vec<u8>, SignatureError>,
}

impl DocumentFiles {
    /// Reads a document and all signatures beside it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_document(path)?;
        let mut found = signature_paths(path).map_err(|error| Failure::file(path, error))?;
        found.sort();
        if found.len() > SIGNATURES_MAX {
            let count = found.len();
            return Err(Failure::file(
                path,
                format_args!("{count} signatures are more than {SIGNATURES_MAX}"),
            ));
        }
        let read = |path: PathBuf| {
            let text =
                bounded(&path, SIGNATURE_FILE_BYTES_MAX).map_err(|error| Failure::file(&path, error))?;
            Ok(SignatureFile { signature: dearmor(&String::from_utf8_lossy(&text)), path })
        };
        Ok(Self { bytes, signatures: found.into_iter().map(read).collect::<Result<_, Failure>>()? })
    }

    /// The signatures that could be read, as raw SSHSIGs.
    pub fn raw_signatures(&self) -> Vec<Vec<u8>> {
        self.signatures.iter().filter_map(|file| file.signature.clone().ok()).collect()
    }
}

/// Reads a document without its signatures.
pub fn read_document(path: &Path) -> Result<Vec<u8>, Failure> {
    bounded(path, DOCUMENT_BYTES_MAX).map_err(|error| Failure::file(path, error))
}

/// Reads a document from stdin.
pub fn read_stdin() -> Result<Vec<u8>, Failure> {
    limited(io::stdin().lock(), DOCUMENT_BYTES_MAX).map_err(|error| Failure::file(Path::new("stdin"), error))
}

/// Puts a document into place, in one step.
pub fn write_document(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes).map_err(|error| Failure::file(path, error))
}

/// Puts an operator's signature beside a document; returns its path.
pub fn write_signature(document: &Path, operator: &OperatorName, raw: &[u8]) -> Result<PathBuf, Failure> {
    let path = with_suffix(document, &format!(".{operator}.sig"));
    replace(&path, armor(raw).as_bytes()).map_err(|error| Failure::file(&path, error))?;
    Ok(path)
}

fn signature_paths(document: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = document.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let folder = match document.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let rest = entry.to_str().and_then(|entry| entry.strip_prefix(name)?.strip_suffix(".sig"));
        let operator = rest.map(|rest| rest.strip_prefix('.').unwrap_or(rest));
        // `stable.json2.sig` belongs to another document.
        let own = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if own && operator.is_some_and(|name| name.is_empty() || name.parse::<OperatorName>().is_ok()) {
            found.push(document.with_file_name(&entry));
        }
    }
    Ok(found)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    limited(File::open(path)?, bytes_max)
}

fn limited(from: impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = with_suffix(path, ".new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
