//! Orders, and what is told of runs.

use serde_json::{Value as Json, json};

use crate::client::{call, get, post, request, send};
use crate::{act, assert_error, order, server, until, upload};

#[tokio::test(flavor = "multi_thread")]
async fn recipes_tell_what_can_be_set() {
    let server = server(|_| {}).await;
    let recipes = get(server.address, "/api/training/recipes").await.ok();
    let count = &recipes["items"][0];
    assert_eq!(
        (&count["id"], &count["needs_base"], &count["data"]),
        (&json!("count"), &json!(false), &json!("text"))
    );
    assert_eq!(
        count["settings"][0],
        json!({"key": "n", "kind": "int", "default": 10, "min": 1, "max": 100_000})
    );
    assert_eq!(count["settings"][2]["choices"], json!(["well", "ill"]));
    assert_eq!(recipes["items"][1]["needs_base"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_is_refused_with_its_place() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    upload(address, "empty/files/nothing.txt", "").await;
    let cases = [
        ("recipe", json!({"recipe": "bake"})),
        ("dataset", json!({"dataset": "songs"})),
        ("dataset", json!({"dataset": "../books"})),
        ("dataset", json!({"dataset": "empty"})),
        ("dataset", json!({"dataset": Json::Null})),
        ("dataset", json!({"recipe": "both"})),
        ("name", json!({"name": " "})),
        ("settings.n", json!({"settings": {"n": 0}})),
        ("settings.n", json!({"settings": {"n": "5"}})),
        ("settings.n", json!({"settings": {"n": 1.5}})),
        ("settings.x", json!({"settings": {"x": 1.5}})),
        ("settings.mode", json!({"settings": {"mode": "so"}})),
        ("settings.flag", json!({"settings": {"flag": 1}})),
        ("settings.time", json!({"settings": {"time": "long"}})),
        ("settings.out", json!({"settings": {"out": "/etc"}})),
        ("settings", json!({"settings": {"n": 666}})),
        ("base", json!({"base": "smollm2:135m"})),
        ("base", json!({"recipe": "tune"})),
        ("base", json!({"recipe": "tune", "base": "/etc/passwd"})),
        ("base", json!({"recipe": "tune", "base": "no such model"})),
    ];
    let mut wrong = Vec::new();
    for (param, change) in cases {
        let mut body = json!({"recipe": "count", "name": "a run", "dataset": "books", "settings": {}});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = post(address, "/api/training/runs", &body).await;
        if !answer.status.is_client_error() || answer.json()["error"]["param"] != param {
            wrong.push(format!("{param}: {} {}", answer.status, answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(get(address, "/api/training/runs").await.ok(), json!({"items": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_ordered_paused_resumed_renamed_served_and_deleted() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let id = order(address, 200).await;
    let path = format!("/api/training/runs/{id}");
    let running = until(address, &id, |run| run["status"] == "running").await;
    assert_eq!(running["command"][0], "daybreak");
    assert_eq!(
        (&running["name"], &running["dataset"], &running["base"]),
        (&json!("a run"), &json!("books"), &Json::Null)
    );
    assert!(running["folder"].as_str().unwrap().ends_with(&format!("{id}/a-run")), "{running}");
    assert_error(&call(address, "DELETE", &path, &[], vec![]).await, 409, "still_running");
    assert_error(&act(address, &id, "resume").await, 409, "not_resumable");
    assert_error(&act(address, &id, "serve").await, 409, "no_model_yet");
    act(address, &id, "pause").await.ok();
    let paused = until(address, &id, |run| run["status"] == "paused").await;
    assert!(paused["progress"]["step"].as_u64() < Some(200) && paused["ended_at"].is_number(), "{paused}");
    assert_error(&act(address, &id, "pause").await, 409, "not_running");
    act(address, &id, "resume").await.ok();
    let done = until(address, &id, |run| run["status"] == "done").await;
    assert_eq!((&done["progress"]["step"], &done["n_starts"]), (&json!(200), &json!(2)));
    assert_eq!(done["model"]["bytes"], 5);
    assert_eq!(done["model"]["name"], Json::Null);
    let log = get(address, &format!("{path}/log?tail=20")).await;
    assert!(log.text().ends_with("counting\n") && log.body.len() == 20, "{}", log.text());

    let renamed = call(address, "PATCH", &path, &[], br#"{"name": "my model"}"#.to_vec()).await.ok();
    assert_eq!(renamed["name"], "my model");
    assert_eq!(act(address, &id, "serve").await.ok(), json!({"model": "run/my model"}));
    assert_eq!(act(address, &id, "serve").await.ok(), json!({"model": "run/my model"}), "once and for all");
    let models = get(address, "/api/models").await.ok();
    let is_listed = |models: &Json| {
        models["items"].as_array().unwrap().iter().any(|model| model["name"] == "run/my model")
    };
    assert!(is_listed(&models));

    // A run that begins with that model knows where it came from, and holds it as long as it may need it.
    let mut body = json!({"recipe": "tune", "name": "tuned", "dataset": "books", "base": "run/my model"});
    body["settings"] = json!({"n": 100_000});
    let tuned = post(address, "/api/training/runs", &body).await.json();
    let lineage = tuned["lineage"].as_array().unwrap();
    assert_eq!(lineage.iter().map(|part| &part["kind"]).collect::<Vec<_>>(), ["data", "run", "data"]);
    assert_eq!((&lineage[1]["id"], &tuned["parent"]["model"]), (&json!(id), &json!("run/my model")));
    assert_error(&call(address, "DELETE", &path, &[], vec![]).await, 409, "run_in_use");
    let tuned = tuned["id"].as_str().unwrap();
    act(address, tuned, "stop").await.ok();
    until(address, tuned, |run| run["status"] == "stopped").await;
    assert_eq!(call(address, "DELETE", &path, &[], vec![]).await.status, 204);
    assert_error(&get(address, &path).await, 404, "not_found");
    assert!(!is_listed(&get(address, "/api/models").await.ok()));
    assert_error(&get(address, "/api/training/runs/nothing").await, 404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_run_hears_every_line_and_its_end() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let id = order(address, 60).await;
    let path = format!("/api/training/runs/{id}/events");
    // From before the first line, while it runs; from the middle; and once it has ended.
    let live = get(address, &path).await;
    let numbers = |text: &str| -> Vec<u64> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    };
    assert_eq!(numbers(live.text()), (1..=60).collect::<Vec<_>>());
    assert!(live.text().starts_with("event: run\n"), "{}", live.text());
    assert!(live.text().trim_end().ends_with("event: end\ndata: {}"), "{}", live.text());
    let last_run = live.text().rsplit("event: run\ndata: ").next().unwrap().lines().next().unwrap();
    assert_eq!(serde_json::from_str::<Json>(last_run).unwrap()["status"], "done");
    let later = get(address, &format!("{path}?after=58")).await;
    assert_eq!(numbers(later.text()), [59, 60]);
    let again = call(address, "GET", &path, &[("last-event-id", "59")], vec![]).await;
    assert_eq!(numbers(again.text()), [60]);
    let beyond = get(address, &format!("{path}?after=61")).await;
    assert!(beyond.text().trim_end().ends_with("event: reset\ndata: {}"), "{}", beyond.text());
    let series = get(address, &format!("/api/training/runs/{id}/series?max=7")).await.ok();
    assert_eq!((&series["n_lines"], series["steps"].as_array().unwrap().len()), (&json!(60), 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_several_stages_brings_its_data_and_tells_the_course_of_each() {
    let server = server(|_| {}).await;
    let address = server.address;
    let mut body = json!({"recipe": "both", "name": "both", "dataset": "books", "settings": {"n": 30}});
    assert_error(&post(address, "/api/training/runs", &body).await, 400, "invalid_value");
    body["dataset"] = Json::Null;
    let run = post(address, "/api/training/runs", &body).await.json();
    assert_eq!((&run["dataset"], &run["lineage"][0]["kind"]), (&Json::Null, &json!("recipe")));
    let id = run["id"].as_str().unwrap();
    let path = format!("/api/training/runs/{id}");
    let begun = until(address, id, |run| run["stages"].is_array()).await;
    let stages =
        |second: bool| json!([{"name": "pretrain", "has_begun": true}, {"name": "sft", "has_begun": second}]);
    assert_eq!(begun["stages"], stages(false));
    // Whoever follows the first hears all of it and nothing of the second but that it has begun.
    let first = get(address, &format!("{path}/events?stage=pretrain")).await;
    assert_eq!(first.text().matches("event: log").count(), 30);
    assert!(first.text().contains(&format!("\"stages\":{}", stages(true))), "{}", first.text());
    let second = get(address, &format!("{path}/events")).await;
    assert_eq!(second.text().matches("event: log").count(), 30);
    for told in [first, second] {
        assert!(told.text().trim_end().ends_with("event: end\ndata: {}"), "{}", told.text());
    }
    let done = until(address, id, |run| run["status"] == "done").await;
    assert_eq!(done["stages"], stages(true));
    for (query, stage) in [("", "sft"), ("?stage=pretrain", "pretrain"), ("?stage=sft", "sft")] {
        let series = get(address, &format!("{path}/series{query}")).await.ok();
        assert_eq!((&series["stage"], &series["n_lines"]), (&json!(stage), &json!(30)));
    }
    let unknown = get(address, &format!("{path}/series?stage=../log")).await;
    assert_error(&unknown, 400, "invalid_value");
    let preview = json!({"recipe": "both"});
    upload(address, "books/files/one.txt", "first").await;
    let refused = post(address, "/api/training/datasets/books/preview", &preview).await;
    assert_error(&refused, 400, "invalid_value");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_server_and_the_run_does_not() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let id = order(address, 100_000).await;
    let run = until(address, &id, |run| run["status"] == "running").await;
    let follow = request(address, "GET", &format!("/api/training/runs/{id}/events"), &[], vec![]);
    let body = send(address, follow).await.into_body();
    let reading = tokio::spawn(axum::body::to_bytes(body, 1 << 30));
    let job = std::path::Path::new(run["folder"].as_str().unwrap()).parent().unwrap().join("process.json");
    let processes: Json = serde_json::from_slice(&std::fs::read(job).unwrap()).unwrap();
    server.stop().await.unwrap();
    let text = String::from_utf8(reading.await.unwrap().unwrap().to_vec()).unwrap();
    assert!(!text.contains("event: end"), "it goes on, so nobody is told otherwise");
    let command: jobs::process::Process = serde_json::from_value(processes["command"].clone()).unwrap();
    assert!(command.is_alive());
    // Nobody else ends it.
    std::process::Command::new("kill").args(["-9", &command.pid.to_string()]).status().unwrap();
}
