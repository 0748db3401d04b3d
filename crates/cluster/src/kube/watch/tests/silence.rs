//! An API server that is there and says nothing.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_list_and_a_beginning_that_hang_are_given_up() {
    let begun = Instant::now();
    let mut watching = Watching::start([
        Answer::Hang,
        list(5, &[object("a", 1)]),
        Answer::Hang,
        Answer::Watch(vec![Line::Event("ADDED", object("b", 6))]),
    ]);
    assert_eq!(watching.within(PAGE_BOUND).await, [""; 0]);
    let changes = watching.within(START_BOUND + Duration::from_secs(1)).await;
    assert_eq!(changes, ["+a@1", "listed", "+b@6"]);
    assert!(begun.elapsed() <= PAGE_BOUND + START_BOUND + Duration::from_secs(1));
    assert_eq!(watching.health.state().troubles[&Trouble::Silent], 2);
    assert_eq!(watching.lists().len(), 2, "the watch went on from the same version");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_had_bookmarks_and_falls_silent_is_replaced_without_a_list() {
    let mut watching = Watching::start([
        list(5, &[]),
        Answer::Watch(vec![Line::Wait(MINUTE), bookmark(6), Line::Wait(MINUTE), bookmark(7)]),
        Answer::Watch(vec![Line::Event("ADDED", object("a", 8))]),
    ]);
    assert_eq!(watching.within(MINUTE * 3).await, ["listed"]);
    assert_eq!(watching.within(MINUTE).await, ["+a@8"]);
    assert_eq!(watching.lists().len(), 1);
    let watches = watching.watches();
    assert!(watches[1].has("resourceVersion=7"), "{watches:?}");
    assert_eq!(watching.health.state().troubles[&Trouble::Silent], 1);
}

/// An idle API server as it is: a bookmark a minute, and an end when the time that was asked for is over.
#[tokio::test(start_paused = true)]
async fn i10_an_idle_watch_costs_a_request_every_few_minutes() {
    let idle = |asked: u64| {
        let minutes = asked / 60;
        let mut lines: Vec<Line> = (0..minutes).flat_map(|_| [Line::Wait(MINUTE), bookmark(6)]).collect();
        lines.extend([Line::Wait(Duration::from_secs(asked % 60)), Line::End]);
        Answer::Watch(lines)
    };
    let script = std::iter::once(list(5, &[])).chain((0..100).map(|_| idle(250)));
    let mut watching = Watching::start(script);
    assert_eq!(watching.within(MINUTE * 60).await, ["listed"]);
    assert_eq!((watching.lists().len(), watching.watches().len()), (1, 15));
    let state = watching.health.state();
    assert!(state.troubles.is_empty() && state.failing.is_none(), "{state:?}");
    for watch in watching.watches() {
        let seconds = watch.query.split('&').find_map(|part| part.strip_prefix("timeoutSeconds="));
        let seconds: u32 = seconds.unwrap().parse().unwrap();
        assert!(ASKED.contains(&seconds), "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dead_from_its_beginning_is_replaced_too() {
    let mut watching = Watching::start([
        list(5, &[]),
        Answer::Watch(vec![]),
        Answer::Watch(vec![Line::Event("ADDED", object("a", 8))]),
    ]);
    assert_eq!(watching.within(QUIET_AT_FIRST).await, ["listed"]);
    assert_eq!(watching.soon().await, ["+a@8"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_without_bookmarks_is_not_held_to_them_again() {
    let script = std::iter::once(list(5, &[])).chain((0..100).map(|_| Answer::Watch(vec![])));
    let mut watching = Watching::start(script);
    assert_eq!(watching.within(MINUTE * 60).await, ["listed"]);
    let watches = watching.watches().len();
    assert!(
        (12..=16).contains(&watches),
        "{watches}: a silent one lasts as long as it was asked for and a little more"
    );
    assert_eq!(watching.lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_stopped_for_a_minute_is_followed_again_soon_after() {
    let hangs = (0..4).map(|_| Answer::Hang);
    let script = [list(5, &[object("a", 1)]), Answer::Watch(vec![bookmark(6), Line::End])].into_iter().chain(hangs);
    let mut watching = Watching::start(script.chain([Answer::Watch(vec![Line::Event("DELETED", object("a", 7))])]));
    assert_eq!(watching.within(Duration::from_secs(40)).await, ["+a@1", "listed"]);
    let longest = Duration::from_secs(25);
    assert_eq!(watching.within(longest).await, ["-a/uid-a"]);
    assert_eq!(watching.lists().len(), 1);
}
