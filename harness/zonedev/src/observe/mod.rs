//! stub
use crate::record::*;
pub fn ktap(_: &str) -> Vec<TestResult> { vec![] }
pub fn console(_: &[u8]) -> Vec<LogLine> { vec![] }
pub fn splats(_: &[LogLine]) -> Vec<Splat> { vec![] }
