use longshore_types::{Namespace, ObjectName, OwnerKind};

use super::*;

fn object(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: Namespace::new("default").unwrap(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new(name).unwrap(),
    }
}

fn event(name: &str, warning: bool, message: &str, pod: &str) -> Event {
    let related = Some(EngineId::new(Namespace::new("default").unwrap(), pod));
    Event { object: object(name), warning, reason: "LoadFailed", message: message.to_owned(), related }
}

/// A queue and its time.
struct Scene {
    queue: Queue,
    start: Instant,
    after: Duration,
}

impl Scene {
    fn new() -> Self {
        Self { queue: Queue::default(), start: Instant::now(), after: Duration::ZERO }
    }

    fn wait(&mut self, time: Duration) {
        self.after += time;
    }

    fn push(&mut self, event: Event) {
        let now = Timestamp::from_millis(1_739_733_290_000) + self.after;
        let uid = format!("uid-of-{}", event.object.name);
        self.queue.push(event, uid, None, now, self.start + self.after, 7);
    }

    fn pop(&mut self) -> Option<(Entry, Target)> {
        self.queue.pop(self.start + self.after, |_| true)
    }

    /// Writes everything that waits, and tells the targets.
    fn drain(&mut self) -> Vec<Target> {
        let mut targets = Vec::new();
        while let Some((entry, target)) = self.pop() {
            targets.push(target.clone());
            self.queue.ended(entry, target, Ended::Written, 0);
        }
        targets
    }

    fn messages(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some((entry, target)) = self.pop() {
            messages.push(entry.event.message.clone());
            self.queue.ended(entry, target, Ended::Written, 0);
        }
        messages
    }
}

fn new(targets: &[Target]) -> Vec<&str> {
    targets
        .iter()
        .filter_map(|target| if let Target::New(name) = target { Some(name.as_str()) } else { None })
        .collect()
}

#[test]
fn the_same_within_six_minutes_is_counted_on_the_event_that_there_is() {
    let mut scene = Scene::new();
    scene.push(event("sql", true, "no", "p1"));
    let targets = scene.drain();
    let name = new(&targets)[0].to_owned();
    for count in 2..=3 {
        scene.wait(SERIES);
        scene.push(event("sql", true, "no", "p1"));
        assert_eq!(scene.drain(), [Target::Series(name.clone(), count)]);
    }
    scene.wait(SERIES + Duration::from_millis(1));
    scene.push(event("sql", true, "no", "p1"));
    assert_eq!(new(&scene.drain()).len(), 1);
}

#[test]
fn events_that_differ_in_anything_stay_apart() {
    let mut scene = Scene::new();
    scene.push(event("sql", true, "no", "p1"));
    scene.push(event("sql", true, "no", "p2"));
    scene.push(event("sql", true, "never", "p1"));
    scene.push(event("sql", false, "no", "p1"));
    scene.push(event("code", true, "no", "p1"));
    let targets = scene.drain();
    let names = new(&targets);
    assert_eq!(names.len(), 5);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn the_same_while_it_waits_is_written_once_with_its_count() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.push(event("sql", true, "no", "p1"));
    }
    assert_eq!(scene.queue.len(), 1);
    let (entry, target) = scene.pop().unwrap();
    assert!((entry.count, matches!(target, Target::New(_))) == (3, true) && entry.last > entry.first);
    // The same again while it is being written waits, and is then one of the series.
    scene.push(event("sql", true, "no", "p1"));
    assert!(scene.pop().is_none());
    scene.queue.ended(entry, target.clone(), Ended::Written, 0);
    let Target::New(name) = target else { unreachable!("it was new") };
    assert_eq!(scene.drain(), [Target::Series(name, 4)]);
}

#[test]
fn names_say_the_order_also_of_events_of_one_millisecond() {
    let mut scene = Scene::new();
    for index in 0..20 {
        scene.push(event("sql", false, &format!("{index}"), "p1"));
    }
    let targets = scene.drain();
    let names = new(&targets);
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    assert_eq!(names[0], "sql.62e4738c11e80007");
}

#[test]
fn an_event_waits_for_its_objects_status_but_not_for_ever() {
    let mut scene = Scene::new();
    scene.push(event("busy", false, "a", "p1"));
    scene.push(event("quiet", false, "b", "p1"));
    let busy = object("busy");
    let quiet = |key: &ObjectKey| *key != busy;
    let (entry, target) = scene.queue.pop(scene.start, quiet).unwrap();
    assert_eq!(entry.event.message, "b");
    scene.queue.ended(entry, target, Ended::Written, 0);
    assert!(scene.queue.pop(scene.start, quiet).is_none());
    assert_eq!(scene.queue.due(), Some(scene.start + BEHIND_STATUS));
    assert_eq!(scene.queue.pop(scene.start + BEHIND_STATUS, quiet).unwrap().0.event.message, "a");
}

#[test]
fn one_event_of_an_object_is_written_at_a_time_and_objects_take_turns() {
    let mut scene = Scene::new();
    for (name, message) in [("a", "1"), ("a", "2"), ("b", "3")] {
        scene.push(event(name, false, message, "p1"));
    }
    let (first, second) = (scene.pop().unwrap(), scene.pop().unwrap());
    assert_eq!((first.0.event.message.as_str(), second.0.event.message.as_str()), ("1", "3"));
    assert!(scene.pop().is_none());
    scene.queue.ended(first.0, first.1, Ended::Written, 0);
    assert_eq!(scene.messages(), ["2"]);
}

#[test]
fn when_too_many_wait_the_oldest_normal_ones_are_dropped_first() {
    let mut scene = Scene::new();
    scene.push(event("a", true, "warning", "p1"));
    scene.push(event("a", false, "oldest", "p1"));
    for index in 0..MOST_WAITING - 1 {
        scene.push(event(&format!("o{}", index % 200), false, &format!("{index}"), "p1"));
    }
    assert_eq!((scene.queue.len(), scene.queue.take_dropped()), (MOST_WAITING, 1));
    scene.push(event("z", true, "latest", "p1"));
    assert_eq!((scene.queue.len(), scene.queue.take_dropped()), (MOST_WAITING, 1));
    let messages = scene.messages();
    assert!(messages.contains(&"warning".to_owned()) && messages.contains(&"latest".to_owned()));
    assert!(!messages.contains(&"oldest".to_owned()) && !messages.contains(&"0".to_owned()));
    assert_eq!((messages.len(), scene.queue.len()), (MOST_WAITING, 0));
}

#[test]
fn when_only_warnings_wait_the_oldest_goes() {
    let mut scene = Scene::new();
    for index in 0..=MOST_WAITING {
        scene.push(event("a", true, &format!("{index}"), "p1"));
    }
    assert_eq!((scene.queue.len(), scene.queue.take_dropped()), (MOST_WAITING, 1));
    assert_eq!(scene.messages().first().map(String::as_str), Some("1"));
}

#[test]
fn what_fails_is_tried_three_times_in_its_place() {
    let mut scene = Scene::new();
    scene.push(event("sql", false, "1", "p1"));
    scene.push(event("sql", false, "2", "p1"));
    for _ in 0..ATTEMPTS {
        let (entry, target) = scene.pop().unwrap();
        assert_eq!(entry.event.message, "1");
        scene.queue.ended(entry, target, Ended::Failed { silent: false }, 0);
    }
    assert_eq!(scene.messages(), ["2"]);
    assert_eq!(scene.queue.take_dropped(), 1);
}

#[test]
fn a_name_that_somebody_else_has_is_chosen_anew_but_not_one_that_we_may_have_taken() {
    let mut scene = Scene::new();
    scene.push(event("sql", false, "1", "p1"));
    let (entry, taken) = scene.pop().unwrap();
    scene.queue.ended(entry, taken.clone(), Ended::NameTaken, 8);
    let (entry, target) = scene.pop().unwrap();
    assert_ne!(target, taken);
    scene.queue.ended(entry, target.clone(), Ended::Failed { silent: true }, 0);
    let (entry, again) = scene.pop().unwrap();
    assert_eq!(again, target, "it may be there already, so it keeps its name");
    scene.queue.ended(entry, again, Ended::NameTaken, 9);
    assert!(scene.pop().is_none());
    scene.push(event("sql", false, "1", "p1"));
    assert!(matches!(scene.drain()[..], [Target::Series(_, 2)]));
}

#[test]
fn a_series_whose_event_is_gone_begins_anew() {
    let mut scene = Scene::new();
    scene.push(event("sql", false, "1", "p1"));
    scene.drain();
    scene.push(event("sql", false, "1", "p1"));
    let (entry, target) = scene.pop().unwrap();
    scene.queue.ended(entry, target, Ended::SeriesGone, 0);
    assert_eq!(new(&scene.drain()).len(), 1);
    assert_eq!(scene.queue.take_dropped(), 0);
}

#[test]
fn series_are_remembered_within_a_bound() {
    let mut scene = Scene::new();
    for index in 0..MOST_SERIES * 3 {
        scene.push(event("sql", false, &format!("{index}"), "p1"));
        scene.drain();
    }
    assert!(scene.queue.known.len() <= MOST_SERIES);
    assert!(scene.queue.lanes.is_empty() && scene.queue.turns.is_empty() && scene.queue.busy.is_empty());
}

#[test]
fn the_longest_name_of_an_object_gives_a_valid_one() {
    let mut scene = Scene::new();
    let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
    scene.push(event(&long, false, "1", "p1"));
    let targets = scene.drain();
    let name = new(&targets)[0];
    assert!(longshore_api::labels::is_subdomain(name) || name.split('.').any(|part| part.len() > 63), "{name}");
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
}
