//! Heartbeats on a MySQL server.

use mysql::Value;

use super::params::bytes;
use super::session::Session;
use super::statements::{BEATS, PUT_BEAT, REMOVE_BEAT};
use super::stored::{Columns, Torn};
use crate::partition::Result;
use crate::partition::beat::{Beat, Beats};
use crate::partition::tables::Tables as _;

impl Beats for Session<'_> {
    fn beats(&mut self) -> Result<Vec<Beat>> {
        let now_ms = self.now_ms()?;
        let beat = |row| {
            let mut columns = Columns::of(row);
            let frontend = columns.text()?;
            let beats = columns.number()?.cast_unsigned();
            let silent_ms = now_ms - columns.number()?;
            let document = columns.text()?;
            Ok(Beat { frontend, beats, silent_ms, document })
        };
        let rows = self.text(&BEATS)?.rows.into_iter();
        rows.map(|row| beat(row).map_err(|torn: Torn| torn.at(BEATS.name))).collect()
    }

    fn put_beat(&mut self, frontend: &str, document: &str) -> Result<()> {
        let now_ms = Value::Int(self.now_ms()?);
        let params = vec![bytes(frontend.as_bytes()), now_ms, bytes(document.as_bytes())];
        self.execute(&PUT_BEAT, 1, params)?;
        Ok(())
    }

    fn remove_beat(&mut self, frontend: &str) -> Result<()> {
        self.execute(&REMOVE_BEAT, 1, vec![bytes(frontend.as_bytes())])?;
        Ok(())
    }
}
