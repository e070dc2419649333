//! Restoring a set from the backup of one partition.
//!
//! A copy that was put back never rejoins the set that it was taken from: it would give versions
//! again that others have seen (VER-1), and bring back what was deleted (DEL-1). So it begins a
//! *new set*, under an epoch above every clock that can be asked; all other partitions are emptied
//! under the new set's id, marked as reseeding, and made anew from it. Until each is, it serves
//! nothing and holds trimming back. Tokens and feed positions of the old set are told that it is
//! gone.
//!
//! The one with the backup is renamed last: broken off before that, nothing of it has changed, and
//! doing it again is safe at every point.

use super::difference::Difference;
use super::{
    Configured, FoundingError, Look, OpenSet, look, own_databases, same_names, same_partition,
    same_schema,
};
use crate::partition::{Beginning, Identity, SCHEMA_VERSION};
use crate::topology::Topology;
use crate::version::{Epoch, SetId};

/// Begins `new_set` with what the partition `name` holds. All others have to be empty, or of the
/// set that it was part of, or left over from doing this before.
pub fn begin_restored(
    partitions: &[Configured],
    configured: &Topology,
    name: &str,
    new_set: SetId,
) -> Result<OpenSet, FoundingError> {
    same_names(partitions, configured)?;
    let (mut looks, unreachable) = look(partitions, configured)?;
    own_databases(partitions)?;
    if !unreachable.is_empty() {
        return Err(FoundingError::NeedsAll { unreachable });
    }
    let backup = looks.iter().position(|look| look.name == name);
    let backup = backup.ok_or_else(|| FoundingError::NotInTopology { name: name.to_owned() })?;
    let backup = looks.remove(backup);
    let Some(stored) = backup.identity.clone() else {
        return Err(FoundingError::Empty { name: name.to_owned() });
    };
    same_schema(name, &stored)?;
    looks.push(backup);
    as_stored(&mut looks, &stored.topology, name)?;
    let backup = looks.pop().expect("the backup is a partition of its set, so it stayed");
    same_partition(name, &stored, backup.id)?;
    for look in &mut looks {
        may_be_emptied(look, &stored)?;
    }
    looks.push(backup);
    let epoch = greatest_epoch(&mut looks)?.next();
    // Whatever change of its voters the old set was in the middle of.
    let topology = stored.topology.settle().seeded(new_set).at_epoch(epoch);
    for look in &mut looks {
        let identity = Identity {
            set: new_set,
            partition: look.id,
            schema: SCHEMA_VERSION,
            topology: topology.clone(),
        };
        let from = if look.name == name { Beginning::Backup } else { Beginning::Nothing };
        look.connection
            .begin_anew(&identity, from)
            .map_err(|source| FoundingError::Partition { name: look.name.to_owned(), source })?;
    }
    let ignored = Difference::default();
    Ok(OpenSet { set: new_set, topology, ignored, founded: true, unreachable: Vec::new() })
}

/// The partitions under the ids that they had in the set of the backup, whoever was retired there
/// left out. All of its voters have to be configured, those too that were added while it was
/// served: the new set counts on them.
fn as_stored(
    looks: &mut Vec<Look<'_>>,
    stored: &Topology,
    name: &str,
) -> Result<(), FoundingError> {
    let is_stored = |look: &Look<'_>| stored.voter_named(look.name).is_some();
    if !stored.retired().is_empty() {
        looks.retain(|look| is_stored(look) || look.name == name);
    }
    let added = looks.iter().filter(|look| !is_stored(look)).map(|look| look.name.to_owned());
    let names = stored.voters().iter().map(|voter| &voter.name);
    let missing = names.filter(|name| looks.iter().all(|look| look.name != **name)).cloned();
    let (added, missing) = (added.collect(), missing.collect());
    let difference = Difference { added, missing, ..Difference::default() };
    if difference.is_of_names() {
        return Err(FoundingError::TopologyDiffers { name: name.to_owned(), difference });
    }
    for look in looks {
        look.id = stored.voter_named(look.name).map_or(look.id, |voter| voter.id);
    }
    Ok(())
}

/// The greatest epoch of those that were founded.
fn greatest_epoch(looks: &mut [Look<'_>]) -> Result<Epoch, FoundingError> {
    let mut epoch = Epoch::FIRST;
    for look in looks.iter_mut().filter(|look| look.identity.is_some()) {
        let status = look
            .connection
            .status()
            .map_err(|source| FoundingError::Partition { name: look.name.to_owned(), source })?;
        epoch = epoch.max(status.epoch);
    }
    Ok(epoch)
}

/// What another set holds is nobody's to empty.
fn may_be_emptied(look: &mut Look<'_>, backup: &Identity) -> Result<(), FoundingError> {
    let Some(identity) = &look.identity else { return Ok(()) };
    same_schema(look.name, identity)?;
    // Emptied before, under the id of a set that was never completed.
    let is_left_over = look.connection.status().is_ok_and(|status| status.reseeding);
    if identity.set == backup.set || is_left_over {
        return same_partition(look.name, identity, look.id);
    }
    Err(FoundingError::ForeignSet {
        name: look.name.to_owned(),
        set: identity.set,
        expected: backup.set,
        witness: "the backup".to_owned(),
    })
}
