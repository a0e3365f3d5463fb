//! stub
use crate::record::*; use crate::spec::*;
pub struct Checked { pub violations: Vec<Violation>, pub predicted: u64, pub pages: u64 }
pub fn check(_: &CheckpointRecord, _: &Contract) -> Checked { todo!() }
pub fn judge_cell(_: &CellRecord, _: &Contract) -> CellVerdict { todo!() }
pub fn normalised(_: &CellRecord) -> String { todo!() }
pub fn pair(_: &CellRecord, _: &CellRecord, _: &CellVerdict, _: &CellVerdict, _: Option<&str>, _: Option<&str>) -> PairRecord { todo!() }
pub mod snapshot {
    use camino::*;
    pub struct Snapshot;
    impl Snapshot { pub fn new(_: &Utf8Path, _: &str, _: &str) -> Self { todo!() } pub fn contents(&self) -> &str { "" } pub fn to_file(&self) -> String { todo!() } }
    pub fn file_name(_: &crate::record::CellId, _: &str) -> String { todo!() }
    pub fn read(_: &Utf8Path) -> Result<Option<Snapshot>, std::io::Error> { todo!() }
    pub fn write_pending(_: &Utf8Path, _: &Snapshot) -> Result<(), std::io::Error> { todo!() }
}
