//! zonedev
fn main() {}
