//! Looks to test with.

use std::collections::BTreeMap;

use super::sight::{Class, Row, Sight, SightRegion};
use super::wire::About;

pub(super) fn about() -> About {
    About {
        pid: 42,
        what: "shell".into(),
        kernel: "6.12".into(),
        fixture: "fsdax-ext4".into(),
        contract: "6.12".into(),
    }
}

pub(super) fn row(offset: u64, pages: u64, class: Class, refcount: i64) -> Row {
    Row {
        offset,
        pages,
        class,
        refcount,
        idle_refcount: Some(1),
        mapcount: 0,
        pincount: None,
        state: String::new(),
    }
}

pub(super) fn seen(rows: Vec<Row>) -> Sight {
    let mut classes = BTreeMap::new();
    for row in &rows {
        *classes.entry(row.class).or_default() += row.pages;
    }
    Sight {
        about: about(),
        number: 1,
        at_ms: 2500,
        took_us: 1234,
        stands: None,
        regions: vec![SightRegion {
            name: "namespace0.0 FS_DAX".into(),
            start_pfn: 0x100200,
            pages: rows.iter().map(|r| r.pages).sum(),
            classes,
            rows,
        }],
        problems: Vec::new(),
        left_out: 0,
        log: vec!["[    9.4] EXT4-fs (pmem0): mounted".into()],
    }
}
