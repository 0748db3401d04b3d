use super::support::*;

#[tokio::test]
async fn what_can_be_asked_for_now_is_listed_and_nothing_else() {
    let mut engine = Engine::ok("e1").await;
    let adapters = vec![on("sql", &[&engine]), not_ready("slow", "Loading", "", "")];
    let router = Router::start(table(adapters, vec![base(&[&engine])])).await;
    let answered = router.get("/v1/models").await;
    assert_eq!(answered.status, 200);
    let list = answered.json();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    assert_eq!((&models[0]["id"], &models[0]["root"], &models[0]["parent"]), (&"tiny".into(), &().into(), &().into()));
    assert_eq!(
        (&models[1]["id"], &models[1]["root"], &models[1]["parent"]),
        (&"sql".into(), &"s3://bucket/sql".into(), &"tiny".into())
    );
    assert!(
        models
            .iter()
            .all(|model| model["object"] == "model" && model["created"].is_u64() && model["owned_by"].is_string())
    );
    assert_eq!(engine.asked_so_far().len(), 0, "the table answers");
}

#[tokio::test]
async fn one_model_is_found_by_every_name_that_a_request_may_use() {
    let engine = Engine::ok("e1").await;
    let router =
        Router::start(table(vec![on("sql", &[&engine]), not_ready("slow", "Loading", "", "")], vec![base(&[&engine])]))
            .await;
    for (path, id) in [
        ("/v1/models/sql", "sql"),
        ("/v1/models/default/sql", "default/sql"),
        ("/v1/models/default%2Fsql", "default/sql"),
        ("/v1/models/tiny", "tiny"),
    ] {
        let answered = router.get(path).await;
        assert_eq!((answered.status, answered.json()["id"].as_str()), (200, Some(id)));
    }
    for path in ["/v1/models/slow", "/v1/models/ghost"] {
        assert_eq!(router.get(path).await.error(), (404, "model_not_found".to_owned()));
    }
}
