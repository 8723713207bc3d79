//! How coordinators order and approve.
