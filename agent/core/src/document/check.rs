//! What a person wants to know of a fleet document before signing it.
