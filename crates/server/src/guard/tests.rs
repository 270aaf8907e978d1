#![allow(clippy::unwrap_used)]
use super::*;
use axum::body::Body;

fn config(host: &str, allowed: &[&str], cors: &[&str]) -> ServerConfig {
    let mut config = crate::test_support::config(std::path::Path::new("/nonexistent"));
    config.host = host.to_string();
    config.allowed_hosts = allowed.iter().map(|host| host.to_string()).collect();
    config.cors_origins = cors.iter().map(|origin| origin.to_string()).collect();
    config
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::empty()).unwrap()
}

#[test]
fn only_hosts_of_this_server_are_served() {
    struct Case {
        bound: &'static str,
        host: &'static str,
        served: bool,
    }
    let cases = [
        Case { bound: "127.0.0.1", host: "localhost:8420", served: true },
        Case { bound: "127.0.0.1", host: "LOCALHOST", served: true },
        Case { bound: "127.0.0.1", host: "127.0.0.1:1", served: true },
        Case { bound: "127.0.0.1", host: "[::1]:8420", served: true },
        Case { bound: "127.0.0.1", host: "evil.example:8420", served: false },
        Case { bound: "127.0.0.1", host: "localhost.evil.example", served: false },
        Case { bound: "127.0.0.1", host: "192.168.1.5:8420", served: false },
        Case { bound: "127.0.0.1", host: "user@localhost", served: false },
        Case { bound: "127.0.0.1", host: "chat.home", served: true },
        Case { bound: "0.0.0.0", host: "192.168.1.5:8420", served: true },
        Case { bound: "0.0.0.0", host: "evil.example", served: false },
        Case { bound: "0.0.0.0", host: "chat.home:443", served: true },
    ];
    for Case { bound, host, served } in cases {
        let config = config(bound, &["chat.home"], &[]);
        let outcome = check_host_and_origin(&config, &request("GET", "/", &[("host", host)]));
        assert_eq!(outcome.is_ok(), served, "bound to {bound}, asked for {host}: {outcome:?}");
    }
    let config = config("127.0.0.1", &[], &[]);
    assert!(check_host_and_origin(&config, &request("GET", "/", &[])).is_err(), "no host at all");
    let twice = request("GET", "/", &[("host", "localhost"), ("host", "evil.example")]);
    assert!(check_host_and_origin(&config, &twice).is_err(), "two hosts");
    let absolute = request("GET", "http://evil.example/", &[("host", "localhost")]);
    assert!(check_host_and_origin(&config, &absolute).is_err(), "the address line counts");
}

#[test]
fn pages_of_other_origins_may_neither_change_nor_read() {
    struct Case {
        method: &'static str,
        path: &'static str,
        headers: &'static [(&'static str, &'static str)],
        allowed: bool,
    }
    let cases = [
        Case { method: "POST", path: "/v1/chat/completions", headers: &[], allowed: true },
        Case {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &[("origin", "http://localhost:8420")],
            allowed: true,
        },
        Case {
            method: "POST",
            path: "/v1/completions",
            headers: &[("origin", "http://evil.example")],
            allowed: false,
        },
        Case { method: "POST", path: "/v1/completions", headers: &[("origin", "null")], allowed: false },
        Case {
            method: "POST",
            path: "/v1/completions",
            headers: &[("origin", "http://localhost:3000")],
            allowed: false,
        },
        Case {
            method: "POST",
            path: "/v1/completions",
            headers: &[("origin", "https://chat.home")],
            allowed: true,
        },
        Case {
            method: "POST",
            path: "/v1/completions",
            headers: &[("origin", "https://friend.example")],
            allowed: true,
        },
        Case {
            method: "GET",
            path: "/api/models",
            headers: &[("origin", "http://evil.example")],
            allowed: false,
        },
        Case {
            method: "GET",
            path: "/api/models",
            headers: &[("sec-fetch-site", "cross-site")],
            allowed: false,
        },
        Case {
            method: "GET",
            path: "/api/models",
            headers: &[("sec-fetch-site", "same-origin")],
            allowed: true,
        },
        Case { method: "GET", path: "/api/models", headers: &[("sec-fetch-site", "none")], allowed: true },
        Case { method: "GET", path: "/", headers: &[("sec-fetch-site", "cross-site")], allowed: true },
        Case {
            method: "DELETE",
            path: "/api/conversations/1",
            headers: &[("sec-fetch-site", "same-site")],
            allowed: false,
        },
    ];
    let config = config("127.0.0.1", &["chat.home"], &["https://friend.example"]);
    for Case { method, path, headers, allowed } in cases {
        let mut headers = headers.to_vec();
        headers.push(("host", "localhost:8420"));
        let outcome = check_host_and_origin(&config, &request(method, path, &headers));
        assert_eq!(outcome.is_ok(), allowed, "{method} {path} {headers:?}: {outcome:?}");
    }
}

#[test]
fn only_the_page_and_its_way_in_are_open_without_a_key() {
    for (method, path, open) in [
        (Method::GET, "/", true),
        (Method::GET, "/assets/app.js", true),
        (Method::GET, "/c/some-conversation", true),
        (Method::GET, "/api/state", true),
        (Method::POST, "/api/session", true),
        (Method::GET, "/health", true),
        (Method::GET, "/api/models", false),
        (Method::GET, "/v1/models", false),
        (Method::POST, "/v1/chat/completions", false),
        (Method::POST, "/tokenize", false),
        (Method::GET, "/metrics", false),
        (Method::POST, "/", false),
    ] {
        assert_eq!(is_open(&method, path), open, "{method} {path}");
    }
}

#[test]
fn the_bearer_key_is_read_in_any_case() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  sesame "));
    assert_eq!(bearer(&headers), Some("sesame"));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic sesame"));
    assert_eq!(bearer(&headers), None);
}
