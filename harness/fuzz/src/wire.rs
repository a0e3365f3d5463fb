//! What an agent says: frames, and the claims at a checkpoint.

use std::collections::BTreeSet;

use guestmem::{PageKind, PageRun, PageState, PagesReading, Part, Pgmap, Region};
use proto::{
    AgentMessage, Checkpoint, Hold, HoldBy, HostMessage, MAX_HOLDS, MAX_TEXT, Mismatch,
    NamespaceInfo, PageType, PinHow, bounded, frame,
};
use zonedev::record::CheckpointRecord;

use crate::records::{CONTRACTS, judged};
use crate::{Input, assert_shown};

/// A stream of frames.
pub(crate) fn frame(data: &[u8]) {
    let mut stream = data;
    for _ in 0..64 {
        let before = stream.len();
        match frame::read::<AgentMessage>(&mut stream) {
            Ok(message) => {
                assert!(stream.len() + 4 < before);
                agent_said(message);
            }
            Err(frame::FrameError::Closed) => break,
            // A frame that is no such message is behind us; after any other error the stream is over.
            Err(frame::FrameError::Json(_)) => {}
            Err(_) => break,
        }
    }
    if let Ok(message) = frame::decode::<HostMessage>(data) {
        assert_eq!(again(&message), message);
    }
    if let Ok(message) = frame::decode::<AgentMessage>(data) {
        agent_said(message);
    }
}

fn agent_said(message: AgentMessage) {
    assert_eq!(again(&message), message);
    let Ok(taken) = bounded(message) else {
        return;
    };
    assert_eq!(again(&taken), taken);
    texts(&taken);
}

/// Written as a frame and read back.
fn again<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    let read = frame::encode(message).and_then(|bytes| frame::read::<T>(&mut &bytes[..]));
    match read {
        Ok(read) => read,
        Err(e) => panic!("{e}"),
    }
}

/// No text of a message that was taken steers a terminal or is longer than any has to be, wherever
/// it stands.
fn texts(message: &AgentMessage) {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    // Its reader escapes it.
    if let Some(output) = value.pointer_mut("/outcome/output/text") {
        *output = serde_json::Value::Null;
    }
    if let Some(files) = value
        .pointer_mut("/profile/files")
        .and_then(|f| f.as_array_mut())
    {
        files
            .iter_mut()
            .for_each(|f| f["data"] = serde_json::Value::Null);
    }
    let mut todo = vec![&value];
    while let Some(value) = todo.pop() {
        match value {
            serde_json::Value::String(text) => {
                assert_shown(text);
                assert!(text.len() <= MAX_TEXT * 10 + 4);
            }
            serde_json::Value::Array(list) => todo.extend(list),
            serde_json::Value::Object(map) => {
                map.keys().for_each(|key| assert_shown(key));
                todo.extend(map.values());
            }
            _ => {}
        }
    }
    if let AgentMessage::Done {
        checkpoint: Some(checkpoint),
        ..
    } = message
    {
        assert!(checkpoint.holds.len() <= MAX_HOLDS);
    }
}

const KINDS: [PageKind; 6] = [
    PageKind::FsDax,
    PageKind::Generic,
    PageKind::Private,
    PageKind::Coherent,
    PageKind::PciP2pdma,
    PageKind::Unknown(9),
];
const TYPES: [PageType; 5] = [
    PageType::Fsdax,
    PageType::Devdax,
    PageType::Private,
    PageType::Coherent,
    PageType::P2pdma,
];
const PINS: [PinHow; 5] = [
    PinHow::Vmsplice,
    PinHow::DirectWrite,
    PinHow::DirectRead,
    PinHow::IoUring,
    PinHow::GupTest,
];
const ORDERS: [u8; 8] = [0, 9, 1, 2, 18, 19, 63, 255];

/// Claims about pages, both made of the input, under one of the contracts.
pub(crate) fn claims(data: &[u8]) {
    let mut input = Input::new(data);
    let contract = input.pick(&CONTRACTS);
    let mut pages = PagesReading::default();
    let mut at = 0x1000;
    for _ in 0..input.byte() % 5 {
        let region = region(&mut input, at);
        at = region.start_pfn + region.pages;
        pages.regions.push(region);
    }
    let mut claims = Checkpoint {
        poison_unknown: input.byte() == 1,
        ..Checkpoint::default()
    };
    for _ in 0..input.byte() % 4 {
        claims.namespaces.push(NamespaceInfo {
            dev: "pmem0".into(),
            name: String::new(),
            mode: (*input.pick(&["devdax", "fsdax", "raw"])).into(),
            resource: 0x1000_0000_u64.wrapping_add(input.some() << 12),
            size: input.word(),
            align: 1u64
                .checked_shl(u32::from(input.byte() % 70))
                .unwrap_or(input.some()),
            ranges: Vec::new(),
        });
    }
    for name in ["nr_foll_pin_acquired", "nr_foll_pin_released"] {
        if input.byte() % 2 == 1 {
            claims
                .counters
                .insert(name.into(), input.some().cast_signed());
        }
    }
    if input.byte() == 1 {
        claims.pins_in_ram.insert(*input.pick(&PINS), input.word());
        claims.mismatches.push(Mismatch {
            what: "pagemap".into(),
            who: "main/a".into(),
            page: input.word(),
            pages: input.word(),
            predicted: "p".into(),
            found: "f".into(),
        });
    }
    // One hold may come many times, over the pages of the others.
    let times = match input.byte() {
        255 => usize::from(input.half() % 2048),
        _ => 1,
    };
    while !input.is_empty() && claims.holds.len() < MAX_HOLDS {
        let hold = hold(&mut input);
        let (pfn, pages) = (hold.pfn, hold.pages);
        for n in 0..times as u64 {
            claims.holds.push(Hold {
                pfn: pfn.saturating_add(n),
                pages: pages.saturating_sub(n),
                who: format!("{}{n}", hold.who),
                ..hold.clone()
            });
        }
        claims.holds.truncate(MAX_HOLDS);
    }
    let checkpoint = CheckpointRecord {
        name: "c".into(),
        step: 0,
        pages,
        claims,
        rereads: 0,
        first: None,
        read_us: 0,
    };
    judged(&checkpoint, contract);
}

/// A region from some page after `at` on, as long as its runs.
fn region(input: &mut Input, at: u64) -> Region {
    let start_pfn = at + input.some() % (1 << 30);
    let metadata_pages = input.some() % (1 << 20);
    let mut next = start_pfn + metadata_pages;
    let mut runs: Vec<PageRun> = Vec::new();
    for _ in 0..=input.byte() % 16 {
        let run = PageRun {
            pfn: next,
            pages: 1 + input.some() % (1 << 40),
            index: (input.byte().is_multiple_of(2)).then(|| input.some()),
            state: state(input),
        };
        next += run.pages;
        match runs.last_mut() {
            Some(last)
                if last.state == run.state && run.index.is_none() && last.index.is_none() =>
            {
                last.pages += run.pages
            }
            _ => runs.push(run),
        }
    }
    Region {
        kind: *input.pick(&KINDS),
        owner: Some("namespace0.0".into()).filter(|_| input.byte().is_multiple_of(2)),
        start_pfn,
        pages: next - start_pfn,
        metadata_pages,
        pgmap: Pgmap {
            address: 0,
            range: 0,
            ranges: 1,
            vmemmap_shift: *input.pick(&ORDERS),
            altmap: metadata_pages > 0,
        },
        runs,
    }
}

fn state(input: &mut Input) -> PageState {
    let bits = input.byte();
    let count = |input: &mut Input| input.some() as i32;
    let mut flags = BTreeSet::from(["reserved".to_owned()]);
    if bits & 1 != 0 {
        flags.insert("hwpoison".into());
    }
    PageState {
        refcount: count(input),
        mapcount: count(input),
        large_mapcount: (bits & 2 != 0).then(|| count(input)),
        pincount: (bits & 4 != 0).then(|| count(input)),
        order: *input.pick(&ORDERS),
        part: *input.pick(&[Part::Single, Part::Head, Part::Tail]),
        mapping_set: bits & 8 != 0,
        share: (bits & 16 != 0).then(|| input.some()),
        charged: (bits & 64 != 0).then_some(bits & 128 != 0),
        flags: flags.into(),
        absent: bits & 32 != 0,
    }
}

fn hold(input: &mut Input) -> Hold {
    let order = *input.pick(&ORDERS);
    let by = match input.byte() % 7 {
        0 => HoldBy::Pte {},
        1 => HoldBy::Pmd {},
        2 => HoldBy::Entry { order },
        3 => HoldBy::Shared {
            count: input.some(),
        },
        4 => HoldBy::Poison {},
        5 => HoldBy::Folio { order },
        _ => HoldBy::Pin {
            how: *input.pick(&PINS),
        },
    };
    Hold {
        pfn: input.some().wrapping_add(0x1000),
        pages: input.some(),
        page_type: *input.pick(&TYPES),
        by,
        who: (*input.pick(&["main/a", "main/b", "p", "f"])).into(),
    }
}
