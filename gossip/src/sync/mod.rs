//! Sync and enrolment: what is asked, what is answered, and the pull that drives it.

pub(crate) mod answer;
pub(crate) mod enroll;
pub(crate) mod frame;
pub(crate) mod pull;
