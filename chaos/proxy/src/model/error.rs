//! Why a request is refused, with the status and the words Toxiproxy's clients know.
//! May not know HTTP types: the API layer turns a status number into a response.

/// A request that changed nothing, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The body is not the JSON expected, or a value in it is out of range.
    #[error("bad request body: {0}")]
    Invalid(String),
    /// A field that must be there is absent or empty; the text says which.
    #[error("missing required field: {0}")]
    MissingField(String),
    /// A toxic's stream is neither `upstream` nor `downstream`.
    #[error("stream was invalid, can be either upstream or downstream")]
    InvalidStream,
    /// No toxic of that type exists.
    #[error("invalid toxic type")]
    InvalidToxicType,
    /// No proxy of that name; the standard paths carry no name in this message.
    #[error("proxy not found")]
    ProxyNotFound,
    /// A link named in an extension request does not exist.
    #[error("proxy not found: {0}")]
    LinkNotFound(String),
    /// No toxic of that name on the proxy.
    #[error("toxic not found")]
    ToxicNotFound,
    /// A proxy of that name exists.
    #[error("proxy already exists")]
    ProxyAlreadyExists,
    /// A toxic of that name exists on the proxy.
    #[error("toxic already exists")]
    ToxicAlreadyExists,
    /// The lease belongs to somebody else until it is released or runs out.
    #[error("lease is held by {0:?}")]
    LeaseHeld(String),
    /// There is no lease to renew or release.
    #[error("no lease is held")]
    NoLease,
    /// The path exists but not with this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// No such path.
    #[error("path not found")]
    PathNotFound,
    /// Browsers are turned away, so that no web page can drive a proxy on its reader's machine.
    #[error("User agent not allowed")]
    Browser,
    /// The operating system would not let the proxy listen.
    #[error("listen {address}: {source}")]
    Listen {
        /// The address asked for.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl Refusal {
    /// HTTP status that goes with it.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Invalid(_)
            | Self::MissingField(_)
            | Self::InvalidStream
            | Self::InvalidToxicType => 400,
            Self::Browser => 403,
            Self::ProxyNotFound
            | Self::LinkNotFound(_)
            | Self::ToxicNotFound
            | Self::NoLease
            | Self::PathNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ProxyAlreadyExists | Self::ToxicAlreadyExists | Self::LeaseHeld(_) => 409,
            Self::Listen { .. } => 500,
        }
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(error.to_string())
    }
}
