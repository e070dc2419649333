//! How a configuration and a stored topology differ, in words.

use std::fmt;

use super::quoted;
use crate::topology::{Role, Topology};

/// What a configured topology has otherwise than a stored one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Configured and not stored.
    pub added: Vec<String>,
    /// Stored and not configured.
    pub missing: Vec<String>,
    /// Name, stored role, configured role.
    pub roles: Vec<(String, Role, Role)>,
    /// Name, slots stored, slots configured, where the roles are the same.
    pub slots: Vec<(String, usize, usize)>,
}

impl Difference {
    /// What `configured` has otherwise than `stored`.
    pub fn between(stored: &Topology, configured: &Topology) -> Self {
        let names_not_in = |all: &Topology, other: &Topology| -> Vec<String> {
            let names = all.voters().iter().map(|voter| &voter.name);
            names.filter(|name| other.voter_named(name).is_none()).cloned().collect()
        };
        let mut difference = Self {
            added: names_not_in(configured, stored),
            missing: missing_of(stored, configured),
            ..Self::default()
        };
        for voter in configured.voters() {
            let Some(before) = stored.voter_named(&voter.name) else { continue };
            let slots = (stored.slots_of(before.id), configured.slots_of(voter.id));
            if before.role != voter.role {
                difference.roles.push((voter.name.clone(), before.role, voter.role));
            } else if slots.0 != slots.1 {
                difference.slots.push((voter.name.clone(), slots.0, slots.1));
            }
        }
        difference
    }

    /// Whether it is about who there is, not about what they are for.
    pub const fn is_of_names(&self) -> bool {
        !self.added.is_empty() || !self.missing.is_empty()
    }

    /// Whether there is none that would be told.
    pub const fn is_empty(&self) -> bool {
        !self.is_of_names() && self.roles.is_empty() && self.slots.is_empty()
    }
}

/// Who was added while the set was running is reached as the set says.
fn missing_of(stored: &Topology, configured: &Topology) -> Vec<String> {
    let here = stored.voters().iter().filter(|voter| voter.address.is_none());
    let missing = here.filter(|voter| configured.voter_named(&voter.name).is_none());
    missing.map(|voter| voter.name.clone()).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.added.is_empty() {
            parts.push(format!("{} not in the stored set", quoted(&self.added)));
        }
        if !self.missing.is_empty() {
            parts.push(format!("{} stored but not configured", quoted(&self.missing)));
        }
        for (name, stored, configured) in &self.roles {
            parts.push(format!("`{name}` has role {configured}, stored is {stored}"));
        }
        for (name, stored, configured) in &self.slots {
            parts.push(format!("`{name}` has {configured} slots, stored are {stored}"));
        }
        if parts.is_empty() {
            parts.push("ids or slots are given out otherwise".into());
        }
        f.write_str(&parts.join(", "))
    }
}
