//! Plans: what would be done to have so many read copies, and nothing done yet.
//!
//! A plan names the epoch of the topology that it is based on. Whoever carries it out says that
//! epoch, and is refused where the topology has moved on: what was looked at is not what is there.

use super::copies::CopyRecord;
use crate::config::scaling::Provision;
use crate::topology::State;
use crate::version::Epoch;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A copy is made.
    Add {
        /// Where its database comes from.
        from: Provision,
    },
    /// A copy is taken away.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The epoch that it is based on.
    pub epoch: Epoch,
    /// How many copies there are.
    pub copies: usize,
    /// How many there are to be.
    pub wanted: usize,
    /// How they come about, in order.
    pub steps: Vec<Step>,
}

/// The copies that there are, but for those that are about to go.
pub fn staying(records: &[CopyRecord]) -> impl Iterator<Item = &CopyRecord> {
    records.iter().filter(|record| record.state != State::Draining)
}

/// From what there is to so many copies. Those go first that are in trouble, then the youngest.
pub fn plan(epoch: Epoch, records: &[CopyRecord], wanted: usize, from: Provision) -> Plan {
    let mut copies: Vec<&CopyRecord> = staying(records).collect();
    copies.sort_by_key(|record| (record.trouble.is_some(), record.copy.id));
    let count = copies.len();
    let going = copies.into_iter().skip(wanted).rev();
    let remove = going.map(|record| Step::Remove { name: record.copy.name.clone() });
    let add = std::iter::repeat_n(Step::Add { from }, wanted.saturating_sub(count));
    Plan { epoch, copies: count, wanted, steps: remove.chain(add).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::copies::{NewCopy, Source};
    use crate::version::PartitionId;

    fn record(nth: u16, state: State, trouble: Option<&str>) -> CopyRecord {
        let (id, name) = (PartitionId(PartitionId::FIRST_COPY.0 + nth), format!("copy_{nth}"));
        let copy = NewCopy { id, name, source: Source::Sqlite, home: None };
        let record = CopyRecord::joining(copy, "f", 0).become_at(state, 0);
        CopyRecord { trouble: trouble.map(str::to_owned), ..record }
    }

    fn steps(records: &[CopyRecord], wanted: usize) -> Vec<String> {
        let plan = plan(Epoch::FIRST, records, wanted, Provision::Mariadb);
        let told = plan.steps.into_iter().map(|step| match step {
            Step::Add { from } => format!("+{}", from.name()),
            Step::Remove { name } => format!("-{name}"),
        });
        told.collect()
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_too_much_goes() {
        let records = [record(1, State::Active, None), record(2, State::Active, None)];
        assert_eq!(steps(&records, 4), ["+mariadb", "+mariadb"]);
        assert!(steps(&records, 2).is_empty());
        assert_eq!(steps(&records, 1), ["-copy_2"]);
        assert_eq!(steps(&records, 0), ["-copy_2", "-copy_1"]);
    }

    #[test]
    fn trouble_goes_first_and_what_drains_is_gone_already() {
        let records = [
            record(1, State::Active, Some("cannot be reached")),
            record(2, State::Active, None),
            record(3, State::Draining, None),
        ];
        assert_eq!(steps(&records, 1), ["-copy_1"]);
        assert_eq!(steps(&records, 3), ["+mariadb"]);
    }
}
