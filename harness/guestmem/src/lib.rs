//! Reads struct pages from a paused guest.
