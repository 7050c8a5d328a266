//! Toxics as Toxiproxy's API writes them: types, attributes with their units, defaults, checks.
//! Values only; what a toxic does to bytes lives in `stages`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DURATION_MS_MAX, Refusal, check_name};

/// Direction of bytes through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    /// From the client that connected to the node behind the proxy.
    Upstream,
    /// From the node behind the proxy back to the client.
    Downstream,
}

impl Stream {
    /// Both, in the order in which toxics are listed.
    pub(crate) const BOTH: [Self; 2] = [Self::Upstream, Self::Downstream];

    /// Place in arrays that hold one thing per direction.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Upstream => 0,
            Self::Downstream => 1,
        }
    }

    /// Name on the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let lower = text.to_ascii_lowercase();
        let found = Self::BOTH.into_iter().find(|stream| stream.name() == lower);
        found.ok_or(Refusal::InvalidStream)
    }
}

/// Attributes of each type of toxic. Absent ones are 0, as in the original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Attributes {
    /// Delays all data.
    Latency(LatencyAttributes),
    /// Limits the rate.
    Bandwidth(BandwidthAttributes),
    /// Delays the end of the stream.
    SlowClose(SlowCloseAttributes),
    /// Swallows everything, then closes.
    Timeout(TimeoutAttributes),
    /// Resets the connection.
    ResetPeer(ResetPeerAttributes),
    /// Cuts data into small writes.
    Slicer(SlicerAttributes),
    /// Closes after so many bytes.
    LimitData(LimitDataAttributes),
    /// A link's delay rule; never parsed from the standard API, microseconds instead of
    /// milliseconds.
    Delay(super::Delay),
}

/// `latency` and `jitter`, milliseconds; jitter is uniform on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LatencyAttributes {
    pub(crate) latency: u64,
    pub(crate) jitter: u64,
}

/// `rate`, thousands of bytes a second; 0 lets nothing through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BandwidthAttributes {
    pub(crate) rate: u64,
}

/// `delay`, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SlowCloseAttributes {
    pub(crate) delay: u64,
}

/// `timeout`, milliseconds; 0 never closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TimeoutAttributes {
    pub(crate) timeout: u64,
}

/// `timeout`, milliseconds from the first data to the reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ResetPeerAttributes {
    pub(crate) timeout: u64,
}

/// Sizes in bytes, `delay` in microseconds between slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SlicerAttributes {
    pub(crate) average_size: u64,
    pub(crate) size_variation: u64,
    pub(crate) delay: u64,
}

/// `bytes` let through before the connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LimitDataAttributes {
    pub(crate) bytes: u64,
}

impl Attributes {
    /// Reads the attributes of a type.
    ///
    /// # Errors
    /// `InvalidToxicType` for an unknown type, `Invalid` for a value that is not a whole number
    /// of the allowed range.
    fn parse(kind: &str, value: Value) -> Result<Self, Refusal> {
        let attributes = match kind {
            "latency" => Self::Latency(serde_json::from_value(value)?),
            "bandwidth" => Self::Bandwidth(serde_json::from_value(value)?),
            "slow_close" => Self::SlowClose(serde_json::from_value(value)?),
            "timeout" => Self::Timeout(serde_json::from_value(value)?),
            "reset_peer" => Self::ResetPeer(serde_json::from_value(value)?),
            "slicer" => Self::Slicer(serde_json::from_value(value)?),
            "limit_data" => Self::LimitData(serde_json::from_value(value)?),
            _ => return Err(Refusal::InvalidToxicType),
        };
        attributes.check()?;
        Ok(attributes)
    }

    fn check(&self) -> Result<(), Refusal> {
        match *self {
            Self::Latency(a) => {
                duration_ms("latency", a.latency).and(duration_ms("jitter", a.jitter))
            }
            Self::SlowClose(a) => duration_ms("delay", a.delay),
            Self::Timeout(a) => duration_ms("timeout", a.timeout),
            Self::ResetPeer(a) => duration_ms("timeout", a.timeout),
            Self::Slicer(a) => {
                if a.average_size == 0 {
                    let problem = "average_size must be at least 1";
                    return Err(Refusal::Invalid(problem.to_owned()));
                }
                duration_ms("delay", a.delay / 1_000)
            }
            Self::Bandwidth(_) | Self::LimitData(_) => Ok(()),
            Self::Delay(delay) => delay.check(),
        }
    }
}

fn duration_ms(what: &str, value: u64) -> Result<(), Refusal> {
    if value > DURATION_MS_MAX {
        return Err(Refusal::Invalid(format!("{what} is longer than a day")));
    }
    Ok(())
}

/// A toxic of a link, in the original's JSON shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Toxic {
    pub(crate) attributes: Attributes,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) stream: Stream,
    /// Share of connections it bites, 0 to 1.
    pub(crate) toxicity: f32,
}

/// A request's toxic; a field that is absent or null takes its default.
#[derive(Deserialize)]
struct RawToxic {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<String>,
    toxicity: Option<f32>,
    attributes: Option<Map<String, Value>>,
}

impl Toxic {
    /// Reads a toxic from a request.
    ///
    /// # Errors
    /// The refusals of the original: bad JSON, unknown stream, unknown type.
    pub(crate) fn parse(value: Value) -> Result<Self, Refusal> {
        let raw: RawToxic = serde_json::from_value(value)?;
        let stream = match &raw.stream {
            Some(text) => Stream::parse(text)?,
            None => Stream::Downstream,
        };
        let kind = raw.kind.unwrap_or_default();
        let attributes = Value::Object(without_nulls(raw.attributes.unwrap_or_default()));
        let attributes = Attributes::parse(&kind, attributes)?;
        let name = raw
            .name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("{kind}_{}", stream.name()));
        check_name("name", &name)?;
        let toxicity = raw.toxicity.unwrap_or(1.0);
        check_toxicity(toxicity)?;
        Ok(Self { attributes, name, kind, stream, toxicity })
    }

    /// The toxic with the fields of an update laid over it; attributes not named keep their value.
    ///
    /// # Errors
    /// `Invalid` when a value is out of range.
    pub(crate) fn updated(&self, value: Value) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Update {
            toxicity: Option<f32>,
            attributes: Option<Map<String, Value>>,
        }
        let update: Update = serde_json::from_value(value)?;
        let mut merged = serde_json::to_value(self.attributes)?;
        if let (Some(fields), Some(new)) = (merged.as_object_mut(), update.attributes) {
            fields.extend(without_nulls(new));
        }
        let toxicity = update.toxicity.unwrap_or(self.toxicity);
        check_toxicity(toxicity)?;
        let attributes = Attributes::parse(&self.kind, merged)?;
        Ok(Self { attributes, toxicity, ..self.clone() })
    }
}

/// A null leaves the default or the present value, as in the original.
fn without_nulls(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|_, value| !value.is_null());
    fields
}

fn check_toxicity(toxicity: f32) -> Result<(), Refusal> {
    if (0.0..=1.0).contains(&toxicity) {
        return Ok(());
    }
    Err(Refusal::Invalid("toxicity must be from 0 to 1".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_those_of_the_original() {
        let toxic = Toxic::parse(json!({"type": "latency"})).unwrap();
        assert_eq!(
            serde_json::to_string(&toxic).unwrap(),
            r#"{"attributes":{"latency":0,"jitter":0},"name":"latency_downstream","#.to_owned()
                + r#""type":"latency","stream":"downstream","toxicity":1.0}"#
        );
    }

    #[test]
    fn update_keeps_what_it_does_not_name() {
        let toxic =
            Toxic::parse(json!({"type": "slicer", "attributes": {"average_size": 9, "delay": 5}}));
        let updated = toxic
            .unwrap()
            .updated(json!({"attributes": {"delay": 7, "average_size": null}}))
            .unwrap();
        let wanted = SlicerAttributes { average_size: 9, size_variation: 0, delay: 7 };
        assert_eq!(updated.attributes, Attributes::Slicer(wanted));
    }

    #[test]
    fn refusals_carry_the_words_clients_know() {
        for (body, words, status) in [
            (json!({"type": "latency", "stream": "sideways"}), "stream was invalid", 400),
            (json!({"type": "fire"}), "invalid toxic type", 400),
            (json!({}), "invalid toxic type", 400),
            (json!({"type": "latency", "attributes": {"latency": -1}}), "bad request body", 400),
            (json!({"type": "latency", "attributes": {"latency": 1.5}}), "bad request body", 400),
            (json!({"type": "latency", "toxicity": 2}), "toxicity", 400),
            (json!({"type": "slicer"}), "average_size", 400),
            (json!([1]), "bad request body", 400),
        ] {
            let refusal = Toxic::parse(body.clone()).unwrap_err();
            assert!(refusal.to_string().contains(words), "{body}: {refusal}");
            assert_eq!(refusal.status(), status, "{body}");
        }
    }
}
