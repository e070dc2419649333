//! Parameters of prepared statements, and the few values that are written out.

use mysql::Value;

use crate::partition::Entry;
use crate::record::{Key, Record, Space};

/// The parameters of `size` items, the last one repeated for those that are missing.
pub(super) fn filled<T, const N: usize>(
    items: &[T],
    size: usize,
    params: impl Fn(&T) -> [Value; N],
) -> Vec<Value> {
    let mut all = Vec::with_capacity(size * N);
    for nth in 0..size {
        if let Some(item) = items.get(nth).or(items.last()) {
            all.extend(params(item));
        }
    }
    all
}

pub(super) fn key_params(keys: &[&Key], size: usize) -> Vec<Value> {
    filled(keys, size, |key| [bytes(key.bytes())])
}

pub(super) fn row_params(row: &Record, now_ms: i64) -> [Value; 9] {
    let body = row.body.as_ref();
    [
        bytes(row.key.bytes()),
        Value::Int(row.version.packed()),
        Value::Int(row.origin.0.into()),
        Value::Int(row.is_tombstone().into()),
        body.and_then(|body| body.expires_at).map_or(Value::NULL, Value::Int),
        Value::Int(now_ms),
        Value::Int(row.checksum().cast_signed()),
        bytes(body.map_or(&[], |body| body.content_type.as_bytes())),
        bytes(body.map_or(&[], |body| body.value.as_ref())),
    ]
}

/// As column `space` of table `change` tells the two apart.
pub(super) const fn stored_space(space: Space) -> i64 {
    match space {
        Space::Data => 0,
        Space::System => 1,
    }
}

pub(super) fn entry_params(entry: &Entry) -> [Value; 4] {
    let space = Value::Int(stored_space(entry.key.space()));
    let version = Value::Int(entry.version.packed());
    [Value::Int(entry.origin.0.into()), version, space, bytes(entry.key.bytes())]
}

/// The same, written out.
pub(super) fn spell_entry(sql: &mut String, entry: &Entry) {
    let mut numbers = itoa::Buffer::new();
    sql.push('(');
    for number in [entry.origin.0.into(), entry.version.packed(), stored_space(entry.key.space())] {
        sql.push_str(numbers.format(number));
        sql.push(',');
    }
    spell_bytes(sql, entry.key.bytes());
    sql.push(')');
}

pub(super) fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

/// Bytes as SQL has them: digits, whatever they are.
fn spell_bytes(sql: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    sql.push_str("x'");
    for byte in bytes {
        sql.push(digit(byte >> 4));
        sql.push(digit(byte & 15));
    }
    sql.push('\'');
}

/// A count as the server takes it.
pub(super) fn bounded(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn number(number: u64) -> Value {
    Value::Int(number.cast_signed())
}

/// The least bytes above all that begin with `prefix`; `None` where there are none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Epoch, PartitionId, Seq, Version};

    #[test]
    fn an_entry_is_written_out_whatever_its_key() {
        let version = Version::new(Epoch::FIRST, Seq::new(3).unwrap());
        let key = Key::stored(Space::System, &b"'\\\x00\xff"[..]);
        let mut text = String::new();
        spell_entry(&mut text, &Entry { origin: PartitionId(2), version, key });
        assert_eq!(text, format!("(2,{},1,x'275C00FF')", version.packed()));
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(after_prefix(b"a"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn what_is_missing_repeats_the_last_item() {
        let (a, b) = (Key::stored(Space::Data, "a"), Key::stored(Space::Data, "b"));
        let params = key_params(&[&a, &b], 4);
        let value = |text: &str| Value::Bytes(text.into());
        assert_eq!(params, [value("a"), value("b"), value("b"), value("b")]);
    }
}
