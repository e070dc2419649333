//! Where everybody stands, asked of all at once, with little patience.
//!
//! A thread a partition asks for its status whenever somebody wants to know; a question that is
//! under way serves nobody who came after it began, since what was written in between may be
//! missing in its answer. A partition that does not answer costs whoever asks [`Standings::ask`]'s
//! patience once; while the question hangs, it costs nobody anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::round::Member;
use crate::clock::Clock;
use crate::lane::{Connect, DEAD_AT_ONCE};
use crate::partition::{PartitionError, Status};
use crate::version::PartitionId;

/// How long the end of the process waits for a question that is under way.
const END_MAX: Duration = Duration::from_secs(1);

/// Where a partition stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Just before it was asked: what was written before is in `status`.
    pub at: Duration,
    /// What it said.
    pub status: Status,
}

/// What a partition said, or why it said nothing.
pub type Told = Result<Standing, Arc<PartitionError>>;

/// The threads that ask. Dropping them lets those that do not hang come to their end.
pub struct Standings {
    askers: Mutex<BTreeMap<PartitionId, Arc<Asker>>>,
    clock: Arc<dyn Clock>,
}

struct Asker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Desk {
    questions: Mutex<Questions>,
    changed: Condvar,
}

#[derive(Default)]
struct Questions {
    /// How many questions were put.
    put: u64,
    /// Which of them the last answer is good for.
    answered: u64,
    answer: Option<Told>,
    /// Since when a question is under way.
    asking_since: Option<Duration>,
    stopping: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standings {
    /// Starts a thread for each member.
    pub fn start(members: &[Member], clock: &Arc<dyn Clock>) -> std::io::Result<Self> {
        let standings = Self { askers: Mutex::default(), clock: Arc::clone(clock) };
        members.iter().try_for_each(|member| standings.add(member))?;
        Ok(standings)
    }

    /// Asks one more from now on.
    pub fn add(&self, member: &Member) -> std::io::Result<()> {
        let desk = Arc::new(Desk::default());
        let thread = std::thread::Builder::new().name(format!("ask-{}", member.name));
        let (own, connect) = (Arc::clone(&desk), Arc::clone(&member.connect));
        let clock = Arc::clone(&self.clock);
        let thread = thread.spawn(move || work(&own, connect.as_ref(), clock.as_ref()))?;
        self.lock().insert(member.id, Arc::new(Asker { desk, thread: Some(thread) }));
        Ok(())
    }

    /// Asks one no longer.
    pub fn remove(&self, id: PartitionId) {
        let asker = self.lock().remove(&id);
        if let Some(asker) = &asker {
            asker.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Arc<Asker>>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks everybody now, and waits for those who answer within `patience`.
    pub fn ask(&self, patience: Duration) -> BTreeMap<PartitionId, Told> {
        let tickets: Vec<(PartitionId, Arc<Asker>, u64)> =
            self.lock().iter().map(|(id, asker)| (*id, Arc::clone(asker), asker.put())).collect();
        let until = self.clock.monotonic() + patience;
        let answer = |(id, asker, ticket): (PartitionId, Arc<Asker>, u64)| {
            (id, asker.answer(ticket, until, patience, self.clock.as_ref()))
        };
        tickets.into_iter().map(answer).collect()
    }
}

impl Asker {
    /// Its thread ends after the question under way.
    fn stop(&self) {
        self.desk.lock().stopping = true;
        self.desk.changed.notify_all();
    }

    fn put(&self) -> u64 {
        let mut questions = self.desk.lock();
        questions.put += 1;
        self.desk.changed.notify_all();
        questions.put
    }

    fn answer(&self, ticket: u64, until: Duration, patience: Duration, clock: &dyn Clock) -> Told {
        let mut questions = self.desk.lock();
        loop {
            if questions.answered >= ticket
                && let Some(answer) = &questions.answer
            {
                return answer.clone();
            }
            let now = clock.monotonic();
            let hangs = questions.asking_since.is_some_and(|since| now > since + patience);
            if hangs || now >= until {
                return Err(Arc::new(silent()));
            }
            let waited = self.desk.changed.wait_timeout(questions, until - now);
            let timed_out;
            (questions, timed_out) = match waited {
                Ok((questions, timeout)) => (questions, timeout.timed_out()),
                Err(poisoned) => (poisoned.into_inner().0, true),
            };
            // By the system's time, also where the clock that was handed in stands still.
            if timed_out && questions.answered < ticket {
                return Err(Arc::new(silent()));
            }
        }
    }
}

fn silent() -> PartitionError {
    PartitionError::OutcomeUnknown("no answer to the question where it stands".into())
}

impl Drop for Standings {
    fn drop(&mut self) {
        // All of them before the first is waited for.
        self.lock().values().for_each(|asker| asker.stop());
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop();
        let asking = |questions: &mut Questions| questions.asking_since.is_some();
        let waited = self.desk.changed.wait_timeout_while(self.desk.lock(), END_MAX, asking);
        let hangs = waited.is_ok_and(|(questions, _)| questions.asking_since.is_some());
        if let Some(thread) = self.thread.take().filter(|_| !hangs) {
            // A panic was reported when it happened.
            drop(thread.join());
        }
    }
}

fn work(desk: &Desk, connect: &dyn Connect, clock: &dyn Clock) {
    loop {
        let idle =
            |questions: &mut Questions| questions.put == questions.answered && !questions.stopping;
        let questions = desk.changed.wait_while(desk.lock(), idle);
        let mut questions = questions.unwrap_or_else(PoisonError::into_inner);
        if questions.stopping {
            return;
        }
        let good_for = questions.put;
        let at = clock.monotonic();
        questions.asking_since = Some(at);
        drop(questions);
        let answer = status(connect, clock);
        let mut questions = desk.lock();
        questions.asking_since = None;
        questions.answered = good_for;
        questions.answer = Some(answer.map(|status| Standing { at, status }).map_err(Arc::new));
        desk.changed.notify_all();
    }
}

/// A connection that stood idle may have died with its server: that shows at once, and it is asked
/// once more, over a new one.
fn status(connect: &dyn Connect, clock: &dyn Clock) -> Result<Status, PartitionError> {
    let ask = || connect.connect()?.status();
    let began = clock.monotonic();
    let result = ask();
    if matches!(&result, Err(PartitionError::Damaged { .. })) {
        connect.tell_damaged();
    }
    let is_prompt = clock.monotonic().saturating_sub(began) < DEAD_AT_ONCE;
    if is_prompt && result.as_ref().is_err_and(PartitionError::lost_connection) {
        return ask();
    }
    result
}
