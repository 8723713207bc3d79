//! How the hooks of an agent fare over restarts, and what is told of what was learnt.
