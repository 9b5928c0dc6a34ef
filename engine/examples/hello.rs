//! The smallest complete filesystem: `cargo run -p fusewire --example hello -- MOUNTPOINT`
use std::time::Duration;

use fusewire::proto::{Attr, Attributes, Entry, Errno, Mode, NodeId, Result, flags::InitFlags, op};
use fusewire::{Config, Context, DirBuf, FileType, Filesystem, ReadBuf, Session};

const TEXT: &[u8] = b"hello, wire\n";
const VALID: Duration = Duration::from_secs(3600);

struct Hello;

fn attr(NodeId(ino): NodeId) -> Attr {
    let (mode, size) = if ino == 1 { (0o040_555, 0) } else { (0o100_444, TEXT.len() as u64) };
    Attr { ino, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

impl Filesystem for Hello {
    const WISHES: InitFlags = InitFlags::empty();
    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let nodeid = if op.name.as_bytes() == b"hello" { NodeId(2) } else { Err(Errno::ENOENT)? };
        let valid = Entry { entry_valid: VALID, attr_valid: VALID, ..Entry::default() };
        Ok(Entry { nodeid, attr: attr(nodeid), ..valid })
    }
    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: VALID, attr: attr(cx.node()) })
    }
    async fn read(&self, _: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        out.append(TEXT.get(usize::try_from(op.offset).unwrap_or(usize::MAX)..).unwrap_or(&[]));
        Ok(())
    }
    async fn readdir(&self, _: &Context<'_>, op: op::ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        let _ = op.offset == 0 && out.add(2, 1, FileType::REGULAR, b"hello");
        Ok(())
    }
}

fn main() -> fusewire::Result<()> {
    let mountpoint = std::env::args_os().nth(1).expect("usage: hello MOUNTPOINT");
    Session::mount(Config::new(mountpoint), |_shard| Hello)?.run().map(drop)
}
