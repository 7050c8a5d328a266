//! Records as JSON: what a client sends, what is stored, what is sent back. May not know where
//! records live or who may write them.
//!
//! The stored image is `{"@class":"Item",fields…}`; id and version come from the item itself and
//! are spliced in front when the record is sent, without parsing it again.

use std::io::Write as _;

use quorate_api::{Committed, ErrorCode, Image, Rid};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;

/// A record as a client sent it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Incoming {
    /// `@class`.
    pub(super) class: Option<String>,
    /// `@rid`, unchecked: on creation it means nothing.
    pub(super) rid: Option<String>,
    /// `@version` when above 0; other values ask for no check, as in the original.
    pub(super) version: Option<u64>,
    /// Everything else, in the order sent.
    pub(super) fields: Map<String, Value>,
}

impl Incoming {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|e| {
            ApiError::bad_request(format!("the body is not the JSON of a record: {e}"))
        })?;
        Self::from_map(fields)
    }

    /// Takes the attributes out of an object.
    pub(super) fn from_map(mut fields: Map<String, Value>) -> Result<Self, ApiError> {
        let class = text_attribute(&mut fields, "@class")?;
        let rid = text_attribute(&mut fields, "@rid")?;
        let version = match fields.shift_remove("@version") {
            None | Some(Value::Null) => None,
            Some(value) => match (value.as_u64(), value.as_i64()) {
                (Some(0), _) | (None, Some(_)) => None,
                (Some(version), _) => Some(version),
                (None, None) => {
                    return Err(ApiError::bad_request("@version must be a whole number"));
                }
            },
        };
        fields.shift_remove("@type");
        Ok(Self { class, rid, version, fields })
    }
}

fn text_attribute(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, ApiError> {
    match fields.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::bad_request(format!("{name} must be a string"))),
    }
}

/// Reads a record id, with or without `#`.
pub(super) fn parse_rid(text: &str) -> Result<Rid, ApiError> {
    text.parse().map_err(|e| ApiError::bad_request(format!("'{text}': {e}")))
}

/// Refuses the name of an attribute where a field is meant: attributes are the server's to give.
pub(super) fn refuse_attribute(field: &str) -> Result<(), ApiError> {
    if field.starts_with('@') {
        return Err(ApiError::bad_request(format!("'{field}' is an attribute, no field")));
    }
    Ok(())
}

/// The attribute that says of which types fields are that are no JSON types.
const FIELD_TYPES: &str = "@fieldTypes";

/// What a record is in a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Graph {
    /// Nothing.
    None,
    /// It extends V.
    Vertex,
    /// It extends E.
    Edge,
}

impl Graph {
    /// True for the fields that edges are made of; they have statements of their own. `is_edge`
    /// knows the classes of edges: without it, `in_stock` would be one.
    pub(super) fn links(self, field: &str, is_edge: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::None => false,
            Self::Vertex => edge_class(field).is_some_and(is_edge),
            Self::Edge => matches!(field, "in" | "out"),
        }
    }
}

/// The class whose edges a vertex's field of this name would list.
pub(super) fn edge_class(field: &str) -> Option<&str> {
    field.strip_prefix("out_").or_else(|| field.strip_prefix("in_"))
}

/// The types of fields that are no JSON types, in the original's letters: a bag of links, a link.
fn field_types(
    fields: &Map<String, Value>,
    graph: Graph,
    is_edge: &dyn Fn(&str) -> bool,
) -> Option<String> {
    // What the client says of its own fields stays.
    let told = fields.get(FIELD_TYPES).and_then(Value::as_str).unwrap_or_default().split(',');
    let is_own = |entry: &&str| {
        let name = entry.split_once('=').map_or(*entry, |(name, _)| name);
        !name.is_empty() && !graph.links(name, is_edge)
    };
    let letter = if graph == Graph::Vertex { 'g' } else { 'x' };
    let links = fields.keys().filter(|name| graph.links(name, is_edge));
    let links = links.map(|name| format!("{name}={letter}"));
    let types: Vec<String> = told.filter(is_own).map(str::to_owned).chain(links).collect();
    (!types.is_empty()).then(|| types.join(","))
}

/// The image to store.
pub(super) fn encode(
    class: &str,
    fields: &Map<String, Value>,
    graph: Graph,
    is_edge: &dyn Fn(&str) -> bool,
) -> Result<Image, ApiError> {
    let types = field_types(fields, graph, is_edge).map(Value::String);
    let own = fields.iter().filter(|(name, _)| *name != FIELD_TYPES);
    let own = own.map(|(name, value)| (name.as_str(), value));
    let types = types.iter().map(|types| (FIELD_TYPES, types));
    let mut out = Vec::with_capacity(64 + 32 * fields.len());
    let written: Result<(), serde_json::Error> = (|| {
        out.extend_from_slice(br#"{"@class":"#);
        serde_json::to_writer(&mut out, class)?;
        for (name, value) in own.chain(types) {
            out.push(b',');
            serde_json::to_writer(&mut out, name)?;
            out.push(b':');
            serde_json::to_writer(&mut out, value)?;
        }
        out.push(b'}');
        Ok(())
    })();
    match written {
        Ok(()) => Ok(out.into()),
        Err(error) => Err(ApiError::bad_request(format!("record not serializable: {error}"))),
    }
}

/// Fields of a stored image, the class left out.
pub(super) fn decode(rid: Rid, image: Option<&Image>) -> Result<Map<String, Value>, ApiError> {
    let Some(image) = image else { return Ok(Map::new()) };
    let mut fields: Map<String, Value> =
        serde_json::from_slice(&image.0).map_err(|e| unreadable(rid, &e.to_string()))?;
    fields.shift_remove("@class");
    Ok(fields)
}

/// The record as sent: attributes in the original's order, then the image's content.
pub(super) fn render(rid: Rid, version: u64, image: Option<&Image>) -> Result<Vec<u8>, ApiError> {
    let image: &[u8] = image.map_or(b"{}", |i| &i.0);
    let Some(rest) = image.strip_prefix(b"{") else {
        return Err(unreadable(rid, "its image is no JSON object"));
    };
    let mut out = Vec::with_capacity(image.len() + 64);
    let comma = if rest == b"}" { "" } else { "," };
    let head = write!(out, r#"{{"@type":"d","@rid":"{rid}","@version":{version}{comma}"#);
    head.map_err(|e| unreadable(rid, &e.to_string()))?;
    out.extend_from_slice(rest);
    Ok(out)
}

fn unreadable(rid: Rid, why: &str) -> ApiError {
    ApiError::new(ErrorCode::Storage, format!("record {rid} cannot be read: {why}"))
}

/// What a tombstone keeps.
pub(super) fn tombstone_image(id: Option<u64>) -> Option<Image> {
    id.map(|id| format!(r#"{{"tombstone":{id}}}"#).into_bytes().into())
}

/// The refusal for a record that is not there, with the id its tombstone keeps, if any.
pub(super) fn not_found(rid: Rid, found: Option<&Committed>) -> ApiError {
    #[derive(Deserialize)]
    struct Tombstone {
        tombstone: u64,
    }
    let mut error =
        ApiError::new(ErrorCode::NotFound, format!("The record with id '{rid}' was not found"));
    let kept = found.filter(|c| !c.live).and_then(|c| c.image.as_ref());
    // Tombstones without an id, or with another content, are tombstones all the same.
    error.tombstone = kept
        .and_then(|image| serde_json::from_slice::<Tombstone>(&image.0).ok())
        .map(|t| t.tombstone);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    const RID: Rid = Rid { cluster: 12, position: 7 };

    #[test]
    fn a_record_goes_in_and_comes_out() {
        let body = br##"{"@rid":"#-1:-1","@type":"d","b":[1,{"x":null}],"@class":"Item",
            "@version":3,"a":1.0,"@fieldTypes":"a=d"}"##;
        let record = Incoming::parse(body).unwrap();
        assert_eq!(record.class.as_deref(), Some("Item"));
        assert_eq!(record.rid.as_deref(), Some("#-1:-1"));
        assert_eq!(record.version, Some(3));
        let image = encode("Item", &record.fields, Graph::None, &|_| true).unwrap();
        let sent = String::from_utf8(render(RID, 4, Some(&image)).unwrap()).unwrap();
        let expected = concat!(
            r##"{"@type":"d","@rid":"#12:7","@version":4,"@class":"Item","##,
            r#""b":[1,{"x":null}],"a":1.0,"@fieldTypes":"a=d"}"#
        );
        assert_eq!(sent, expected);
        assert_eq!(decode(RID, Some(&image)).unwrap(), record.fields);
    }

    #[test]
    fn links_of_graph_elements_are_typed() {
        let text = |fields: &str, graph| {
            let fields = serde_json::from_str(fields).unwrap();
            let image = encode("X", &fields, graph, &|class| class == "E").unwrap();
            String::from_utf8(image.0.to_vec()).unwrap()
        };
        let vertex = r##"{"out_E":["#1:1"],"@fieldTypes":"out_E=g,in_x=t","in_x":5}"##;
        let expected =
            r##"{"@class":"X","out_E":["#1:1"],"in_x":5,"@fieldTypes":"in_x=t,out_E=g"}"##;
        assert_eq!(text(vertex, Graph::Vertex), expected);
        let edge = r##"{"out":"#1:1","in":"#1:2"}"##;
        let expected = r##"{"@class":"X","out":"#1:1","in":"#1:2","@fieldTypes":"out=x,in=x"}"##;
        assert_eq!(text(edge, Graph::Edge), expected);
        assert_eq!(text(edge, Graph::None), r##"{"@class":"X","out":"#1:1","in":"#1:2"}"##);
    }

    #[test]
    fn versions_up_to_zero_ask_for_no_check() {
        for (text, version) in [("-1", None), ("0", None), ("null", None), ("1", Some(1))] {
            let body = format!(r#"{{"@version":{text}}}"#);
            assert_eq!(Incoming::parse(body.as_bytes()).unwrap().version, version, "{text}");
        }
        for bad in ["1.5", "\"1\"", "[]", "1e3"] {
            let body = format!(r#"{{"@version":{bad}}}"#);
            assert!(Incoming::parse(body.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn junk_is_refused() {
        let deep = "[".repeat(10_000);
        for junk in ["", "[]", "1", "{", "{\"a\":}", "{\"@class\":1}", "{\"a\":\"\\ud800\"}", &deep]
        {
            let error = Incoming::parse(junk.as_bytes()).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{junk:.20}");
        }
    }

    #[test]
    fn an_empty_or_odd_image_is_no_panic() {
        let sent = render(RID, 1, None).unwrap();
        assert_eq!(sent, br##"{"@type":"d","@rid":"#12:7","@version":1}"##);
        let odd = Image::from(&b"42"[..]);
        assert_eq!(render(RID, 1, Some(&odd)).unwrap_err().code, ErrorCode::Storage);
        assert!(decode(RID, Some(&odd)).is_err());
    }

    #[test]
    fn tombstones_keep_an_id() {
        let mut found = Committed {
            stamp: quorate_api::Stamp::ABSENT,
            live: false,
            image: tombstone_image(Some(u64::MAX)),
            elsewhere: None,
        };
        assert_eq!(not_found(RID, Some(&found)).tombstone, Some(u64::MAX));
        found.image = Some(Image::from(&b"junk"[..]));
        assert_eq!(not_found(RID, Some(&found)).tombstone, None);
        assert_eq!(not_found(RID, None).tombstone, None);
    }
}
