//! Heartbeats in SQLite.

use rusqlite::params;

use super::statements::{Session, Statement, statement};
use crate::partition::Result;
use crate::partition::beat::{Beat, Beats};

static BEATS: Statement = statement(
    "beats",
    "SELECT id, beats, updated_at, document FROM frontend WHERE id <> 'barrier' ORDER BY id",
);
static PUT_BEAT: Statement = statement(
    "put beat",
    "INSERT INTO frontend (id, beats, updated_at, document) VALUES (?1, 1, ?2, ?3)
     ON CONFLICT (id) DO UPDATE SET
       beats = beats + 1, updated_at = excluded.updated_at, document = excluded.document",
);
static REMOVE_BEAT: Statement =
    statement("remove beat", "DELETE FROM frontend WHERE id = ?1 AND id <> 'barrier'");

impl Beats for Session<'_> {
    fn beats(&mut self) -> Result<Vec<Beat>> {
        let now_ms = self.wall_ms();
        let mut beats = Vec::new();
        self.each(&BEATS, (), |row| {
            beats.push(Beat {
                frontend: row.get(0)?,
                beats: row.get::<_, i64>(1)?.cast_unsigned(),
                silent_ms: now_ms - row.get::<_, i64>(2)?,
                document: row.get(3)?,
            });
            Ok(true)
        })?;
        Ok(beats)
    }

    fn put_beat(&mut self, frontend: &str, document: &str) -> Result<()> {
        self.execute(&PUT_BEAT, params![frontend, self.wall_ms(), document])?;
        Ok(())
    }

    fn remove_beat(&mut self, frontend: &str) -> Result<()> {
        self.execute(&REMOVE_BEAT, [frontend])?;
        Ok(())
    }
}
