//! Frames on a link: length, checksum, kind, body. A frame that does not fit is an error that
//! closes the connection, never a panic. May not know what the bodies mean.
//!
//! Layout, little-endian: `u32` length of kind and body, `u32` crc32 of kind and body, `u8` kind,
//! body. A packed body is compressed (LZ4) behind its size.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest kind and body. A transaction must fit into one; clients' transactions are limited far
/// below.
pub(crate) const FRAME_MAX: usize = 16 << 20;
/// Same before the other side has proven who it is.
pub(crate) const HANDSHAKE_FRAME_MAX: usize = 4 << 10;
/// Length and checksum.
const HEADER: usize = 8;
/// Space made for each read.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The dialer introduces itself.
    Hello,
    /// The acceptor does.
    Welcome,
    /// The dialer proves that it knows the password.
    Proof,
    /// The acceptor does; the link is up.
    Accepted,
    /// The link is refused, with the reason.
    Refused,
    /// The dialer wants to join the cluster.
    Enlist,
    /// What became of that.
    Enlisted,
    /// A message of the protocol.
    Message,
    /// A large message of the protocol, compressed.
    Packed,
    /// Sign of life.
    Heartbeat,
    /// A message of the control plane.
    Control,
}

impl Kind {
    const ALL: [(Self, u8); 11] = [
        (Self::Hello, 1),
        (Self::Welcome, 2),
        (Self::Proof, 3),
        (Self::Accepted, 4),
        (Self::Refused, 5),
        (Self::Enlist, 6),
        (Self::Enlisted, 7),
        (Self::Message, 16),
        (Self::Heartbeat, 17),
        (Self::Control, 18),
        (Self::Packed, 19),
    ];

    const fn byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Proof => 3,
            Self::Accepted => 4,
            Self::Refused => 5,
            Self::Enlist => 6,
            Self::Enlisted => 7,
            Self::Message => 16,
            Self::Heartbeat => 17,
            Self::Control => 18,
            Self::Packed => 19,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, b)| *b == byte).map(|(kind, _)| *kind)
    }
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than allowed, or empty.
    #[error("a frame of {0} bytes is outside the limits")]
    Length(usize),
    /// Damaged on the way, or not a frame at all.
    #[error("a frame's checksum does not match")]
    Checksum,
    /// Of a kind that does not exist.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// The body is not what its kind says.
    #[error("a frame's body does not decode")]
    Body,
    /// The kind exists, but not here.
    #[error("a {0:?} frame came out of turn")]
    Turn(Kind),
}

/// Lets the encoder append to a buffer that is not its own.
struct Append<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Append<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// Appends a frame; on an error the buffer is as before.
pub(crate) fn append<T: Serialize>(
    buffer: &mut Vec<u8>,
    kind: Kind,
    value: &T,
) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    buffer.push(kind.byte());
    let encoded = postcard::to_extend(value, Append(buffer)).map_err(|_| FrameError::Body);
    let closed = encoded.map(|_| ()).and_then(|()| close(buffer, start));
    if closed.is_err() {
        buffer.truncate(start);
    }
    closed
}

/// A frame of its own that carries a value compressed. Takes time that grows with the value: not
/// for threads that others wait for.
pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let plain = postcard::to_allocvec(value).map_err(|_| FrameError::Body)?;
    if plain.len() > FRAME_MAX {
        return Err(FrameError::Length(plain.len()));
    }
    let packed = lz4_flex::block::compress_prepend_size(&plain);
    let mut frame = Vec::with_capacity(HEADER + 1 + packed.len());
    frame.extend_from_slice(&[0; HEADER]);
    frame.push(Kind::Packed.byte());
    frame.extend_from_slice(&packed);
    close(&mut frame, 0)?;
    Ok(frame)
}

/// The value of a packed body.
pub(crate) fn unpack<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (size, packed) = body.split_first_chunk::<4>().ok_or(FrameError::Body)?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > FRAME_MAX {
        return Err(FrameError::Length(size));
    }
    let plain = lz4_flex::block::decompress(packed, size).map_err(|_| FrameError::Body)?;
    decode(&plain)
}

/// Fills in the header of a frame that begins at `start` and is complete.
fn close(buffer: &mut [u8], start: usize) -> Result<(), FrameError> {
    let length = buffer.len() - start - HEADER;
    if length > FRAME_MAX {
        return Err(FrameError::Length(length));
    }
    let sum = crc32fast::hash(&buffer[start + HEADER..]);
    // The length is at most FRAME_MAX.
    buffer[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    buffer[start + 4..start + HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Cuts a stream of bytes into frames.
#[derive(Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Where the next bytes are read into; at least [`READ_BYTES`] fit.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        // One large frame must not keep its space for ever.
        if self.buffer.is_empty() && self.buffer.capacity() > 16 * READ_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// Next complete frame; `None`: more bytes are needed. After an error the stream is useless.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<(Kind, &[u8])>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, sum @ ..] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 || length > limit {
            return Err(FrameError::Length(length));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32fast::hash(payload) != u32::from_le_bytes(sum) {
            return Err(FrameError::Checksum);
        }
        let kind = Kind::of(payload[0]).ok_or(FrameError::Kind(payload[0]))?;
        let body = self.start + HEADER + 1..self.start + HEADER + length;
        self.start = body.end;
        Ok(Some((kind, &self.buffer[body])))
    }
}

/// The value of a body, all of it.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Body),
    }
}

/// The value at the beginning of a body; a newer version may have more behind it.
pub(crate) fn decode_begin<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    postcard::take_from_bytes(body).map(|(value, _)| value).map_err(|_| FrameError::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(decoder: &mut Decoder, limit: usize) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let mut found = Vec::new();
        while let Some((kind, body)) = decoder.next(limit)? {
            found.push((kind, body.to_vec()));
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn frames_come_back_however_the_stream_is_cut(
            bodies: Vec<Vec<u8>>,
            cut in 1usize..40,
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                append(&mut bytes, Kind::Message, body).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.space().extend_from_slice(piece);
                for (kind, body) in frames(&mut decoder, FRAME_MAX).unwrap() {
                    prop_assert_eq!(kind, Kind::Message);
                    found.push(decode::<Vec<u8>>(&body).unwrap());
                }
            }
            prop_assert_eq!(found, bodies);
        }

        #[test]
        fn garbage_is_an_error_or_waits_for_more(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.space().extend_from_slice(&bytes);
            // Four bytes of checksum keep random bytes from passing.
            prop_assert!(frames(&mut decoder, FRAME_MAX).map_or(true, |f| f.is_empty()));
            decode::<quorate_protocol::message::Message>(&bytes).ok();
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_before_it_is_read() {
        let mut decoder = Decoder::default();
        decoder.space().extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(decoder.next(FRAME_MAX).err(), Some(FrameError::Length(FRAME_MAX + 1)));
        let mut buffer = vec![7];
        let large = vec![0u8; FRAME_MAX];
        assert!(append(&mut buffer, Kind::Message, &large).is_err());
        assert_eq!(buffer, [7]);
    }

    #[test]
    fn a_packed_value_comes_back_smaller_and_its_size_is_looked_at() {
        let value = vec![7u8; 100_000];
        let frame = pack(&value).unwrap();
        assert!(frame.len() < 10_000, "{}", frame.len());
        let mut decoder = Decoder::default();
        decoder.space().extend_from_slice(&frame);
        let (kind, body) = decoder.next(FRAME_MAX).unwrap().unwrap();
        assert_eq!(kind, Kind::Packed);
        assert_eq!(unpack::<Vec<u8>>(body).unwrap(), value);
        let mut large = body.to_vec();
        large[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let refused = unpack::<Vec<u8>>(&large).err();
        assert_eq!(refused, Some(FrameError::Length(u32::MAX as usize)));
        assert_eq!(unpack::<Vec<u8>>(&body[..50]).err(), Some(FrameError::Body));
        assert_eq!(unpack::<Vec<u8>>(&[1]).err(), Some(FrameError::Body));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Heartbeat, &(1u64, 2u64)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let mut decoder = Decoder::default();
        decoder.space().extend_from_slice(&bytes);
        assert_eq!(decoder.next(FRAME_MAX).err(), Some(FrameError::Checksum));
    }
}
