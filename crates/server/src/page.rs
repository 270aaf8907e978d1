//! The web app's files, as `build.rs` has embedded them.
//!
//! Files under `/assets/` carry their hash in their name and never change; everything else is asked for anew
//! each time and answered with 304 when it is still the same. An address without a dot in its last part that
//! nobody else serves is a place inside the app: it gets `index.html`.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// One file of the web app.
struct EmbeddedFile {
    /// As in its address, for example `/assets/index-Bq3.js`.
    path: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
    etag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// The page where the web app was not built.
const NOT_BUILT: &str = include_str!("page/not_built.html");

/// Answers a request for a file of the page; none when the address is not the page's.
pub(crate) fn serve(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let names_a_file = path.rsplit('/').next().is_some_and(|last| last.contains('.'));
    let wanted = if path == "/" || !names_a_file { "/index.html" } else { path };
    if FILES.is_empty() {
        return (wanted == "/index.html").then(not_built);
    }
    let file = FILES.iter().find(|file| file.path == wanted)?;
    Some(answer(file, headers))
}

fn not_built() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, NOT_BUILT).into_response()
}

fn answer(file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let cache =
        if file.path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let lines = || headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let compressed = |name: &'static str, bytes: Option<&'static [u8]>| {
        bytes.filter(|_| lines().any(|line| accepts(line, name))).map(|bytes| (name, bytes))
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let common = [
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::ETAG, HeaderValue::from_static(file.etag)),
        (header::VARY, HeaderValue::from_static("Accept-Encoding")),
    ];
    // A compressing proxy marks the tag as weak; it is still the same file.
    let is_known = |tags: &str| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == file.etag);
    if known.is_some_and(is_known) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.path)))];
    match compressed("br", file.brotli).or_else(|| compressed("gzip", file.gzip)) {
        Some((name, bytes)) => {
            let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static(name))];
            (common, content_type, encoding, bytes).into_response()
        }
        None => (common, content_type, file.plain).into_response(),
    }
}

/// Whether an `Accept-Encoding` line takes this encoding (`gzip;q=0` does not). Its own entry counts more than `*`.
fn accepts(line: &str, encoding: &str) -> bool {
    let entry = |wanted: &str| {
        line.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            parts.next().filter(|name| name.eq_ignore_ascii_case(wanted))?;
            let refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0));
            Some(!parts.any(refused))
        })
    };
    entry(encoding).or_else(|| entry("*")).unwrap_or(false)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: EmbeddedFile = EmbeddedFile {
        path: "/assets/a-1.js",
        plain: b"plain",
        brotli: Some(b"brotli"),
        gzip: Some(b"gzip"),
        etag: "\"1\"",
    };

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hashed_files_are_kept_for_ever_and_the_index_is_asked_for_anew() {
        let response = answer(&FILE, &HeaderMap::new());
        assert!(response.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let index = EmbeddedFile { path: "/index.html", ..FILE };
        assert_eq!(answer(&index, &HeaderMap::new()).headers()[header::CACHE_CONTROL], "no-cache");
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        for tags in ["\"1\"", "W/\"1\"", "\"0\", \"1\""] {
            let response = answer(&FILE, &headers(&[(header::IF_NONE_MATCH, tags)]));
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tags}");
        }
        let response = answer(&FILE, &headers(&[(header::IF_NONE_MATCH, "\"2\"")]));
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn compressed_bytes_go_only_to_who_takes_them() {
        let cases = [
            ("gzip, deflate, br, zstd", Some("br")),
            ("br", Some("br")),
            ("gzip", Some("gzip")),
            ("GZIP;q=0.5", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("br;q=0, *", Some("gzip")),
            ("*", Some("br")),
            ("gzip;q=0", None),
            ("*;q=0.0", None),
            ("identity", None),
            ("", None),
        ];
        for (line, encoding) in cases {
            let response = answer(&FILE, &headers(&[(header::ACCEPT_ENCODING, line)]));
            let found = response.headers().get(header::CONTENT_ENCODING).map(|name| name.to_str().unwrap());
            assert_eq!(found, encoding, "{line}");
        }
        let old = EmbeddedFile { brotli: None, ..FILE };
        let response = answer(&old, &headers(&[(header::ACCEPT_ENCODING, "gzip, br")]));
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    }

    #[test]
    fn places_inside_the_app_are_pages_and_missing_files_are_not() {
        let page = |path| serve(&Method::GET, path, &HeaderMap::new());
        assert_eq!(page("/").unwrap().status(), StatusCode::OK);
        assert_eq!(page("/c/0190-abc").unwrap().status(), StatusCode::OK);
        assert!(page("/assets/missing-1.js").is_none());
        assert!(serve(&Method::POST, "/", &HeaderMap::new()).is_none());
    }
}
