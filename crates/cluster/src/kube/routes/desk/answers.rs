//! What is said about a route that was published.

use longshore_types::{AdapterKey, Fault, Scope};
use tokio::time::Instant;

use super::super::super::slices::Subject;
use super::slices::{SliceLane, taken_names};
use super::{Answered, Desk, Id};

/// Which numbers of an adapter's route wait for an answer, and what was answered last.
#[derive(Debug, Default)]
pub(super) struct Answers {
    sequence: u64,
    owed: Vec<u64>,
    told: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    sequence: u64,
    result: Result<(), Fault>,
    notice: Option<Fault>,
}

impl Answers {
    /// A route of this number is to be written. Whether it is not older than the one that is known.
    pub(super) fn owe(&mut self, sequence: u64) -> bool {
        self.owed.push(sequence);
        let newer = sequence >= self.sequence;
        self.sequence = self.sequence.max(sequence);
        newer
    }

    /// The answers to all that wait.
    pub(super) fn give_up(self, adapter: &AdapterKey, fault: &Fault) -> Vec<Answered> {
        let answer =
            |sequence| Answered { adapter: adapter.clone(), sequence, result: Err(fault.clone()), notice: None };
        self.owed.into_iter().map(answer).collect()
    }
}

impl Desk {
    /// Whether the subject has endpoints and all its slices are as they should be.
    pub(super) fn has_endpoints_standing(&self, subject: &Subject) -> bool {
        let has = self.wanted.get(subject).is_some_and(|wanted| !wanted.dirty && !wanted.endpoints.is_empty());
        has && self.stands(subject)
    }

    fn lanes_of(&self, subject: &Subject) -> impl Iterator<Item = &SliceLane> {
        self.of.get(subject).into_iter().flatten().filter_map(|id: &Id| self.slices.get(id))
    }

    fn stands(&self, subject: &Subject) -> bool {
        self.is_ready() && self.lanes_of(subject).all(SliceLane::stands)
    }

    /// Answers what can be answered, and says whether others make way for the subject.
    pub(super) fn answer(&mut self, now: Instant, subject: &Subject) {
        let busy = self.is_ready() && self.lanes_of(subject).any(SliceLane::is_busy);
        let verdict = self.verdict(now, subject);
        let notice = self.notice(now, subject);
        let Some(wanted) = self.wanted.get_mut(subject) else { return };
        if busy {
            wanted.piece.get_or_insert_with(|| self.urgent.begin());
        } else {
            wanted.piece = None;
        }
        let (Some(answers), Subject::Adapter(adapter), Some(result)) = (&mut wanted.answers, subject, verdict) else {
            return;
        };
        let told = Told { sequence: answers.sequence, result, notice };
        let changed = answers.told.as_ref().is_some_and(|before| *before != told && before.sequence == told.sequence);
        let mut owed = std::mem::take(&mut answers.owed);
        if owed.is_empty() && changed {
            owed.push(told.sequence);
        }
        if owed.is_empty() {
            return;
        }
        self.answers.extend(owed.into_iter().map(|sequence| Answered {
            adapter: adapter.clone(),
            sequence,
            result: told.result.clone(),
            notice: told.notice.clone(),
        }));
        answers.told = Some(told);
    }

    /// Whether routers have been given what they should be; nothing while that is not known.
    fn verdict(&self, now: Instant, subject: &Subject) -> Option<Result<(), Fault>> {
        if let Some(fault) = &self.over {
            return Some(Err(fault.clone()));
        }
        let wanted = self.wanted.get(subject).filter(|wanted| !wanted.dirty)?;
        if self.stands(subject) {
            if !wanted.refused.is_empty() && wanted.refused.len() == wanted.endpoints.len() {
                return Some(Err(address_refused(&wanted.refused)));
            }
            let first = wanted.answers.as_ref().is_some_and(|answers| answers.told.is_none());
            let Subject::Adapter(key) = subject else { return Some(Ok(())) };
            // The first time it is also said whether there is a Service; later ones do not wait for that.
            return (!first || !self.is_service_to_come(key)).then_some(Ok(()));
        }
        self.lanes_of(subject).find_map(|lane| lane.lane().fault(now)).map(|fault| Err(fault.clone()))
    }

    fn notice(&self, now: Instant, subject: &Subject) -> Option<Fault> {
        let Subject::Adapter(key) = subject else { return None };
        let conflict = |message| Some(Fault::new(Scope::Engine, "ServiceConflict", message));
        if self.has_foreign_service(key) {
            return conflict(format!(
                "a Service named {} that belongs to something else is in namespace {}: requests reach the adapter through \
                 routers only, until that Service is deleted or the adapter has another name",
                key.name,
                key.namespace()
            ));
        }
        if let Some(name) = taken_names(self, subject).first() {
            return conflict(format!(
                "an EndpointSlice named {name} that belongs to something else is in namespace {}, where one of this adapter \
                 would be; another name is used until it is deleted",
                key.namespace()
            ));
        }
        let refused = self.wanted.get(subject).map(|wanted| wanted.refused.as_slice()).unwrap_or_default();
        self.service_fault(now, key).or_else(|| (!refused.is_empty()).then(|| address_refused(refused)))
    }
}

fn address_refused(why: &[String]) -> Fault {
    const SHOWN: usize = 3;
    let more = why.len().saturating_sub(SHOWN);
    let mut message = why.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    Fault::new(Scope::Engine, "AddressRefused", message)
}
