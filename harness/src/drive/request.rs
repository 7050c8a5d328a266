//! From an operation to the bytes of its HTTP request, and the operation type itself.
//! Pure encoding: no sockets, no clock.

use base64::Engine as _;
use quorate_check::history::{Action, Nanos, OpKind, Phase, ReadLevel};

use crate::drive::random::Stream;
use crate::plan::OpClass;

/// Database that every run works in.
pub(crate) const DATABASE: &str = "bench";
/// Class of its records.
pub(crate) const CLASS: &str = "Item";
/// Bytes of random text that paddings are cut from.
const PADDING_POOL: usize = 64 * 1024;

/// A record id: record cluster and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rid {
    pub(crate) cluster: u32,
    pub(crate) position: u64,
}

impl Rid {
    /// Reads `#12:0`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (cluster, position) = text.strip_prefix('#')?.split_once(':')?;
        Some(Self { cluster: cluster.parse().ok()?, position: position.parse().ok()? })
    }
}

impl std::fmt::Display for Rid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}:{}", self.cluster, self.position)
    }
}

/// One operation on its way: all that its request and its line in the history need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Unique in the run; also the value it writes or the tombstone it leaves.
    pub(crate) id: u64,
    /// Process number and session it runs under; the session doubles as slot number.
    pub(crate) process: u64,
    pub(crate) session: u64,
    /// Index of the server asked.
    pub(crate) node: u32,
    pub(crate) class: OpClass,
    pub(crate) phase: Phase,
    pub(crate) key: u64,
    /// The key's record; `None` for creations alone.
    pub(crate) rid: Option<Rid>,
    /// Version that an update insists on.
    pub(crate) base: Option<u64>,
    /// When the schedule wanted it; without one, when the driver took it up.
    pub(crate) intended: Nanos,
}

impl Call {
    /// Its kind in the history.
    pub(crate) fn kind(&self) -> OpKind {
        match self.class {
            OpClass::ReadMajority | OpClass::ReadLocal => OpKind::Read,
            OpClass::Update | OpClass::UpdateVersioned => OpKind::Update,
            OpClass::Create => OpKind::Create,
            OpClass::Delete => OpKind::Delete,
        }
    }

    /// The level of its read, if it reads.
    pub(crate) fn level(&self) -> Option<ReadLevel> {
        match self.class {
            OpClass::ReadMajority => Some(ReadLevel::Majority),
            OpClass::ReadLocal => Some(ReadLevel::Local),
            OpClass::Update | OpClass::UpdateVersioned | OpClass::Create | OpClass::Delete => None,
        }
    }

    /// What its step does, with nothing seen yet.
    pub(crate) fn action(&self) -> Action {
        match self.class {
            OpClass::ReadMajority | OpClass::ReadLocal => Action::Read(None),
            OpClass::Update | OpClass::UpdateVersioned | OpClass::Create => Action::Write(self.id),
            OpClass::Delete => Action::Delete(self.id),
        }
    }
}

/// Writes requests. Everything that does not differ between operations is laid out once.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// End of the request line, and the headers that every request carries.
    common: Vec<u8>,
    /// Random text: the nodes compress what they store, and constant padding would vanish.
    padding: Vec<u8>,
    value_bytes: usize,
    body: Vec<u8>,
}

impl Encoder {
    /// An encoder for one run.
    pub(crate) fn new(password: &str, timeout_ms: u64, value_bytes: u32, seed: u64) -> Self {
        let common = format!(
            " HTTP/1.1\r\nHost: quorate\r\n{}X-Quorate-Deadline-Ms: {timeout_ms}\r\n",
            authorization(password)
        );
        let value_bytes = value_bytes as usize;
        let letters = Stream::named(seed, "driver/padding");
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let padding = (0..PADDING_POOL + value_bytes)
            .map(|i| alphabet[(letters.bits(i as u64) % 64) as usize])
            .collect();
        Self { common: common.into_bytes(), padding, value_bytes, body: Vec::new() }
    }

    /// Replaces the content of `out` by the request of `call`.
    pub(crate) fn encode(&mut self, call: &Call, out: &mut Vec<u8>) {
        out.clear();
        match call.class {
            OpClass::ReadMajority => {
                self.head(b"GET ", call, out);
                out.extend_from_slice(b"X-Quorate-Read-Level: majority\r\n\r\n");
            }
            OpClass::ReadLocal => {
                self.head(b"GET ", call, out);
                out.extend_from_slice(b"X-Quorate-Read-Level: local\r\n\r\n");
            }
            OpClass::Delete => {
                self.head(b"DELETE ", call, out);
                out.extend_from_slice(b"X-Quorate-Tombstone-Id: ");
                number(out, call.id);
                out.extend_from_slice(b"\r\n\r\n");
            }
            OpClass::Update | OpClass::UpdateVersioned => {
                self.head(b"PUT ", call, out);
                self.record(call, out);
            }
            OpClass::Create => {
                self.head(b"POST ", call, out);
                self.record(call, out);
            }
        }
    }

    fn head(&self, method: &[u8], call: &Call, out: &mut Vec<u8>) {
        out.extend_from_slice(method);
        out.extend_from_slice(b"/document/");
        out.extend_from_slice(DATABASE.as_bytes());
        if let Some(rid) = call.rid {
            out.push(b'/');
            number(out, u64::from(rid.cluster));
            out.push(b':');
            number(out, rid.position);
        }
        out.extend_from_slice(&self.common);
    }

    fn record(&mut self, call: &Call, out: &mut Vec<u8>) {
        let body = &mut self.body;
        body.clear();
        body.extend_from_slice(b"{\"@class\":\"");
        body.extend_from_slice(CLASS.as_bytes());
        if let Some(base) = call.base {
            body.extend_from_slice(b"\",\"@version\":");
            number(body, base);
            body.extend_from_slice(b",\"k\":");
        } else {
            body.extend_from_slice(b"\",\"k\":");
        }
        number(body, call.key);
        body.extend_from_slice(b",\"v\":");
        number(body, call.id);
        body.extend_from_slice(b",\"pad\":\"");
        // Another piece of the pool for each operation; 4093 is prime, so pieces come back late.
        let from = (call.id.wrapping_mul(4093) % PADDING_POOL as u64) as usize;
        body.extend_from_slice(&self.padding[from..from + self.value_bytes]);
        body.extend_from_slice(b"\"}");
        out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
        number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}

/// The header line that logs in as root.
pub(crate) fn authorization(password: &str) -> String {
    format!("Authorization: {}\r\n", basic(password))
}

/// The value of that header.
pub(crate) fn basic(password: &str) -> String {
    let secret = base64::engine::general_purpose::STANDARD.encode(format!("root:{password}"));
    format!("Basic {secret}")
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::fixture::call;

    fn text(class: OpClass, rid: Option<Rid>, base: Option<u64>) -> String {
        let mut encoder = Encoder::new("secret", 1000, 4, 1);
        let mut out = b"left over".to_vec();
        encoder.encode(&Call { class, rid, base, id: 9, key: 5, ..call() }, &mut out);
        String::from_utf8(out).unwrap()
    }

    const RID: Option<Rid> = Some(Rid { cluster: 12, position: 7 });

    #[test]
    fn a_read_names_record_level_login_and_deadline() {
        assert_eq!(
            text(OpClass::ReadMajority, RID, None),
            "GET /document/bench/12:7 HTTP/1.1\r\nHost: quorate\r\n\
             Authorization: Basic cm9vdDpzZWNyZXQ=\r\nX-Quorate-Deadline-Ms: 1000\r\n\
             X-Quorate-Read-Level: majority\r\n\r\n"
        );
        assert!(text(OpClass::ReadLocal, RID, None).contains("Read-Level: local\r\n"));
    }

    #[test]
    fn writes_carry_key_unique_value_and_padding() {
        for (class, rid, base) in [
            (OpClass::Create, None, None),
            (OpClass::Update, RID, None),
            (OpClass::UpdateVersioned, RID, Some(3)),
        ] {
            let text = text(class, rid, base);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let record: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(record["@class"], "Item");
            assert_eq!((&record["k"], &record["v"]), (&5.into(), &9.into()));
            assert_eq!(record["pad"].as_str().unwrap().len(), 4);
            assert_eq!(record.get("@version").and_then(serde_json::Value::as_u64), base);
        }
    }

    #[test]
    fn a_delete_names_its_tombstone() {
        let text = text(OpClass::Delete, RID, None);
        assert!(text.starts_with("DELETE /document/bench/12:7 HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("X-Quorate-Tombstone-Id: 9\r\n"), "{text}");
    }

    #[test]
    fn record_ids_survive_the_way_to_text_and_back() {
        assert_eq!(Rid::parse("#12:7"), RID);
        assert_eq!(RID.unwrap().to_string(), "#12:7");
        for bad in ["12:7", "#12", "#a:1", "#-1:-2", ""] {
            assert_eq!(Rid::parse(bad), None, "{bad}");
        }
    }
}
