//! Hosts, origins, keys, sessions, headers.

use serde_json::json;

use crate::client::{call, get, post};
use crate::world::{shared, start};

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_and_origins_are_refused() {
    let address = shared().await;
    let answer = call(address, "GET", "/", &[("host", "evil.example")], vec![]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (403, &json!("host_not_allowed")));
    let body = json!({"messages": [{"role": "user", "content": "hi"}]}).to_string().into_bytes();
    let origin = [("origin", "https://evil.example")];
    let answer = call(address, "POST", "/v1/chat/completions", &origin, body).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (403, &json!("origin_not_allowed"))
    );
    let site = [("sec-fetch-site", "cross-site")];
    assert_eq!(call(address, "GET", "/api/models", &site, vec![]).await.status, 403);
    let own = format!("http://{address}");
    let answer =
        call(address, "POST", "/tokenize", &[("origin", &own)], b"{\"content\": \"x\"}".to_vec()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_is_closed_unless_an_origin_is_listed() {
    let preflight = [
        ("origin", "https://friend.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let closed = shared().await;
    let answer = call(closed, "OPTIONS", "/v1/chat/completions", &preflight, vec![]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");

    let open = start(|config| {
        config.models.clear();
        config.api_key = Some("sesame".to_string());
        config.cors_origins = vec!["https://friend.example".to_string()];
    })
    .await;
    let answer = call(open.address, "OPTIONS", "/v1/chat/completions", &preflight, vec![]).await;
    assert_eq!(answer.status, 200, "a preflight needs no key");
    assert_eq!(answer.header("access-control-allow-origin"), "https://friend.example");
    assert!(answer.header("access-control-allow-headers").contains("authorization"));
    let stranger = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = call(open.address, "OPTIONS", "/v1/chat/completions", &stranger, vec![]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let listed = [("origin", "https://friend.example"), ("authorization", "Bearer sesame")];
    let answer = call(open.address, "GET", "/v1/models", &listed, vec![]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (200, "https://friend.example")
    );
    open.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_api_and_a_session_the_page() {
    let server = start(|config| {
        config.models.clear();
        config.api_key = Some("sesame".to_string());
    })
    .await;
    let address = server.address;
    for (method, path) in
        [("GET", "/v1/models"), ("GET", "/api/models"), ("GET", "/metrics"), ("POST", "/tokenize")]
    {
        let answer = call(address, method, path, &[], vec![]).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"), "{path}");
        let wrong = [("authorization", "Bearer guess")];
        assert_eq!(call(address, method, path, &wrong, vec![]).await.status, 401, "{path}");
    }
    let key = [("authorization", "Bearer sesame")];
    assert_eq!(call(address, "GET", "/v1/models", &key, vec![]).await.status, 200);
    assert_eq!(call(address, "GET", "/api/models", &key, vec![]).await.status, 200);

    assert_eq!(get(address, "/").await.status, 200, "the page itself is open");
    let state = get(address, "/api/state").await.ok();
    assert_eq!(state["auth"], json!({"required": true, "signed_in": false}));
    assert!(state.get("memory").is_none(), "{state}");

    assert_eq!(post(address, "/api/session", &json!({"key": "guess"})).await.status, 401);
    let answer = post(address, "/api/session", &json!({"key": "sesame"})).await;
    assert_eq!(answer.status, 204);
    let line = answer.header("set-cookie").to_string();
    assert!(line.contains("HttpOnly") && line.contains("SameSite=Strict"), "{line}");
    let cookie = line.split(';').next().unwrap();
    let signed_in = [("cookie", cookie)];
    assert_eq!(call(address, "GET", "/api/models", &signed_in, vec![]).await.status, 200);
    let state = call(address, "GET", "/api/state", &signed_in, vec![]).await.ok();
    assert_eq!(state["auth"]["signed_in"], true);
    assert!(state["memory"]["total_bytes"].as_u64().is_some());
    assert_eq!(
        call(address, "GET", "/v1/models", &signed_in, vec![]).await.status,
        401,
        "cookies are for the page"
    );
    assert_eq!(call(address, "DELETE", "/api/session", &signed_in, vec![]).await.status, 204);
    assert_eq!(call(address, "GET", "/api/models", &signed_in, vec![]).await.status, 401, "signed out");

    for _ in 0..12 {
        post(address, "/api/session", &json!({"key": "guess"})).await;
    }
    let answer = post(address, "/api/session", &json!({"key": "sesame"})).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_security_headers() {
    let address = shared().await;
    for path in ["/", "/v1/models", "/api/state", "/nothing.js"] {
        let answer = get(address, path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
    }
}
