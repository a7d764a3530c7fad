//! The realm's broker: the embedded one, and others in its place.
