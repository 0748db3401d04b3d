//! What to do about a Lease: client-go's algorithm as one pure function.

use std::time::Duration;

use tokio::time::Instant;

use super::LeaseTimes;
use super::view::LeaseView;

/// One contender.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub identity: String,
    pub times: LeaseTimes,
    /// What was last seen, and since when it has not changed.
    seen: Option<(LeaseView, Instant)>,
    /// While it leads: before it sent the renewal that was granted last.
    renewed: Option<Instant>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// There is no Lease: make it ours.
    Create {
        /// How often it has changed hands then.
        transitions: u32,
    },
    /// It is free: make it ours.
    Take {
        /// How often it has changed hands then.
        transitions: u32,
    },
    /// It is ours: say so again.
    Renew,
    /// Another holds it, until then at least.
    Wait {
        /// When it may be taken if nothing changes.
        until: Instant,
    },
    /// We led, and may no more.
    Over(Why),
}

/// Why a leader leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    /// The Lease was not renewed in time.
    #[error("the Lease could not be renewed within {} s", .0.as_secs_f64())]
    NotRenewed(Duration),
    /// Another has it.
    #[error("{0} holds the Lease now")]
    Taken(String),
    /// It says that nobody has it, which was not us.
    #[error("the Lease was taken away")]
    TakenAway,
}

impl State {
    pub(super) fn new(identity: String, times: LeaseTimes) -> Self {
        Self { identity, times, seen: None, renewed: None }
    }

    /// Whether it leads, as far as it has been told.
    pub(super) fn leads(&self) -> bool {
        self.renewed.is_some()
    }

    /// Until when it leads.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.times.renew_deadline)
    }

    /// Why it leads no more, where its time is over, whatever the Lease says.
    pub(super) fn overdue(&self, now: Instant) -> Option<Why> {
        self.deadline().is_some_and(|deadline| now >= deadline).then_some(Why::NotRenewed(self.times.renew_deadline))
    }

    /// The Lease was looked at. One that is gone is remembered: its holder may not know yet that it is.
    pub(super) fn observe(&mut self, now: Instant, seen: Option<&LeaseView>) {
        if let Some(view) = seen
            && self.seen.as_ref().is_none_or(|(before, _)| before != view)
        {
            self.seen = Some((view.clone(), now));
        }
    }

    /// A write of ours was granted that was sent then.
    pub(super) fn granted(&mut self, sent: Instant) {
        self.renewed = Some(sent);
    }

    /// When what was last seen can be taken, where another holds it.
    fn held_until(&self) -> Option<Instant> {
        let (view, since) = self.seen.as_ref()?;
        let holder = view.holder.as_ref()?;
        (*holder != self.identity).then(|| *since + view.duration.unwrap_or(self.times.duration))
    }

    /// How often the Lease will have changed hands when this process takes it.
    fn transitions(&self) -> u32 {
        self.seen.as_ref().map_or(0, |(view, _)| view.transitions.saturating_add(1))
    }
}

/// What `me`, who has [observed](State::observe) `seen`, does now.
pub(super) fn step(now: Instant, seen: Option<&LeaseView>, me: &State) -> Action {
    if let Some(why) = me.overdue(now) {
        return Action::Over(why);
    }
    match seen.map(|view| view.holder.as_deref()) {
        // Ours, also where we have not heard that our write was granted.
        Some(Some(holder)) if holder == me.identity => Action::Renew,
        Some(Some(holder)) if me.leads() => Action::Over(Why::Taken(holder.to_owned())),
        Some(None) if me.leads() => Action::Over(Why::TakenAway),
        Some(None) => Action::Take { transitions: me.transitions() },
        // Somebody deleted it under us. Whoever makes it anew leads, and until then nobody else does: so it is a renewal,
        // and the term goes on.
        None if me.leads() => Action::Create { transitions: me.transitions().saturating_sub(1) },
        // A Lease that is gone, like one that is not renewed, says nothing of its holder's last effects.
        Some(Some(_)) | None => match me.held_until() {
            Some(until) if now < until => Action::Wait { until },
            _ if seen.is_some() => Action::Take { transitions: me.transitions() },
            _ => Action::Create { transitions: me.transitions() },
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: Option<&str>, renewed: i64) -> LeaseView {
        spec(LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(4),
            renew_time: Some(MicroTime(jiff::Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        })
    }

    fn spec(spec: LeaseSpec) -> LeaseView {
        LeaseView::of(&Lease { spec: Some(spec), ..Lease::default() })
    }

    fn follower(now: Instant, seen: &LeaseView) -> State {
        let mut me = State::new("me_1".to_owned(), LeaseTimes::default());
        me.observe(now, Some(seen));
        me
    }

    fn leader(now: Instant) -> (State, LeaseView) {
        let ours = lease(Some("me_1"), 0);
        let mut me = follower(now, &ours);
        me.granted(now);
        (me, ours)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_free_is_taken_and_what_is_not_is_waited_for() {
        let now = Instant::now();
        let fresh = State::new("me_1".to_owned(), LeaseTimes::default());
        assert_eq!(step(now, None, &fresh), Action::Create { transitions: 0 });
        for free in [None, Some("")] {
            let free = lease(free, 0);
            assert_eq!(step(now, Some(&free), &follower(now, &free)), Action::Take { transitions: 5 });
        }
        let held = lease(Some("other_1"), 0);
        assert_eq!(step(now, Some(&held), &follower(now, &held)), Action::Wait { until: now + 15 * SECOND });
        let ours = lease(Some("me_1"), 0);
        assert_eq!(step(now, Some(&ours), &follower(now, &ours)), Action::Renew, "the answer to our write was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_by_how_long_it_was_seen_unchanged_whatever_its_times_say() {
        let now = Instant::now();
        // Renewed an hour ago and in an hour, by the holder's clock.
        for wall in [-3600, 3600] {
            let held = lease(Some("other_1"), wall);
            let me = follower(now, &held);
            assert!(matches!(step(now + 14 * SECOND, Some(&held), &me), Action::Wait { .. }));
            assert_eq!(step(now + 15 * SECOND, Some(&held), &me), Action::Take { transitions: 5 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_begins_the_time_anew_and_seeing_the_same_again_does_not() {
        let now = Instant::now();
        let held = lease(Some("other_1"), 0);
        let mut me = follower(now, &held);
        me.observe(now + 10 * SECOND, Some(&held));
        assert_eq!(step(now + 10 * SECOND, Some(&held), &me), Action::Wait { until: now + 15 * SECOND });
        let renewed = lease(Some("other_1"), 1);
        me.observe(now + 12 * SECOND, Some(&renewed));
        assert_eq!(step(now + 12 * SECOND, Some(&renewed), &me), Action::Wait { until: now + 27 * SECOND });
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_renews_until_its_deadline_and_not_after() {
        let now = Instant::now();
        let (mut me, ours) = leader(now);
        assert_eq!(step(now + 9 * SECOND, Some(&ours), &me), Action::Renew);
        let over = Action::Over(Why::NotRenewed(10 * SECOND));
        assert_eq!(step(now + 10 * SECOND, Some(&ours), &me), over);
        assert_eq!(step(now + 10 * SECOND, None, &me), over);
        me.granted(now + 2 * SECOND);
        assert_eq!(step(now + 10 * SECOND, Some(&ours), &me), Action::Renew);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_finds_another_or_nobody_in_its_place_is_over() {
        let now = Instant::now();
        let (me, _) = leader(now);
        let taken = Action::Over(Why::Taken("other_1".to_owned()));
        assert_eq!(step(now, Some(&lease(Some("other_1"), 0)), &me), taken);
        assert_eq!(step(now, Some(&lease(None, 0)), &me), Action::Over(Why::TakenAway));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_deleted_is_made_anew_by_its_holder_and_by_others_only_when_its_time_is_over() {
        let now = Instant::now();
        let (me, _) = leader(now);
        assert_eq!(step(now, None, &me), Action::Create { transitions: 4 }, "the same term");
        let me = follower(now, &lease(Some("other_1"), 0));
        assert_eq!(step(now + SECOND, None, &me), Action::Wait { until: now + 15 * SECOND });
        assert_eq!(step(now + 15 * SECOND, None, &me), Action::Create { transitions: 5 });
        let me = follower(now, &lease(None, 0));
        assert_eq!(step(now + SECOND, None, &me), Action::Create { transitions: 5 });
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_no_sense_in_a_lease_keeps_nobody_out_for_ever() {
        let now = Instant::now();
        let held = |seconds, transitions| {
            spec(LeaseSpec {
                holder_identity: Some("other".to_owned()),
                lease_duration_seconds: seconds,
                lease_transitions: transitions,
                ..LeaseSpec::default()
            })
        };
        for (seconds, until) in [(None, 15), (Some(0), 15), (Some(-3), 15), (Some(40), 40), (Some(i32::MAX), 3600)] {
            let held = held(seconds, None);
            assert_eq!(step(now, Some(&held), &follower(now, &held)), Action::Wait { until: now + until * SECOND });
        }
        let held = held(None, Some(-1));
        let me = follower(now, &held);
        assert_eq!(step(now + 15 * SECOND, Some(&held), &me), Action::Take { transitions: 1 });
        let empty = LeaseView::of(&Lease::default());
        assert_eq!(step(now, Some(&empty), &follower(now, &empty)), Action::Take { transitions: 1 });
    }
}
