//! Tags over HTTP.

use serde_json::json;

use crate::client::{Server, serve, serve_as, serve_file};

const ENTRIES: &str = "/api/v1/caches/default/entries";
const TAGS: &str = "/api/v1/caches/default/tags";
const INVALIDATE: &str = "/api/v1/caches/default/tags/invalidate";
const SET: &str = "/api/v1/caches/default/batch/set";

async fn filled() -> Server {
    let server = serve().await;
    for target in ["a?tags=users,user:1:x", "b?tag=users&tag=a%2C%20b", "c"] {
        let target = format!("{ENTRIES}/{target}");
        assert_eq!(server.send("PUT", &target, "v").await.status, 204);
    }
    server
}

#[tokio::test]
async fn entries_are_written_and_shown_with_their_tags() {
    let server = filled().await;
    let get = async |key: &str| server.get(&format!("{ENTRIES}/{key}")).await;
    let tags = get("a").await.header("larder-tags").map(str::to_owned);
    assert_eq!(tags.as_deref(), Some("users,user:1:x"));
    let tags = get("b").await.header("larder-tags").map(str::to_owned);
    assert_eq!(tags.as_deref(), Some("users,a%2C%20b"));
    assert_eq!(get("c").await.header("larder-tags"), None);
    server
        .send("PUT", &format!("{ENTRIES}/a?tags=other"), "w")
        .await;
    assert_eq!(get("a").await.header("larder-tags"), Some("other"));
    let present = format!("{ENTRIES}/a?tags=third&if=absent");
    let reply = server.send("PUT", &present, "w").await;
    reply.problem(412, "present");

    let new = json!({"entries": {"d": {"value": "aGk="}}, "tags": ["users", "x"]});
    assert_eq!(server.post_json(SET, &new).await.status, 204);
    let keys = json!({"keys": ["d", "c"]});
    let got = server
        .post_json("/api/v1/caches/default/batch/get", &keys)
        .await
        .json();
    assert_eq!(got["entries"]["d"]["tags"], json!(["users", "x"]));
    assert_eq!(got["entries"]["c"].get("tags"), None);
}

#[tokio::test]
async fn tags_and_their_keys_are_listed() {
    let server = filled().await;
    let listed = server.get(TAGS).await.json();
    assert_eq!(listed["tags"], json!(["a, b", "user:1:x", "users"]));
    let listed = server.get(&format!("{TAGS}?pattern=user*")).await.json();
    assert_eq!(listed["tags"], json!(["user:1:x", "users"]));
    let show = async |tag: &str| server.get(&format!("{TAGS}/{tag}")).await.json();
    assert_eq!(
        show("a%2C%20b").await,
        json!({"tag": "a, b", "keys": [{"key": "b"}], "more": false})
    );
    assert_eq!(show("user:1:*").await["keys"], json!([{"key": "a"}]));
    assert_eq!(show("nobody").await["keys"], json!([]));
    let users = show("users?limit=1").await;
    assert_eq!(users["keys"].as_array().unwrap().len(), 1);
    assert_eq!(users["more"], true);
    server
        .send("PUT", &format!("{ENTRIES}/%FF?tag=invalidate"), "v")
        .await;
    let keys = json!([{"key": "/w==", "key_encoding": "base64"}]);
    assert_eq!(show("invalidate").await["keys"], keys);
}

#[tokio::test]
async fn an_invalidation_says_what_there_was() {
    let server = filled().await;
    let asked = json!({"tags": ["user:1:*", "never"], "keys": 10});
    let reply = server.post_json(INVALIDATE, &asked).await;
    let expected = json!({"parts": 1, "tags": [
        {"tag": "user:1:*", "existed": true, "keys": [{"key": "a"}]},
        {"tag": "never", "existed": false, "keys": []},
    ]});
    assert_eq!((reply.status, reply.json()), (200, expected));
    server
        .get(&format!("{ENTRIES}/a"))
        .await
        .problem(404, "miss");
    assert_eq!(server.get(&format!("{ENTRIES}/b")).await.status, 200);
    let reply = server
        .post_json(INVALIDATE, &json!({"tags": ["users"]}))
        .await;
    let expected = json!([{"tag": "users", "existed": true}]);
    assert_eq!(reply.json()["tags"], expected);
    server
        .get(&format!("{ENTRIES}/b"))
        .await
        .problem(404, "miss");
    assert_eq!(server.get(&format!("{ENTRIES}/c")).await.status, 200);
}

#[tokio::test]
async fn bad_tags_are_a_problem_of_their_own_and_change_nothing() {
    let server = filled().await;
    let many: Vec<_> = (0..25).map(|n| format!("t{n}")).collect();
    for bad in ["", "a*", "1:2:3:4:5:6:7", &"x".repeat(201), &many.join(",")] {
        let target = format!("{ENTRIES}/new?tags={bad}");
        let reply = server.send("PUT", &target, "v").await;
        reply.problem(400, "invalid-tag");
    }
    let new = json!({"entries": {"new": {"value": ""}}, "tags": ["a?"]});
    let reply = server.post_json(SET, &new).await;
    assert!(reply.problem(400, "invalid-tag").contains("a?"));
    for bad in [json!("users"), json!(1), json!([1]), json!(null)] {
        let new = json!({"entries": {"new": {"value": ""}}, "tags": bad});
        let reply = server.post_json(SET, &new).await;
        reply.problem(400, "invalid-body");
        let reply = server.post_json(INVALIDATE, &json!({"tags": bad})).await;
        reply.problem(400, "invalid-body");
    }
    server
        .get(&format!("{ENTRIES}/new"))
        .await
        .problem(404, "miss");
    for bad in ["%5B", "%FF", "%zz", "a%5B"] {
        let reply = server.get(&format!("{TAGS}/{bad}")).await;
        reply.problem(400, "invalid-tag");
    }
    let reply = server.get(&format!("{TAGS}/users?limit=0")).await;
    reply.problem(400, "invalid-argument");
    for (bad, kind) in [
        (json!({}), "invalid-body"),
        (json!({"tags": []}), "invalid-body"),
        (json!({"tag": "users"}), "invalid-body"),
        (json!({"tags": ["users", "a["]}), "invalid-tag"),
        (json!({"tags": vec!["t"; 1001]}), "invalid-tag"),
        (json!({"tags": ["users"], "keys": 0}), "invalid-argument"),
        (json!({"group": "nobody"}), "invalid-argument"),
    ] {
        let reply = server.post_json(INVALIDATE, &bad).await;
        reply.problem(400, kind);
    }
    assert_eq!(server.get(&format!("{ENTRIES}/a")).await.status, 200);
}

#[tokio::test]
async fn patterns_can_be_marked_stale_and_invalidated() {
    let server = filled().await;
    let entry = format!("{ENTRIES}/a");
    for (stale, status) in [(true, 200), (false, 404)] {
        let asked = json!({"tags": ["user?"], "stale": stale});
        let reply = server.post_json(INVALIDATE, &asked).await.json();
        assert_eq!(reply["tags"], json!([{"tag": "user?", "existed": true}]));
        assert_eq!(server.get(&entry).await.status, status);
    }
}

#[tokio::test]
async fn groups_are_listed_and_invalidated() {
    let server = serve_file("[tags.groups]\npeople = [\"users\", \"staff:*\"]\n").await;
    let groups = server.get(TAGS).await.json()["groups"].clone();
    assert_eq!(groups, json!({"people": ["users", "staff:*"]}));
    let entry = format!("{ENTRIES}/k");
    server
        .send("PUT", &format!("{entry}?tags=staff:7"), "v")
        .await;
    let reply = server
        .post_json(INVALIDATE, &json!({"group": "people"}))
        .await;
    assert_eq!(reply.json()["tags"][1]["existed"], true);
    server.get(&entry).await.problem(404, "miss");
}

#[tokio::test]
async fn without_tags_nothing_is_stored_as_if_there_were() {
    let off = "cache.default = \"off\"\n[stores.off]\ndriver = \"null\"\n";
    let switched = "[tags]\nenabled = false\n";
    for (file, named) in [(off, "tags"), (switched, "tags.enabled")] {
        let server = serve_file(file).await;
        let new = json!({"entries": {"k": {"value": ""}}, "tags": ["t"]});
        let set = server
            .send("PUT", &format!("{ENTRIES}/k?tags=t"), "v")
            .await;
        let batch = server.post_json(SET, &new).await;
        let asked = json!({"tags": ["t"]});
        let invalidated = server.post_json(INVALIDATE, &asked).await;
        for reply in [set, batch, invalidated] {
            let detail = reply.problem(501, "unsupported");
            assert!(detail.contains(named), "{detail}");
        }
        let entry = format!("{ENTRIES}/k");
        server.get(&entry).await.problem(404, "miss");
    }
}

#[tokio::test]
async fn read_only_servers_invalidate_nothing() {
    let server = serve_as(|dashboard| dashboard.read_only(true)).await;
    let asked = json!({"tags": ["t"]});
    let reply = server.post_json(INVALIDATE, &asked).await;
    reply.problem(403, "read-only");
    assert_eq!(server.get(TAGS).await.status, 200);
}

#[tokio::test]
async fn a_cleanup_tells_what_it_did_and_another_one_too_soon_is_refused() {
    const CLEANUP: &str = "/api/v1/caches/default/tags/cleanup";
    let server = filled().await;
    let gone = format!("{ENTRIES}/a");
    assert_eq!(server.send("DELETE", &gone, "").await.status, 204);
    let names = json!(["user:*", "user:1:*", "user:1:x"]);
    let expected = json!({"keys": 0, "tags": 3, "names": names});
    let dry = server.post_json(CLEANUP, &json!({"dry_run": true})).await;
    assert_eq!(dry.json(), expected);
    let bad = server
        .post_json(CLEANUP, &json!({"max_tag_age": "1s"}))
        .await;
    assert_eq!(bad.status, 400);
    let done = server
        .post_json(CLEANUP, &json!({"max_tag_age": "2h"}))
        .await;
    assert_eq!(done.json(), expected);
    let again = server.post_json(CLEANUP, &json!({})).await;
    again.problem(409, "conflict");
}
