//! The suites are data; this package exists so that cargo-insta finds their snapshots.
