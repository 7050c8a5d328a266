//! What a client may ask for: links, toxics, cuts, delays, and the errors of asking wrongly.
//! Values and validation only: no sockets, no tasks, no clock.

pub(crate) mod address;
pub(crate) mod error;
pub(crate) mod fault;
pub(crate) mod toxic;

pub(crate) use error::Refusal;
pub(crate) use fault::{Cut, CutKind, Delay, Distribution, Streams};
pub(crate) use toxic::{Attributes, Stream, Toxic};

/// Longest duration accepted anywhere, in milliseconds: a day. Keeps every sum of durations far
/// from overflow, and nobody measures a fault longer than this.
pub(crate) const DURATION_MS_MAX: u64 = 86_400_000;

/// Longest name of a link, toxic or lease holder, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Checks a name that becomes part of a path, a metric label and a random stream's name.
///
/// # Errors
/// `Invalid` when it is empty, too long, or holds control characters.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Refusal::Invalid(format!(
            "{what} must be 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}
