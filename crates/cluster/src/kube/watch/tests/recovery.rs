//! Interruptions: what is told after them, and how often is tried.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn expired() -> Line {
    Line::Event("ERROR", status(410))
}

#[tokio::test(start_paused = true)]
async fn a_list_after_an_interruption_tells_only_what_differs_and_what_went() {
    for interruption in [Answer::Watch(vec![Line::Event("ADDED", object("new", 6)), expired()]), Answer::Status(410)] {
        let in_stream = matches!(interruption, Answer::Watch(_));
        let mut watching = Watching::start([
            list(5, &[object("a", 1), object("b", 2), malformed("c", 3), object("d", 4)]),
            interruption,
            page(20, "next", &[object("a", 1), object("b", 15)]),
            list(20, &[malformed("c", 3), object("e", 16)]),
            Answer::Watch(vec![Line::Event("MODIFIED", object("e", 21))]),
        ]);
        let mut expected = vec!["+a@1", "+b@2", "!c", "+d@4", "listed"];
        expected.extend(in_stream.then_some("+new@6"));
        expected.extend(["+b@15", "+e@16", "-d/uid-d"]);
        expected.extend(in_stream.then_some("-new/uid-new"));
        expected.extend(["listed", "+e@21"]);
        assert_eq!(watching.soon().await, expected);
        assert!(watching.watches()[1].has("resourceVersion=20"));
        let state = watching.health.state();
        assert_eq!((state.lists, state.failing.is_none()), (2, true));
        assert_eq!(state.troubles.get(&Trouble::Expired), Some(&1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_goes_on_where_it_was_without_a_list() {
    for interruption in [
        vec![Line::Event("ADDED", object("a", 6)), bookmark(9), Line::Wait(MINUTE), Line::End],
        vec![Line::Event("ADDED", object("a", 6)), bookmark(9), Line::End],
        vec![Line::Event("ADDED", object("a", 6)), bookmark(9), Line::Event("ERROR", status(500))],
    ] {
        let mut watching = Watching::start([
            list(5, &[]),
            Answer::Watch(interruption),
            Answer::Status(503),
            Answer::Status(403),
            Answer::Watch(vec![Line::Event("MODIFIED", object("a", 10))]),
        ]);
        assert_eq!(watching.within(MINUTE * 2).await, ["listed", "+a@6", "+a@10"]);
        let watches = watching.watches();
        assert!(watches[1..].iter().all(|watch| watch.has("resourceVersion=9")), "{watches:?}");
        assert_eq!((watches.len(), watching.lists().len()), (4, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_api_server_will_not_go_on_from_is_given_up() {
    for refusal in [Answer::Status(504), Answer::Status(400), Answer::Watch(vec![Line::Event("ERROR", status(504))])] {
        let mut watching = Watching::start([list(500, &[object("a", 400)]), refusal, list(5, &[object("a", 4)])]);
        assert_eq!(watching.soon().await, ["+a@400", "listed", "+a@4", "listed"], "a backup was restored");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_pages_are_forgotten_is_begun_anew_in_one_piece() {
    let mut watching = Watching::start([
        page(5, "next", &[object("a", 1), object("b", 2)]),
        Answer::Status(410),
        list(9, &[object("b", 2), object("c", 8)]),
        Answer::Watch(vec![expired()]),
        list(10, &[object("c", 8)]),
    ]);
    assert_eq!(watching.soon().await, ["+a@1", "+b@2", "+c@8", "-a/uid-a", "listed", "-b/uid-b", "listed"]);
    let lists = watching.lists();
    assert_eq!(lists.iter().map(|list| list.has("limit=500")).collect::<Vec<_>>(), [true, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_is_not_stormed_and_nothing_is_lost() {
    let failures = 12;
    let watches = (0..5).map(|_| Answer::Watch(vec![]));
    let script = (0..failures).map(|_| Answer::Status(500)).chain([list(5, &[object("a", 1)])]).chain(watches);
    let begun = Instant::now();
    let mut watching = Watching::start(script);
    assert_eq!(watching.soon().await, [""; 0]);
    let failing = watching.health.state().failing.unwrap();
    assert_eq!((failing.trouble, failing.since, failing.message.as_str()), (Trouble::Busy, begun, "no"));
    assert!(failing.times >= 2, "{failing:?}");
    assert!(!watching.health.is_listed());
    assert_eq!(watching.within(MINUTE * 10).await, ["+a@1", "listed"]);
    assert!(watching.health.is_listed() && watching.health.state().failing.is_none());
    let asked = watching.lists();
    assert_eq!(asked.len(), failures + 1);
    for (index, pair) in asked.windows(2).enumerate() {
        let bound = Duration::from_millis(100).saturating_mul(1 << index).min(Duration::from_secs(30));
        assert!(
            pair[1].at - pair[0].at <= bound + Duration::from_millis(2),
            "wait {index}: {:?}",
            pair[1].at - pair[0].at
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_again_and_again_is_tried_ever_more_rarely() {
    let script = std::iter::once(list(5, &[])).chain((0..1000).map(|_| Answer::Watch(vec![bookmark(6), Line::End])));
    let mut watching = Watching::start(script);
    watching.within(MINUTE * 30).await;
    let watches = watching.watches().len();
    assert!((60..400).contains(&watches), "{watches} in half an hour");
    assert!(watching.health.state().troubles[&Trouble::CutOff] >= 60);
}

#[tokio::test(start_paused = true)]
async fn a_missing_kind_and_a_missing_right_are_told_apart() {
    for (code, trouble) in [
        (404, Trouble::NotInstalled),
        (403, Trouble::Forbidden),
        (401, Trouble::Unauthorized),
        (429, Trouble::Busy),
        (422, Trouble::Refused),
    ] {
        let mut watching = Watching::start([Answer::Status(code)]);
        watching.soon().await;
        assert_eq!(watching.health.state().failing.map(|failing| failing.trouble), Some(trouble), "{code}");
        assert!(!trouble.as_str().is_empty());
    }
}
