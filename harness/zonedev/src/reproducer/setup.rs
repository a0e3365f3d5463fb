//! What PID 1 does with programs, as commands of a shell: where an operation comes before the
//! program's first one, they stand in its header comment; elsewhere, the program runs them.

use proto::{Op, Size};

use super::devices::{Devices, mount_point};
use super::error::CannotSay;

/// The commands for an operation that a shell can do as well; none for what is not such a one.
pub(super) fn commands(op: &Op, devices: &Devices) -> Result<Option<Vec<String>>, CannotSay> {
    let block = |namespace: &Option<String>| {
        devices
            .block(namespace.as_deref())
            .ok_or_else(|| CannotSay {
                op: op.word(),
                why: "the case makes no such namespace".into(),
            })
    };
    let dax = "/sys/bus/dax/devices";
    Ok(Some(match op {
        Op::CreateNamespace {
            mode,
            map,
            align,
            size,
            name,
            region,
            node: _,
        } => {
            let mut line = format!("ndctl create-namespace -f -m {mode}");
            if mode != "raw" {
                line += &format!(" -M {map} -a {align}");
            }
            let region = region.unwrap_or(0);
            if devices.unlabelled() {
                line += &format!(" -e namespace{region}.0");
            } else if region > 0 || name.is_some() {
                line += &format!(" -r region{region}");
            }
            if let Some(size) = size {
                line += &format!(" -s {size}");
            }
            if let Some(name) = name {
                line += &format!(" -n {}", word(name));
            }
            vec![line]
        }
        Op::Partition { start, namespace } => {
            let device = block(namespace)?;
            let (dev, from) = (&device.dev, start.bytes() / 512);
            vec![format!(
                "addpart /dev/{dev} 1 {from} $(($(cat /sys/block/{dev}/size) - {from}))"
            )]
        }
        Op::Mkfs {
            fs,
            reflink,
            rmapbt,
            namespace,
        } => {
            let node = block(namespace)?.node();
            vec![match fs.as_str() {
                "xfs" => format!(
                    "mkfs.xfs --unsupported -q -f -b size=4096 -m reflink={},rmapbt={} \
                     -d su=2m,sw=1 {node}",
                    u8::from(*reflink),
                    u8::from(*rmapbt)
                ),
                fs => format!(
                    "mkfs.{} -q -F -b 4096 -E stride=512,stripe_width=512,\
                     lazy_itable_init=0,lazy_journal_init=0 {node}",
                    word(fs)
                ),
            }]
        }
        Op::Mount {
            namespace,
            read_only,
        } => {
            let device = block(namespace)?;
            let at = mount_point(namespace.as_deref());
            let ro = if *read_only { "ro," } else { "" };
            let mut lines = Vec::new();
            if namespace.is_some() {
                lines.push(format!("mkdir -p {}", word(&at)));
            }
            lines.push(format!("mount -o {ro}dax {} {}", device.node(), word(&at)));
            if device.fs.as_deref() == Some("ext4") {
                // ext4 passes over groups whose bitmaps it has not read yet.
                let of = device.node().replace("/dev/", "");
                lines.push(format!("cat /proc/fs/ext4/{of}/mb_groups >/dev/null"));
            }
            lines
        }
        Op::DestroyNamespace {} => {
            let mut lines = vec!["ndctl destroy-namespace -f all".to_owned()];
            if devices.unlabelled() {
                lines.push("ndctl disable-namespace all".to_owned());
            }
            lines
        }
        Op::Rebind {} => vec![
            "ndctl disable-namespace all".to_owned(),
            "ndctl enable-namespace all".to_owned(),
        ],
        Op::CreateRegion {} => {
            vec!["cxl create-region -t pmem -d decoder0.0 -m mem0".to_owned()]
        }
        Op::DestroyRegion {} => vec!["cxl destroy-region -f all".to_owned()],
        Op::Insmod { module } => vec![format!("modprobe {}", word(module))],
        Op::CreateDax { size, align, at } if devices.dax(None).is_none() => {
            let range = match at {
                None => format!("echo {} > {dax}/dax0.0/size", size.bytes()),
                Some(at) => format!(
                    "echo {:x}-{:x} > {dax}/dax0.0/mapping",
                    at.bytes(),
                    at.bytes() + size.bytes() - 1
                ),
            };
            vec![
                format!("echo {} > {dax}/dax0.0/align", align.bytes()),
                range,
                format!(
                    "[ -e {dax}/dax0.0/driver ] || echo dax0.0 > /sys/bus/dax/drivers/device_dax/bind"
                ),
            ]
        }
        Op::MountRoot {} => Vec::new(),
        _ => return Ok(None),
    }))
}

/// One word of a shell.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A program with its arguments as a command.
pub(super) fn command(argv: &[String], cwd: Option<&str>) -> String {
    let words: Vec<String> = argv.iter().map(|a| word(a)).collect();
    let cd = cwd.map(|dir| format!("cd {} && ", word(dir)));
    cd.unwrap_or_default() + &words.join(" ")
}

/// What a device has changed to by an operation that went well.
pub(super) fn follow(op: &Op, devices: &mut Devices) {
    match op {
        Op::CreateNamespace {
            mode, name, region, ..
        } => devices.created(mode, name.as_deref(), region.unwrap_or(0)),
        Op::Partition { namespace, .. } => {
            if let Some(dev) = devices.block(namespace.as_deref()).map(|d| d.dev.clone()) {
                devices.change(&dev, |d| d.partition = true);
            }
        }
        Op::Mkfs { fs, namespace, .. } => {
            if let Some(dev) = devices.block(namespace.as_deref()).map(|d| d.dev.clone()) {
                devices.change(&dev, |d| d.fs = Some(fs.clone()));
            }
        }
        Op::DestroyNamespace {} | Op::DestroyRegion {} => devices.destroyed(),
        Op::CreateDax { .. } => devices.created_dax(),
        Op::DestroyDax { device } => devices.gone(device),
        Op::DaxMode { mode, device } => {
            if let Some(dev) = devices.dax(device.as_deref()).map(|d| d.dev.clone()) {
                devices.change(&dev, |d| d.driver = *mode);
            }
        }
        _ => {}
    }
}

/// 4K pages from a place, to the end where no length is given.
pub(super) fn range(offset: Size, length: Option<Size>, pages: u64) -> std::ops::Range<u64> {
    let from = (offset.bytes() / Size::PAGE).min(pages);
    from..length.map_or(pages, |l| from.saturating_add(l.pages()).min(pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_sees_one_word() {
        assert_eq!(word("/dev/pmem0"), "/dev/pmem0");
        assert_eq!(word("a b; c"), "'a b; c'");
        assert_eq!(word("it's"), r"'it'\''s'");
        let argv = ["/bin/sh", "-c", "true; false"].map(str::to_owned);
        assert_eq!(
            command(&argv, Some("/x")),
            "cd /x && /bin/sh -c 'true; false'"
        );
    }
}
