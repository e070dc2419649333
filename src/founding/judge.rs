//! Whether what was found is one set, and what the configuration says otherwise than the set.

use super::difference::Difference;
use super::{FoundingError, Look, Unreachable, same_partition, same_schema, same_set};
use crate::partition::Identity;
use crate::topology::Topology;
use crate::version::Epoch;

/// What was founded has to be one set, each partition once, by the names that it stores. Takes
/// away whoever was retired, and tells what else the configuration says otherwise.
pub(super) fn judge_all(
    looks: &mut Vec<Look<'_>>,
    unreachable: &[Unreachable],
    configured: &Topology,
) -> Result<Difference, FoundingError> {
    let Some(stored) = newest_of(looks) else { return Ok(Difference::default()) };
    let is_retired = |look: &Look<'_>| {
        let id = look.identity.as_ref().map(|identity| identity.partition);
        let topology = &stored.topology;
        let was_retired = id.is_none_or(|id| topology.retired().contains(&id));
        // What is left of a retired one may have joined again, by another name.
        let is_another = id.and_then(|id| topology.voter(id)).is_some_and(|v| v.address.is_some());
        // An empty one is what is left of a retired one.
        (was_retired || is_another) && is_unused(topology, look.name)
    };
    looks.retain(|look| !is_retired(look));
    one_set(looks)?;
    let mut difference = Difference::between(&stored.topology, configured);
    let is_away = |name: &String| unreachable.iter().any(|one| one.name == *name);
    let is_looked_at = |name: &String| looks.iter().any(|look| look.name == *name);
    let may_be_retired = !stored.topology.retired().is_empty();
    difference.added.retain(|name| is_looked_at(name) || (is_away(name) && !may_be_retired));
    if difference.is_of_names() {
        let name = looks.first().map(|look| look.name.to_owned()).unwrap_or_default();
        return Err(FoundingError::TopologyDiffers { name, difference });
    }
    for look in looks.iter_mut() {
        look.id = stored.topology.voter_named(look.name).map_or(look.id, |voter| voter.id);
    }
    let standing = looks.iter().filter_map(|look| Some((look, look.identity.as_ref()?)));
    for (look, identity) in standing {
        same_partition(look.name, identity, look.id)?;
    }
    Ok(difference)
}

/// Whether the set has had voters that were retired, and knows nobody of this name.
fn is_unused(topology: &Topology, name: &str) -> bool {
    !topology.retired().is_empty() && topology.voter_named(name).is_none()
}

/// What stores the newest topology.
fn newest_of(looks: &[Look<'_>]) -> Option<Identity> {
    let identities = looks.iter().filter_map(|look| look.identity.as_ref());
    identities.max_by_key(|identity| newness(identity)).cloned()
}

pub(super) fn newness(identity: &Identity) -> (u64, Epoch) {
    (identity.topology.revision(), identity.topology.epoch())
}

/// One schema, one set, each id once.
fn one_set(looks: &[Look<'_>]) -> Result<(), FoundingError> {
    let standing: Vec<(&Look<'_>, &Identity)> =
        looks.iter().filter_map(|look| Some((look, look.identity.as_ref()?))).collect();
    let Some(&(first, first_identity)) = standing.first() else { return Ok(()) };
    let witness = format!("`{}`", first.name);
    for (look, identity) in &standing {
        same_schema(look.name, identity)?;
        same_set(look.name, identity, first_identity.set, &witness)?;
    }
    for (nth, (look, identity)) in standing.iter().enumerate() {
        let same = |(_, other): &&(&Look<'_>, &Identity)| other.partition == identity.partition;
        if let Some((before, _)) = standing[..nth].iter().find(same) {
            return Err(FoundingError::OneIdentity {
                first: before.name.to_owned(),
                second: look.name.to_owned(),
                partition: identity.partition,
            });
        }
    }
    Ok(())
}
