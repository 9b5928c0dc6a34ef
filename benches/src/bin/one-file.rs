//! The one-file daemon on fusewire.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use fusewire::cli::{self, CommonArgs};
use fusewire::proto::flags::{FOpenFlags, InitFlags};
use fusewire::proto::{Attr, Attributes, Entry, Errno, FileType, Mode, NodeId, Opened, Result, op};
use fusewire::{Context, DirBuf, Filesystem, ReadBuf};
use fusewire_benches::{SIZE, VALID, content, range};

const FILE: NodeId = NodeId(2);

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

struct OneFile(Arc<Vec<u8>>);

fn attr(node: NodeId) -> Attr {
    let (mode, size) = if node == FILE { (0o100_444, SIZE as u64) } else { (0o040_555, 0) };
    Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

impl Filesystem for OneFile {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        if op.name.as_bytes() != b"data" {
            return Err(Errno::ENOENT);
        }
        let entry = Entry { nodeid: FILE, attr: attr(FILE), ..Entry::default() };
        Ok(Entry { entry_valid: VALID, attr_valid: VALID, ..entry })
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: VALID, attr: attr(cx.node()) })
    }

    async fn open(&self, _: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(Opened { flags: FOpenFlags::KEEP_CACHE, ..Opened::default() })
    }

    async fn read(&self, _: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        out.share(Arc::clone(&self.0) as _, range(op.offset, op.size));
        Ok(())
    }

    async fn readdir(&self, _: &Context<'_>, op: op::ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        let _ = op.offset == 0 && out.add(FILE.0, 1, FileType::REGULAR, b"data");
        Ok(())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let data = Arc::new(content());
    let config = args.common.config("one-file");
    cli::run(&args.common, config, move |_| OneFile(Arc::clone(&data)))
}
