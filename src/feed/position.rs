//! How far a follower has come, and how it carries that from one request to the next.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::record::{Key, Space};
use crate::vector::{Token, Vector};
use crate::version::SetId;

/// How far a follower has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nothing yet: begin with a snapshot.
    Start,
    /// Inside a snapshot that began at `vector`; keys up to `after` have been given.
    Snapshot {
        /// Where the tail begins once the snapshot is through.
        vector: Vector,
        /// The last key given.
        after: Option<Key>,
    },
    /// Following the logs.
    Tail(Vector),
}

impl Position {
    /// What a follower has seen for certain; nothing while its snapshot goes on.
    pub const fn seen(&self) -> Option<&Vector> {
        match self {
            Self::Start | Self::Snapshot { .. } => None,
            Self::Tail(vector) => Some(vector),
        }
    }

    /// What whoever gives the next page has to cover; nothing before the first.
    pub const fn within(&self) -> Option<&Vector> {
        match self {
            Self::Start => None,
            Self::Snapshot { vector, .. } | Self::Tail(vector) => Some(vector),
        }
    }

    /// Whether whoever has come here has come as far as `other`, too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Start) => true,
            (Self::Tail(vector), Self::Tail(other)) => vector.covers(other),
            (Self::Tail(vector), Self::Snapshot { vector: began, .. }) => vector.covers(began),
            (
                Self::Snapshot { vector, after },
                Self::Snapshot { vector: other, after: other_after },
            ) => vector == other && after >= other_after,
            (Self::Start | Self::Snapshot { .. }, _) => false,
        }
    }
}

/// A position of one set, as clients carry it: opaque to them, good at every front end.
///
/// While following it *is* a session token: whoever has seen an event may read with it. Inside a
/// snapshot it also says how far that has come; `0` is the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The set that the position speaks of; `None`: the beginning, which is that of any set.
    pub set: Option<SetId>,
    /// How far.
    pub position: Position,
}

/// A text that no front end of this version gave out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position of this service")]
pub struct ParseMarkError;

/// The beginning.
const START: &str = "0";
/// First byte of a position inside a snapshot: a form that no session token has.
const SNAPSHOT_FORM: u8 = 2;
/// What stands for the length of a key that is not there.
const NO_KEY: u16 = u16::MAX;

impl Mark {
    /// A position of this set.
    pub const fn of(set: SetId, position: Position) -> Self {
        Self { set: Some(set), position }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(set) = self.set else { return f.write_str(START) };
        match &self.position {
            Position::Start => f.write_str(START),
            Position::Tail(vector) => Token { set, vector: vector.clone() }.fmt(f),
            Position::Snapshot { vector, after } => {
                let key = after.as_ref().map_or(&[][..], |key| key.bytes());
                let length = u16::try_from(key.len()).unwrap_or(NO_KEY);
                let length = if after.is_some() { length } else { NO_KEY };
                let mut bytes = vec![SNAPSHOT_FORM];
                bytes.extend(length.to_be_bytes());
                bytes.extend(key);
                bytes.extend(Token { set, vector: vector.clone() }.bytes());
                f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
            }
        }
    }
}

impl FromStr for Mark {
    type Err = ParseMarkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == START {
            return Ok(Self { set: None, position: Position::Start });
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseMarkError)?;
        let token = |bytes: &[u8]| Token::from_bytes(bytes).map_err(|_| ParseMarkError);
        let [SNAPSHOT_FORM, high, low, rest @ ..] = bytes.as_slice() else {
            let Token { set, vector } = token(&bytes)?;
            return Ok(Self::of(set, Position::Tail(vector)));
        };
        let length = u16::from_be_bytes([*high, *low]);
        let (after, rest) = if length == NO_KEY {
            (None, rest)
        } else {
            let (key, rest) = rest.split_at_checked(length.into()).ok_or(ParseMarkError)?;
            (Some(Key::stored(Space::Data, key.to_vec())), rest)
        };
        let Token { set, vector } = token(rest)?;
        Ok(Self::of(set, Position::Snapshot { vector, after }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Epoch, PartitionId, Seq, Version};

    fn vector(seq: u64) -> Vector {
        let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        [(PartitionId(3), version)].into_iter().collect()
    }

    #[test]
    fn a_position_survives_its_text() {
        let key = |bytes: &'static [u8]| Some(Key::stored(Space::Data, bytes));
        for position in [
            Position::Tail(vector(7)),
            Position::Tail(Vector::new()),
            Position::Snapshot { vector: vector(7), after: key(b"a\xff/\0") },
            Position::Snapshot { vector: vector(7), after: None },
        ] {
            let mark = Mark::of(SetId(9), position);
            assert_eq!(mark.to_string().parse(), Ok(mark));
        }
        let start = Mark::of(SetId(9), Position::Start);
        assert_eq!(start.to_string(), "0");
        assert_eq!("0".parse(), Ok(Mark { set: None, position: Position::Start }));
    }

    #[test]
    fn while_following_it_is_a_session_token() {
        let token = Token { set: SetId(9), vector: vector(7) };
        let mark = Mark::of(SetId(9), Position::Tail(vector(7)));
        assert_eq!(mark.to_string(), token.to_string());
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let good = Mark::of(
            SetId(9),
            Position::Snapshot { vector: vector(7), after: Some(Key::stored(Space::Data, "key")) },
        );
        let good = good.to_string();
        for text in ["", "1", "now", "AgAF", &good[..good.len() - 2], &good[4..]] {
            assert_eq!(text.parse::<Mark>(), Err(ParseMarkError), "{text:?}");
        }
    }

    #[test]
    fn positions_are_ordered_as_a_follower_passes_them() {
        let at = |seq, after: Option<&'static str>| Position::Snapshot {
            vector: vector(seq),
            after: after.map(|after| Key::stored(Space::Data, after)),
        };
        let passed = [
            Position::Start,
            at(5, None),
            at(5, Some("a")),
            at(5, Some("b")),
            Position::Tail(vector(5)),
            Position::Tail(vector(6)),
        ];
        for (nth, position) in passed.iter().enumerate() {
            for (mth, other) in passed.iter().enumerate() {
                assert_eq!(position.covers(other), nth >= mth, "{position:?} and {other:?}");
            }
        }
        assert!(!at(6, Some("a")).covers(&at(5, Some("a"))), "another snapshot");
    }
}
