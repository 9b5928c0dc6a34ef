//! Names of frames: opcode and shape, so that each form of a request is kept once.

use std::time::Duration;

use fusewire_proto::abi::InHeader;
use fusewire_proto::flags::OpenFlags;
use fusewire_proto::{Opcode, Operation};

/// Such as `write-cache` or `setattr-valid-0x668`.
pub(crate) fn name(header: &InHeader, op: &Operation<'_>, argument: &[u8]) -> String {
    let opcode = Opcode::from_raw(header.opcode);
    let base = opcode.map_or(format!("unknown-{}", header.opcode), |it| it.name().to_lowercase());
    let mut name = base.replace('_', "-");
    let detail = detail(op, argument);
    if !detail.is_empty() {
        name = format!("{name}-{detail}");
    }
    match header.total_extlen {
        0 => name,
        1 => format!("{name}-ext"),
        more => format!("{name}-ext{more}"),
    }
}

/// Lets FORGETs gather, so that they come in one message, when the client looks for `pause`.
pub(crate) fn pause(op: &Operation<'_>) {
    if matches!(op, Operation::Lookup(op) if op.name.as_bytes() == b"pause") {
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn flag(set: bool, name: &str) -> String {
    if set { name.to_owned() } else { String::new() }
}

fn detail(op: &Operation<'_>, argument: &[u8]) -> String {
    use Operation as O;
    match op {
        O::Lookup(op) if op.name.as_bytes() == b"." => "dot".to_owned(),
        O::Lookup(op) if op.name.as_bytes() == b".." => "dotdot".to_owned(),
        O::GetAttr(op) => flag(op.fh.is_some(), "fh"),
        O::SetAttr(op) => format!("valid-{:#x}", op.valid.bits()),
        O::Open(op) => format!("flags-{:#x}", op.flags.bits()),
        O::OpenDir(op) => format!("flags-{:#x}", op.flags.bits()),
        O::Create(op) => flag(op.flags.contains(OpenFlags::TRUNC), "trunc"),
        O::MkNod(op) => format!("type-{:#o}", op.mode.file_type().0),
        O::Read(op) => format!("{:#x}-flags-{:#x}", op.read_flags.bits(), op.flags.bits()),
        O::ReadDir(op) => flag(op.offset != 0, "further"),
        O::ReadDirPlus(op) => flag(op.offset != 0, "further"),
        O::Write(op) => format!("{:#x}-flags-{:#x}", op.write_flags.bits(), op.flags.bits()),
        O::Release(op) => format!("{:#x}-flags-{:#x}", op.release_flags.bits(), op.flags.bits()),
        O::ReleaseDir(op) => flag(op.release_flags.bits() != 0, "flags"),
        O::FSync(op) => flag(op.datasync, "data"),
        O::FSyncDir(op) => flag(op.datasync, "data"),
        O::SetXattr(op) => {
            let form = if argument.len() == 8 { "short" } else { "long" };
            format!(
                "{form}-{}-{}",
                op.flags.bits(),
                if op.value.is_empty() { "empty" } else { "value" }
            )
        }
        O::GetXattr(op) => flag(op.size == 0, "probe"),
        O::ListXattr(op) => flag(op.size == 0, "probe"),
        O::GetLk(op) => format!("{}-type-{}", op.lk_flags.bits(), op.lock.kind.0),
        O::SetLk(op) => format!("{}-type-{}", op.lk_flags.bits(), op.lock.kind.0),
        O::SetLkW(op) => format!("{}-type-{}", op.lk_flags.bits(), op.lock.kind.0),
        O::IoCtl(op) => format!("{:#x}-{:#x}", op.flags.bits(), op.command),
        O::Poll(op) => format!("{}", op.flags.bits()),
        O::Rename2(op) => format!("{}", op.flags.bits()),
        O::FAllocate(op) => format!("{:#x}", op.mode.bits()),
        O::LSeek(op) => format!("{}", op.whence.0),
        O::NotifyReply(op) => flag(op.data.is_empty(), "empty"),
        O::Access(op) => format!("{}", op.mask.bits()),
        _ => String::new(),
    }
}
