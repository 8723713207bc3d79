//! Turns a panic of the storage engine into an error: it may panic on pages that were overwritten under it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::StoreError;

#[cfg(not(panic = "unwind"))]
compile_error!("muster-store turns panics of redb into errors and needs panic = \"unwind\"");

/// Runs `work`; a panic inside becomes [`StoreError::Corrupt`].
///
/// Whatever `work` was using is dropped or answers with errors from then on, so nothing half done is seen.
pub(crate) fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(StoreError::corrupt(path, format!("reading a page panicked: {}", message(payload.as_ref()))))
    })
}

/// The text of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
