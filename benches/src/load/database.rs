//! Transactions of SQLite, as a program makes them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{Fence, Outcome, failed, histogram, quantiles, record, stream};
use crate::Failure;

/// A database, and rows that are added to it one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Transactions of one row each.
    pub count: u32,
    /// Whether they go to a log first (WAL) instead of by a rollback journal.
    pub log: bool,
}

const FILE: &str = "database";

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn said(error: rusqlite::Error) -> Failure {
    format!("SQLite: {error}")
}

fn text_of(number: u32) -> String {
    format!("{number:010} ").repeat(20)
}

impl Database {
    pub(super) fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        for ending in ["", "-journal", "-wal", "-shm"] {
            match fs::remove_file(directory.join(format!("{FILE}{ending}"))) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("unlink: {error}"));
                }
                _ => {}
            }
        }
        let database = Connection::open(directory.join(FILE)).map_err(said)?;
        let mode = if self.log { "wal" } else { "delete" };
        let given = database.pragma_update_and_check(None, "journal_mode", mode, |row| row.get(0));
        let given: String = given.map_err(said)?;
        if given != mode {
            return Err(format!("SQLite cannot have the journal {mode} here, but {given}"));
        }
        // Each transaction is to outlive the machine.
        database.pragma_update(None, "synchronous", "full").map_err(said)?;
        database.execute("create table t (number integer, text text)", []).map_err(said)?;
        let mut latency = histogram();
        fence.ready()?;
        let start = Instant::now();
        for number in 0..self.count {
            let since = Instant::now();
            let row = (number, text_of(number));
            database.execute("insert into t values (?1, ?2)", row).map_err(said)?;
            record(&mut latency, since);
        }
        let seconds = start.elapsed().as_secs_f64();
        let bytes = (0..self.count).map(|number| text_of(number).len() as u64).sum();
        let latency = quantiles(&latency);
        let operations = u64::from(self.count);
        fence.timed(Outcome { operations, bytes, seconds, latency })?;
        database.close().map_err(|(_, error)| said(error))?;
        self.check(directory)
    }

    /// What is there once it is opened again, and is not in the page cache, is what was written.
    fn check(&self, directory: &Path) -> Result<(), Failure> {
        let file = File::open(directory.join(FILE)).map_err(failed("open to check"))?;
        stream::drop_pages(&file)?;
        let database = Connection::open(directory.join(FILE)).map_err(said)?;
        let whole: String =
            database.query_row("pragma integrity_check", [], |row| row.get(0)).map_err(said)?;
        if whole != "ok" {
            return Err(format!("SQLite finds its file broken: {whole}"));
        }
        let mut all =
            database.prepare("select number, text from t order by rowid").map_err(said)?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(said)?;
        let rows: Vec<(u32, String)> = rows.collect::<Result<_, _>>().map_err(said)?;
        let wanted = (0..self.count).map(|number| (number, text_of(number)));
        if rows.iter().cloned().eq(wanted) {
            return Ok(());
        }
        Err(format!("{} of {} rows, or others, are in the database", rows.len(), self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Load;
    use super::super::testing::run;
    use super::*;

    #[test]
    fn transactions_are_kept_and_a_lost_one_is_noticed() {
        for log in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let database = Database { count: 70, log };
            for _ in 0..2 {
                let done = run(&Load::Database(database.clone()), directory.path()).unwrap();
                assert_eq!((done.operations, done.bytes), (70, 70 * 220));
            }
            let direct = Connection::open(directory.path().join(FILE)).unwrap();
            direct.execute("update t set text = 'x' where number = 7", []).unwrap();
            assert!(database.check(directory.path()).unwrap_err().contains("or others"));
            direct.execute("delete from t where number = 7", []).unwrap();
            direct.close().unwrap();
            let why = database.check(directory.path()).unwrap_err();
            assert_eq!(why, "69 of 70 rows, or others, are in the database");
        }
    }
}
