use longshore_api::status::Phase;
use longshore_types::{Namespace, ObjectName, OwnerKind};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SAID_NO: Failure = Failure { silent: false, asked: None };
const SILENT: Failure = Failure { silent: true, asked: None };

fn object(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: Namespace::new("default").unwrap(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    }
}

/// A status with this phase and this many ready replicas.
fn write(name: &str, sequence: u64, phase: Phase, ready: i32, phase_change: bool) -> StatusWrite {
    let status = ModelAdapterStatus { phase, ready_replicas: ready, ..ModelAdapterStatus::default() };
    StatusWrite { object: object(name), sequence, status: Box::new(status), phase_change, acknowledge: true }
}

fn phase(name: &str, sequence: u64, phase: Phase) -> StatusWrite {
    write(name, sequence, phase, 0, true)
}

/// Writes everything that waits, as (object, phase, ready), each as soon as the one before is done.
fn drain(queue: &mut Queue, now: Instant) -> Vec<(String, Phase, i32)> {
    std::iter::from_fn(|| {
        let job = queue.pop(now, 8)?;
        queue.done(&job.object, now, true);
        Some((job.object.name.to_string(), job.status.phase, job.status.ready_replicas))
    })
    .collect()
}

#[test]
fn every_phase_is_written_in_order_and_one_at_a_time() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (sequence, step) in (1..).zip([Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running])
    {
        queue.push(phase("sql", sequence, step), "u".into());
    }
    let first = queue.pop(now, 8).unwrap();
    assert_eq!((first.status.phase, first.answers.clone()), (Phase::Pending, vec![1]));
    assert!(queue.pop(now, 8).is_none(), "one at a time");
    assert_eq!(queue.due(now, 8), None);
    queue.done(&first.object, now, true);
    let rest: Vec<_> = drain(&mut queue, now).into_iter().map(|(_, phase, _)| phase).collect();
    assert_eq!(rest, [Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running]);
    assert_eq!((queue.len(), queue.is_quiet(&object("sql")), queue.presses()), (0, true, false));
}

#[test]
fn counts_are_replaced_by_later_ones_and_the_later_one_answers_for_both() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.push(write("sql", 1, Phase::Running, 1, false), "u".into());
    queue.push(write("sql", 2, Phase::Running, 2, false), "u".into());
    let job = queue.pop(now, 8).unwrap();
    assert_eq!((job.status.ready_replicas, job.answers), (2, vec![2, 1]));
    // What is on its way is not touched by what comes.
    queue.push(write("sql", 3, Phase::Running, 3, false), "u".into());
    assert_eq!(queue.take_skipped(), 1);
    queue.done(&object("sql"), now, true);
    assert_eq!(queue.pop(now, 8).unwrap().status.ready_replicas, 3);
}

#[test]
fn a_phase_that_waits_is_shown_with_the_latest_counts() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.push(phase("sql", 1, Phase::Bound), "u".into());
    queue.push(phase("sql", 2, Phase::Running), "u".into());
    queue.push(write("sql", 3, Phase::Running, 2, false), "u".into());
    queue.push(phase("sql", 4, Phase::Pending), "u".into());
    let shown: Vec<_> = drain(&mut queue, now).into_iter().map(|(_, phase, ready)| (phase, ready)).collect();
    assert_eq!(shown, [(Phase::Bound, 0), (Phase::Running, 2), (Phase::Pending, 0)]);
}

#[test]
fn phases_are_skipped_only_when_more_than_fifty_objects_wait() {
    for (objects, written) in [(50, 3), (51, 1)] {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for index in 0..objects {
            for (sequence, step) in (1..).zip([Phase::Pending, Phase::Scheduled, Phase::Running]) {
                queue.push(phase(&format!("a{index}"), sequence, step), "u".into());
            }
        }
        let job = queue.pop(now, 8).unwrap();
        queue.done(&job.object, now, true);
        if objects > CROWD {
            assert_eq!((job.status.phase, job.answers), (Phase::Running, vec![3, 2, 1]));
            assert_eq!(queue.take_skipped(), 2);
        }
        let rest = drain(&mut queue, now).into_iter().filter(|(name, ..)| *name == job.object.name.to_string());
        assert_eq!(1 + rest.count(), written, "of {objects}");
    }
}

#[test]
fn objects_take_turns() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (sequence, step) in (1..).zip([Phase::Pending, Phase::Scheduled]) {
        queue.push(phase("a", sequence, step), "u".into());
    }
    queue.push(phase("b", 1, Phase::Pending), "u".into());
    let order: Vec<_> = drain(&mut queue, now).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(order, ["a", "b", "a"]);
}

#[test]
fn what_fails_keeps_its_place_and_is_tried_again_later() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.push(phase("sql", 1, Phase::Pending), "u".into());
    queue.push(phase("sql", 2, Phase::Scheduled), "u".into());
    let job = queue.pop(now, 8).unwrap();
    assert!(queue.failed(job, now, Failure { silent: false, asked: Some(SECOND) }));
    assert!(queue.pop(now, 8).is_none());
    assert!(!queue.presses(), "nobody makes way for what waits for its next attempt");
    let due = queue.due(now, 8).unwrap();
    assert!(due >= now + SECOND, "the API server has asked for a second");
    let phases: Vec<_> = drain(&mut queue, due).into_iter().map(|(_, phase, _)| phase).collect();
    assert_eq!(phases, [Phase::Pending, Phase::Scheduled]);
}

#[test]
fn counts_that_fail_are_not_tried_again_when_there_are_later_ones() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.push(write("sql", 1, Phase::Running, 1, false), "u".into());
    let job = queue.pop(now, 8).unwrap();
    queue.push(write("sql", 2, Phase::Running, 2, false), "u".into());
    queue.failed(job, now, SAID_NO);
    let again = queue.pop(queue.due(now, 8).unwrap(), 8).unwrap();
    assert_eq!((again.status.ready_replicas, again.answers), (2, vec![2, 1]));
}

#[test]
fn i11_objects_that_cannot_be_written_on_take_half_of_the_writes_at_most() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    for index in 0..20 {
        queue.push(phase(&format!("bad{index}"), 1, Phase::Pending), "u".into());
        let job = queue.pop(start, 8).unwrap();
        queue.failed(job, start, SAID_NO);
    }
    let later = start + SECOND * 60;
    for index in 0..20 {
        queue.push(phase(&format!("good{index}"), 1, Phase::Pending), "u".into());
    }
    let under_way: Vec<_> = std::iter::from_fn(|| queue.pop(later, 8)).collect();
    let bad = under_way.iter().filter(|job| job.object.name.as_str().starts_with("bad")).count();
    assert_eq!((under_way.len(), bad), (8, 4));
}

#[test]
fn retries_that_must_wait_for_each_other_are_not_due() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for name in ["a", "b"] {
        queue.push(phase(name, 1, Phase::Pending), "u".into());
        let job = queue.pop(now, 2).unwrap();
        queue.failed(job, now, SAID_NO);
    }
    let later = now + SECOND * 60;
    assert!(queue.pop(later, 2).is_some() && queue.pop(later, 2).is_none());
    assert_eq!(queue.due(later, 2), None, "or the caller would spin");
}

#[test]
fn once_the_api_server_answers_again_what_it_was_silent_about_is_tried_at_once() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for name in ["silent", "refused", "fine"] {
        queue.push(phase(name, 1, Phase::Pending), "u".into());
    }
    let jobs: Vec<_> = std::iter::from_fn(|| queue.pop(now, 8)).collect();
    let [silent, refused, fine] = <[_; 3]>::try_from(jobs).unwrap();
    queue.failed(silent, now, SILENT);
    queue.failed(refused, now, SAID_NO);
    queue.done(&fine.object, now, true);
    assert_eq!(drain(&mut queue, now), [("silent".to_owned(), Phase::Pending, 0)]);
}

#[test]
fn nothing_of_an_object_that_is_gone_is_written() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for name in ["waits", "fails", "under-way"] {
        queue.push(phase(name, 1, Phase::Pending), "u".into());
        queue.push(phase(name, 2, Phase::Scheduled), "u".into());
    }
    let waits = queue.pop(now, 8).unwrap();
    queue.done(&waits.object, now, true);
    let (fails, under_way) = (queue.pop(now, 8).unwrap(), queue.pop(now, 8).unwrap());
    queue.failed(fails, now, SAID_NO);
    for name in ["waits", "fails", "under-way"] {
        queue.forget(&object(name));
    }
    assert!(!queue.failed(under_way, now, SAID_NO));
    assert_eq!((queue.len(), queue.due(now, 8)), (0, None));
}

#[test]
fn statuses_of_an_object_are_not_mixed_with_those_of_the_one_that_had_its_name_before() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.push(phase("sql", 1, Phase::Pending), "old".into());
    queue.push(phase("sql", 2, Phase::Scheduled), "old".into());
    let old = queue.pop(now, 8).unwrap();
    queue.push(phase("sql", 1, Phase::Pending), "new".into());
    assert!(!queue.failed(old, now, SAID_NO));
    let new = queue.pop(now, 8).unwrap();
    assert_eq!((new.uid.as_str(), new.status.phase), ("new", Phase::Pending));
}

proptest! {
    /// Whatever comes in whatever order: each object's shown statuses are in order, the last one is the last that was
    /// given, and without a crowd every phase is among them; whoever asked is answered exactly once.
    #[test]
    fn order_is_kept_and_nothing_is_lost(
        steps in prop::collection::vec((0..6usize, 0..3u8, any::<bool>()), 1..200),
    ) {
        let mut queue = Queue::default();
        let mut now = Instant::now();
        let names: Vec<_> = (0..6).map(|index| format!("a{index}")).collect();
        // The phases and the sequence that each was given, and what it has shown.
        let mut given: Vec<Vec<Phase>> = vec![Vec::new(); 6];
        let mut sequences = [0u64; 6];
        let mut shown: Vec<Vec<(Phase, i32)>> = vec![Vec::new(); 6];
        let mut answered: Vec<Vec<u64>> = vec![Vec::new(); 6];
        let mut under_way: VecDeque<Job> = VecDeque::new();
        let mut end = |queue: &mut Queue, job: Job, good: bool, now: Instant| {
            if !good {
                queue.failed(job, now, SILENT);
                return;
            }
            let index = names.iter().position(|name| *name == job.object.name.as_str()).unwrap();
            shown[index].push((job.status.phase, job.status.ready_replicas));
            answered[index].extend(&job.answers);
            queue.done(&job.object, now, true);
        };
        for (index, action, flag) in steps {
            now += Duration::from_millis(70);
            match action {
                0 => {
                    sequences[index] += 1;
                    let before = given[index].last().copied();
                    let next = if flag || before.is_none() {
                        // Any phase but the one before.
                        let at = Phase::ALL.iter().position(|phase| Some(*phase) == before).map_or(0, |at| (at + 1) % 6);
                        given[index].push(Phase::ALL[at]);
                        Phase::ALL[at]
                    } else {
                        before.unwrap()
                    };
                    let ready = i32::try_from(sequences[index]).unwrap();
                    let change = Some(next) != before;
                    queue.push(write(&names[index], sequences[index], next, ready, change), "u".into());
                }
                1 => under_way.extend(queue.pop(now, 4)),
                _ => {
                    if let Some(job) = under_way.pop_front() {
                        end(&mut queue, job, flag, now);
                    }
                }
            }
            prop_assert!(under_way.len() <= 4);
        }
        for job in under_way {
            end(&mut queue, job, true, now);
        }
        while queue.len() > 0 {
            now += SECOND * 31;
            if let Some(job) = queue.pop(now, 4) {
                end(&mut queue, job, true, now);
            }
        }
        for index in 0..6 {
            let numbers: Vec<_> = shown[index].iter().map(|(_, ready)| *ready).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
            prop_assert_eq!(numbers.last().copied().unwrap_or_default(), i32::try_from(sequences[index]).unwrap());
            let mut phases: Vec<_> = shown[index].iter().map(|(phase, _)| *phase).collect();
            phases.dedup();
            prop_assert_eq!(&phases, &given[index]);
            answered[index].sort_unstable();
            prop_assert!(answered[index].iter().copied().eq(1..=sequences[index]));
        }
    }
}
