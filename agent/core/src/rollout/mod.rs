//! The rollout reducer.
