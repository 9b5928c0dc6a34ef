//! Writes the encoders' seeds to DIR/TARGET/seed-N: `fuzz/seed` runs it.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    for (count, (target, bytes)) in fusewire_proto::fuzzing::seeds().into_iter().enumerate() {
        let target = dir.join(target);
        fs::create_dir_all(&target)?;
        fs::write(target.join(format!("seed-{count}")), bytes)?;
    }
    Ok(())
}
