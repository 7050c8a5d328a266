//! Tests of the HTTP API against a server in memory. Every reply that is an error goes through
//! [`Answer::of`], which insists on the error's shape, outcome included.

mod asynchronous;
mod distributed;
mod distributed_config;
mod documents;
mod fake;
mod graph;
mod ha;
mod indexes;
mod limits;
mod quorums;
mod replica;
mod schema;
mod sessions;
mod statements;
mod tokens;
mod tries;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use quorate_control::members::WriteQuorum;
use quorate_control::settings::{ExecutionMode, ReadQuorum};
use serde_json::Value;
use tower_service::Service;

use self::fake::Fake;
use super::auth::Authenticator;
use super::context::{App, HttpConfig, Limits};
use super::router::router;
use super::tries::RetryPolicy;

const PASSWORD: &str = "secret";

fn config(limits: Limits) -> HttpConfig {
    HttpConfig {
        authenticator: Authenticator::new(PASSWORD).unwrap(),
        write_quorum: WriteQuorum::Majority,
        data_centers: std::collections::BTreeMap::new(),
        chain: "version,majority".parse().unwrap(),
        read_quorum: ReadQuorum::default(),
        execution_mode: ExecutionMode::default(),
        new_nodes: quorate_control::dynamic::NewNodes::Static,
        retry: RetryPolicy::default(),
        limits,
    }
}

fn credentials() -> String {
    format!("Basic {}", STANDARD.encode(format!("root:{PASSWORD}")))
}

/// A server and a client of it that is logged in.
struct Setup {
    fake: Fake,
    router: Router,
}

impl Setup {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::configured(config(limits))
    }

    fn configured(config: HttpConfig) -> Self {
        let fake = Fake::default();
        let router = router(Arc::new(App::new(fake.clone(), config)));
        Self { fake, router }
    }

    /// With database `bench` and class `Item`, whose cluster #16 is owned here.
    async fn bench() -> Self {
        Self::new().with_bench().await
    }

    /// The same, with requests that start over so by themselves.
    async fn retrying(retry: RetryPolicy) -> Self {
        Self::configured(HttpConfig { retry, ..config(Limits::default()) }).with_bench().await
    }

    async fn with_bench(self) -> Self {
        self.send("POST", "/database/bench/plocal", "").await.expect(200);
        self.send("POST", "/class/bench/Item", "").await.expect(201);
        self
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", credentials());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        Answer::of(method, self.router.clone().call(request).await.unwrap()).await
    }

    /// A number from `/metrics`.
    async fn counted(&self, name: &str) -> u64 {
        let metrics = self.send("GET", "/metrics", "").await.expect(200).text();
        let line = metrics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
    }

    /// The records of a statement's result.
    async fn sql(&self, text: &str) -> Vec<Value> {
        let answer = self.send("POST", "/command/bench/sql", text).await;
        answer.expect(200).json()["result"].as_array().unwrap().clone()
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(method: &str, response: axum::http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let answer = Self { status: parts.status.as_u16(), headers: parts.headers, body };
        if answer.status >= 400 && method != Method::HEAD.as_str() {
            answer.check_error();
        }
        answer
    }

    /// What every error reply promises.
    fn check_error(&self) {
        let error = self.error();
        assert_eq!(error["code"], self.status, "{error}");
        assert_eq!(error["reason"], self.status, "{error}");
        assert!(error["content"].as_str().is_some_and(|c| !c.is_empty()), "{error}");
        assert!(error["errorCode"].is_string(), "{error}");
        assert!(matches!(error["outcome"].as_str(), Some("failed" | "unknown")), "{error}");
        assert!(error["retryable"].is_boolean(), "{error}");
        assert_eq!(self.headers.contains_key("retry-after"), self.status == 503, "{error}");
        assert_eq!(self.header("content-type"), "application/json; charset=utf-8");
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Expects an error with this name and outcome; gives its text.
    #[track_caller]
    fn fails(self, status: u16, code: &str, outcome: &str) -> String {
        let answer = self.expect(status);
        let error = answer.error();
        assert_eq!((&error["errorCode"], &error["outcome"]), (&code.into(), &outcome.into()));
        error["content"].as_str().unwrap().to_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn error(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| {
            panic!("{} {:?}", self.status, String::from_utf8_lossy(&self.body))
        });
        assert_eq!(value["errors"].as_array().map(Vec::len), Some(1), "{value}");
        value["errors"][0].clone()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}
