//! Secrets that are kept in the partitions: sealed with a key that is not.
//!
//! Whoever reads the partitions, or a backup of them, learns no password. All front ends have the
//! same key, from a file of the configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::partition::mysql::MysqlUrl;

/// The URL of a database, sealed where it has a password: without secrets, and the sealed whole.
/// `None`: it has a password, and there is no key to seal it with.
pub fn seal_url(
    sealer: Option<&Sealer>,
    url: &MysqlUrl,
    text: &str,
) -> Option<(String, Option<String>)> {
    let sealed = if url.has_password() { Some(sealer?.seal(text)?) } else { None };
    Some((url.to_string(), sealed))
}

/// The URL that was sealed so; `None`: not with this key.
pub fn open_url(sealer: Option<&Sealer>, url: &str, sealed: Option<&str>) -> Option<MysqlUrl> {
    let opened = match sealed {
        Some(sealed) => sealer?.open(sealed)?,
        None => url.to_owned(),
    };
    opened.parse().ok()
}

/// Seals secrets, and opens them again.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// With a key that is made of this text.
    pub fn new(key: &str) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &Sha256::digest(key.as_bytes()));
        Self(LessSafeKey::new(key.expect("the digest has as many bytes as the key")))
    }

    /// A text that tells nothing of `secret` to whoever has not the key. `None`: the system gives
    /// no random numbers.
    pub fn seal(&self, secret: &str) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = secret.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed).ok()?;
        Some(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// What was sealed; `None`: not with this key, or it was changed since.
    pub fn open(&self, sealed: &str) -> Option<String> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let secret = self.0.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        String::from_utf8(secret.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_opens_what_nobody_has_changed() {
        let sealer = Sealer::new("a key");
        let sealed = sealer.seal("mysql://u:secret@h/d").unwrap();
        assert!(!STANDARD.decode(&sealed).unwrap().windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(sealer.seal("mysql://u:secret@h/d").unwrap(), sealed);
        assert_eq!(Sealer::new("a key").open(&sealed).as_deref(), Some("mysql://u:secret@h/d"));
        assert_eq!(Sealer::new("another").open(&sealed), None);
        let mut changed = STANDARD.decode(&sealed).unwrap();
        changed[NONCE_LEN] ^= 1;
        assert_eq!(sealer.open(&STANDARD.encode(changed)), None);
        assert_eq!(sealer.open("short"), None);
    }

    #[test]
    fn a_url_shows_no_password_and_is_whole_again_with_the_key() {
        let sealer = Sealer::new("a key");
        let (text, bare) = ("mysql://u:secret@h/d", "mysql://u@h/d");
        let url: MysqlUrl = text.parse().unwrap();
        assert_eq!(seal_url(None, &url, text), None, "nobody could keep it");
        let (shown, sealed) = seal_url(Some(&sealer), &url, text).unwrap();
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(open_url(Some(&sealer), &shown, sealed.as_deref()), Some(url));
        assert_eq!(open_url(None, &shown, sealed.as_deref()), None);
        let url: MysqlUrl = bare.parse().unwrap();
        let (shown, sealed) = seal_url(None, &url, bare).unwrap();
        assert_eq!((open_url(None, &shown, None), sealed), (Some(url), None));
    }
}
