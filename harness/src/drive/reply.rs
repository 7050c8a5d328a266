//! From the bytes of an HTTP reply to what is known about the operation: the outcome table.
//! Pure decoding and judging: no sockets, no clock.

use std::borrow::Cow;
use std::ops::Range;

use quorate_check::history::{Outcome, Seen};
use serde::Deserialize;

use crate::drive::request::Rid;
use crate::plan::OpClass;

/// Headers a reply may have; more is taken for malformed.
const HEADERS_MAX: usize = 32;
/// A longer body is taken for malformed rather than waited for.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What is known about an operation once the client has stopped waiting for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// Error code of the server or of the client; `None` when all went well.
    pub(crate) code: Option<Cow<'static, str>>,
    /// What a read saw.
    pub(crate) seen: Option<Seen>,
    /// Record id and version that the reply named.
    pub(crate) rid: Option<Rid>,
    pub(crate) version: Option<u64>,
}

impl Answer {
    fn bare(outcome: Outcome, code: Option<Cow<'static, str>>) -> Self {
        Self { outcome, code, seen: None, rid: None, version: None }
    }
}

/// How an operation can end without a reply that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientFault {
    /// The server's port refused the connection.
    ConnectRefused,
    /// No connection within the client's timeout.
    ConnectTimeout,
    /// The connection broke before it took the first byte of the request.
    NotSent,
    /// The load ended while the operation still waited for a free slot or a connection.
    NeverSent,
    /// No complete reply within the client's timeout.
    ClientTimeout,
    /// The connection broke after the first byte of the request.
    ConnectionLost,
    /// The reply is not HTTP, or is a success without the fields the client must read.
    MalformedReply,
}

impl ClientFault {
    /// What it proves about the operation.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            // Not one byte left the client: the server cannot have done anything.
            Self::ConnectRefused | Self::ConnectTimeout | Self::NotSent | Self::NeverSent => {
                Outcome::Failed
            }
            // The request, or enough of it, may have arrived and may still take effect.
            Self::ClientTimeout | Self::ConnectionLost | Self::MalformedReply => Outcome::Unknown,
        }
    }

    /// Its stable code in the history.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::NotSent => "not_sent",
            Self::NeverSent => "never_sent",
            Self::ClientTimeout => "client_timeout",
            Self::ConnectionLost => "connection_lost",
            Self::MalformedReply => "malformed_reply",
        }
    }

    /// The answer it amounts to.
    pub(crate) fn answer(self) -> Answer {
        Answer::bare(self.outcome(), Some(Cow::Borrowed(self.code())))
    }
}

/// The first reply in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// More bytes are needed.
    Partial,
    /// These bytes can never become a reply.
    Malformed,
    /// A whole reply, `body.end` bytes long.
    Whole {
        status: u16,
        body: Range<usize>,
        /// The server closes the connection after it.
        close: bool,
    },
}

/// Finds the first reply in `data`. Bodies come by `Content-Length`; chunked ones are malformed
/// here, since no server of this project sends a record that way.
pub(crate) fn frame(data: &[u8]) -> Frame {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(data) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Frame::Partial,
        Err(_) => return Frame::Malformed,
    };
    let Some(status) = response.code else {
        return Frame::Malformed;
    };
    let mut length = if status == 204 || status == 304 { Some(0) } else { None };
    let mut close = response.version == Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            length = text.and_then(|text| text.trim().parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Frame::Malformed;
        }
    }
    match length {
        Some(length) if length <= BODY_BYTES_MAX => {
            let end = head + length;
            if data.len() < end {
                Frame::Partial
            } else {
                Frame::Whole { status, body: head..end, close }
            }
        }
        _ => Frame::Malformed,
    }
}

/// The fields of a record that a client of this workload reads.
#[derive(Deserialize)]
struct Record<'a> {
    /// Empty when absent. Not an `Option`, which serde would fill with a copy.
    #[serde(borrow, default, rename = "@rid")]
    rid: Cow<'a, str>,
    #[serde(rename = "@version")]
    version: Option<u64>,
    v: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(rename = "errorCode")]
    code: Option<String>,
    outcome: Option<String>,
    tombstone: Option<u64>,
}

/// Judges a whole reply.
///
/// | reply | outcome | code |
/// |---|---|---|
/// | 202: taken on, and not decided yet | unknown | `accepted` |
/// | any other 2xx with the fields that the class reads | ok | – |
/// | 2xx without them | unknown | `malformed_reply` |
/// | 404 `not_found` to a read | ok, saw nothing | – |
/// | any other with `"outcome":"failed"` | failed | its `errorCode`, else `http_STATUS` |
/// | any other: outcome `unknown`, absent or not readable | unknown | the same |
pub(crate) fn judge(class: OpClass, status: u16, body: &[u8]) -> Answer {
    if status == 202 {
        return Answer::bare(Outcome::Unknown, Some(Cow::Borrowed("accepted")));
    }
    if (200..300).contains(&status) {
        return success(class, body).unwrap_or_else(|| ClientFault::MalformedReply.answer());
    }
    let error = serde_json::from_slice::<ErrorBody>(body).ok();
    let Some(error) = error.and_then(|body| body.errors.into_iter().next()) else {
        return Answer::bare(Outcome::Unknown, Some(http_code(status)));
    };
    let is_read = matches!(class, OpClass::ReadMajority | OpClass::ReadLocal);
    if is_read && status == 404 && error.code.as_deref() == Some("not_found") {
        let mut answer = Answer::bare(Outcome::Ok, None);
        answer.seen = Some(Seen::Absent(error.tombstone));
        return answer;
    }
    let outcome = match error.outcome.as_deref() {
        Some("failed") => Outcome::Failed,
        Some(_) | None => Outcome::Unknown,
    };
    let code = error.code.map_or_else(|| http_code(status), Cow::Owned);
    Answer::bare(outcome, Some(code))
}

fn success(class: OpClass, body: &[u8]) -> Option<Answer> {
    let mut answer = Answer::bare(Outcome::Ok, None);
    if class == OpClass::Delete {
        return Some(answer);
    }
    let record: Record<'_> = serde_json::from_slice(body).ok()?;
    answer.version = Some(record.version?);
    match class {
        OpClass::ReadMajority | OpClass::ReadLocal => {
            answer.seen = Some(Seen::Value(record.v?));
        }
        OpClass::Create => answer.rid = Some(Rid::parse(&record.rid)?),
        OpClass::Update | OpClass::UpdateVersioned | OpClass::Delete => {}
    }
    Some(answer)
}

fn http_code(status: u16) -> Cow<'static, str> {
    Cow::Owned(format!("http_{status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> (u16, String) {
        let Frame::Whole { status, body, .. } = frame(text.as_bytes()) else { panic!("{text}") };
        (status, text[body].to_owned())
    }

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(reply(whole), (200, "hello".to_owned()));
        for cut in 0..whole.len() {
            assert_eq!(frame(&whole.as_bytes()[..cut]), Frame::Partial, "{cut}");
        }
        assert_eq!(reply("HTTP/1.1 204 No Content\r\n\r\n"), (204, String::new()));
    }

    #[test]
    fn closing_replies_are_noticed() {
        let closes =
            |text: &str| matches!(frame(text.as_bytes()), Frame::Whole { close: true, .. });
        assert!(closes("HTTP/1.1 204 X\r\nConnection: close\r\n\r\n"));
        assert!(closes("HTTP/1.0 204 X\r\n\r\n"));
        assert!(!closes("HTTP/1.1 204 X\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_no_reply_is_malformed() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(frame(text.as_bytes()), Frame::Malformed, "{text}");
        }
    }

    fn error(code: &str, outcome: &str) -> String {
        format!(r#"{{"errors":[{{"code":1,"errorCode":"{code}","outcome":"{outcome}","x":[]}}]}}"#)
    }

    #[test]
    fn outcome_table() {
        use OpClass::{Create, Delete, ReadLocal, ReadMajority, Update, UpdateVersioned};
        use Outcome::{Failed, Ok, Unknown};
        let record = r##"{"@rid":"#12:0","@version":3,"@class":"Item","k":5,"v":8,"pad":"x\"y"}"##;
        let table: &[(OpClass, u16, &str, Outcome, Option<&str>)] = &[
            (Create, 201, record, Ok, None),
            (ReadLocal, 200, record, Ok, None),
            (ReadMajority, 200, record, Ok, None),
            (Update, 200, record, Ok, None),
            (UpdateVersioned, 200, record, Ok, None),
            (Delete, 204, "", Ok, None),
            (ReadLocal, 404, &error("not_found", "failed"), Ok, None),
            (ReadMajority, 404, &error("unknown_class", "failed"), Failed, Some("unknown_class")),
            (Update, 404, &error("not_found", "failed"), Failed, Some("not_found")),
            (
                UpdateVersioned,
                409,
                &error("version_conflict", "failed"),
                Failed,
                Some("version_conflict"),
            ),
            (Update, 423, &error("busy", "failed"), Failed, Some("busy")),
            (Create, 500, &error("no_quorum", "failed"), Failed, Some("no_quorum")),
            (Create, 500, &error("deadline", "unknown"), Unknown, Some("deadline")),
            (Create, 503, &error("overload", "failed"), Failed, Some("overload")),
            (Create, 500, &error("odd", "ok"), Unknown, Some("odd")),
            (Create, 500, r#"{"errors":[{"errorCode":"old"}]}"#, Unknown, Some("old")),
            (Create, 500, r#"{"errors":[{"outcome":"failed"}]}"#, Failed, Some("http_500")),
            (Create, 500, r#"{"errors":[]}"#, Unknown, Some("http_500")),
            (Create, 502, "<html>", Unknown, Some("http_502")),
            (ReadLocal, 404, "", Unknown, Some("http_404")),
            (Update, 302, "", Unknown, Some("http_302")),
            (Create, 202, r#"{"accepted":"7"}"#, Unknown, Some("accepted")),
            (Delete, 202, "", Unknown, Some("accepted")),
            (Create, 201, "{}", Unknown, Some("malformed_reply")),
            (ReadLocal, 200, r#"{"@version":3}"#, Unknown, Some("malformed_reply")),
            (Update, 200, "not json", Unknown, Some("malformed_reply")),
        ];
        for (class, status, body, outcome, code) in table {
            let answer = judge(*class, *status, body.as_bytes());
            assert_eq!(
                (answer.outcome, answer.code.as_deref()),
                (*outcome, *code),
                "{class:?} {status} {body}"
            );
        }
    }

    #[test]
    fn reads_tell_what_they_saw_and_writes_what_they_made() {
        let record = r##"{"@rid":"#12:0","@version":3,"v":8}"##;
        let read = judge(OpClass::ReadLocal, 200, record.as_bytes());
        assert_eq!((read.seen, read.version), (Some(Seen::Value(8)), Some(3)));
        let made = judge(OpClass::Create, 201, record.as_bytes());
        assert_eq!((made.rid, made.version), (Rid::parse("#12:0"), Some(3)));
        let gone = r#"{"errors":[{"errorCode":"not_found","outcome":"failed","tombstone":77}]}"#;
        let read = judge(OpClass::ReadMajority, 404, gone.as_bytes());
        assert_eq!(read.seen, Some(Seen::Absent(Some(77))));
        let never = judge(OpClass::ReadMajority, 404, error("not_found", "failed").as_bytes());
        assert_eq!(never.seen, Some(Seen::Absent(None)));
    }

    #[test]
    fn client_faults_prove_what_they_prove() {
        use ClientFault::*;
        let sent = [ClientTimeout, ConnectionLost, MalformedReply];
        assert!(sent.iter().all(|fault| fault.outcome() == Outcome::Unknown));
        let unsent = [ConnectRefused, ConnectTimeout, NotSent, NeverSent];
        assert!(unsent.iter().all(|fault| fault.outcome() == Outcome::Failed));
        assert_eq!(ClientTimeout.answer().code.as_deref(), Some("client_timeout"));
    }
}
