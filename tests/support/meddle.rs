//! Doing things to a partition behind its back.

use std::path::PathBuf;

use datastore::partition::memory::Memory;
use datastore::record::{Key, Space};
use mysql::prelude::Queryable;

use super::mariadb::Server;

/// A way into a partition that is not the partition's own.
pub enum Meddle {
    Memory(Memory),
    Sqlite(PathBuf),
    /// A database of the server that the tests of a process share.
    Mariadb(String),
}

impl Meddle {
    /// Gives a row of `data` another value; its checksum stays what it was.
    pub fn tamper(&self, key: &str, value: &'static str) {
        match self {
            Self::Memory(memory) => memory
                .meddle(|state| {
                    let mut row = state.rows().get(&data(key)).unwrap().clone();
                    row.body.as_mut().unwrap().value = value.into();
                    state.tamper(row);
                })
                .unwrap(),
            Self::Sqlite(path) => {
                let raw = rusqlite::Connection::open(path).unwrap();
                let sql = "UPDATE data SET value = ?2 WHERE id = ?1";
                assert_eq!(raw.execute(sql, (key.as_bytes(), value.as_bytes())).unwrap(), 1);
            }
            Self::Mariadb(database) => {
                let mut admin = Server::shared().admin_of(database);
                let sql = "UPDATE data SET value = ? WHERE id = ?";
                admin.exec_drop(sql, (value.as_bytes(), key.as_bytes())).unwrap();
                assert_eq!(admin.affected_rows(), 1);
            }
        }
    }

    /// Removes a row of `data`.
    pub fn lose(&self, key: &str) {
        match self {
            Self::Memory(memory) => memory.meddle(|state| state.lose(&data(key))).unwrap(),
            Self::Sqlite(path) => {
                let raw = rusqlite::Connection::open(path).unwrap();
                let sql = "DELETE FROM data WHERE id = ?1";
                assert_eq!(raw.execute(sql, [key.as_bytes()]).unwrap(), 1);
            }
            Self::Mariadb(database) => {
                let mut admin = Server::shared().admin_of(database);
                admin.exec_drop("DELETE FROM data WHERE id = ?", (key.as_bytes(),)).unwrap();
                assert_eq!(admin.affected_rows(), 1);
            }
        }
    }
}

fn data(key: &str) -> Key {
    Key::stored(Space::Data, key.to_owned())
}
