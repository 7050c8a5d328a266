//! What requests hold in memory, weighed against what all of them may: a request that would be one
//! too many is refused before it takes anything (503, nothing happened, it may come again), and one
//! that is too large by itself for good (413). May not know what a request does.
//!
//! What is held until the answer is sent goes with the answer's bytes, so a client that does not
//! read holds them, too. Of a record that is just being read from the store the size is known only
//! afterwards: so much, once a request that runs, is not weighed beforehand.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use quorate_api::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend::Backend;
use super::context::App;
use super::error::ApiError;
use crate::memory::size::Size;

/// Bytes that one permit stands for.
const UNIT: usize = 1024;

/// How often what a client sent is in memory while its transaction runs: the body, the values it
/// is read into, those that are staged, the image, the answer.
const COPIES: usize = 5;
/// Memory of one more value in a list or object, twice: the one that was sent and the one that is
/// staged. Lists grow by doubling.
const VALUE: usize = 2 * 144;
/// The same of a list or object with one value in it.
const CONTAINER: usize = 2 * 448;

/// What bodies of this many bytes come to.
pub(super) const fn of_body(bytes: usize) -> usize {
    bytes.saturating_mul(COPIES)
}

/// What the values in a text of JSON take beside their own bytes. Commas and brackets in strings
/// count as if they stood outside.
pub(super) fn of_values(text: &[u8]) -> usize {
    let (mut values, mut containers) = (0usize, 0usize);
    for byte in text {
        values += usize::from(*byte == b',');
        containers += usize::from(matches!(byte, b'[' | b'{'));
    }
    values.saturating_mul(VALUE).saturating_add(containers.saturating_mul(CONTAINER))
}

/// What all requests may hold.
#[derive(Debug)]
pub(super) struct Scales {
    total: usize,
    free: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Scales {
    pub(super) fn new(bytes: usize) -> Self {
        let total = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        Self { total, free: Arc::new(Semaphore::new(total)), refused: AtomicU64::new(0) }
    }

    /// A request that holds nothing so far.
    pub(super) fn weigh(self: &Arc<Self>) -> Arc<Weight> {
        let (units, kept) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Weight { scales: Arc::clone(self), units, kept })
    }

    /// Bytes of all requests together, what of it is held, and how often one was refused.
    pub(super) fn figures(&self) -> (usize, usize, u64) {
        let held = self.total.saturating_sub(self.free.available_permits());
        (self.total * UNIT, held * UNIT, self.refused.load(Ordering::Relaxed))
    }
}

/// What one request holds.
#[derive(Debug)]
pub(super) struct Weight {
    scales: Arc<Scales>,
    units: AtomicUsize,
    /// What it holds until its answer is sent.
    kept: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Weight {
    /// Takes this much more, until it is given back.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, ApiError> {
        let mut held = Held { weight: Arc::clone(self), permit: None };
        held.set(bytes)?;
        Ok(held)
    }

    /// Takes this much more, until the answer is sent.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<(), ApiError> {
        self.hold(bytes)?.keep();
        Ok(())
    }

    /// What it keeps now, to come back to.
    pub(super) fn mark(&self) -> usize {
        self.kept().as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back what it kept since: an attempt that came to nothing is made again.
    pub(super) fn back_to(&self, mark: usize) {
        let mut kept = self.kept();
        let since = kept.as_ref().map_or(0, OwnedSemaphorePermit::num_permits).checked_sub(mark);
        let spare = since.and_then(|since| kept.as_mut()?.split(since));
        if let Some(spare) = spare {
            self.give_back(spare);
        }
    }

    fn acquire(&self, units: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let own = self.units.load(Ordering::Relaxed).saturating_add(units);
        let total = self.scales.total;
        let number = u32::try_from(units).ok().filter(|_| own <= total);
        let Some(number) = number else {
            self.scales.refused.fetch_add(1, Ordering::Relaxed);
            let (needs, all) = (Size(own as u64 * 1024), Size(total as u64 * 1024));
            let text = format!(
                "the request alone would need {needs} of memory, and all requests together may \
                 have {all} here: ask for less at once, with SKIP and LIMIT, or send less; or \
                 give the server a larger --heap"
            );
            return Err(ApiError::new(ErrorCode::TooLarge, text));
        };
        let permit =
            Arc::clone(&self.scales.free).try_acquire_many_owned(number).map_err(|_| {
                self.scales.refused.fetch_add(1, Ordering::Relaxed);
                let all = Size(total as u64 * 1024);
                let text = format!("other requests hold too much of the {all} that all may have");
                ApiError::new(ErrorCode::Overload, text)
            })?;
        self.units.fetch_add(units, Ordering::Relaxed);
        Ok(permit)
    }

    fn give_back(&self, permit: OwnedSemaphorePermit) {
        self.units.fetch_sub(permit.num_permits(), Ordering::Relaxed);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        // Whole after every statement.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, which holds of what was kept as much as it is large, until it is sent.
    fn carried(&self, response: Response) -> Response {
        let Some(mut permit) = self.kept().take() else { return response };
        let size = HttpBody::size_hint(response.body()).exact().unwrap_or(u64::MAX);
        let units = usize::try_from(size).unwrap_or(usize::MAX).div_ceil(UNIT);
        if let Some(spare) = permit.num_permits().checked_sub(units) {
            drop(permit.split(spare));
        }
        response.map(|inner| Body::new(Carried { inner, permit: Arc::new(permit) }))
    }
}

/// Something that a request holds, and how much of it.
#[derive(Debug)]
pub(super) struct Held {
    weight: Arc<Weight>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// It is this much now. When that is refused, it is what it was.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), ApiError> {
        let units = bytes.div_ceil(UNIT);
        let now = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if units > now {
            let more = self.weight.acquire(units - now)?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        } else if let Some(spare) = self.permit.as_mut().and_then(|p| p.split(now - units)) {
            self.weight.give_back(spare);
        }
        Ok(())
    }

    /// It is held until the request's answer is sent.
    pub(super) fn keep(mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut kept = self.weight.kept();
        match kept.as_mut() {
            Some(kept) => kept.merge(permit),
            None => *kept = Some(permit),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.weight.give_back(permit);
        }
    }
}

/// A body whose bytes hold a permit, wherever they wait.
struct Carried {
    inner: Body,
    permit: Arc<OwnedSemaphorePermit>,
}

/// Some of them.
struct Part {
    bytes: Bytes,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let permit = Arc::clone(&self.permit);
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Bytes::from_owner(Part { bytes, _permit: permit }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Wraps every request: what it holds ends when its answer is sent.
pub(super) async fn weighed<B: Backend>(
    State(app): State<Arc<App<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let weight = app.scales.weigh();
    request.extensions_mut().insert(Arc::clone(&weight));
    let response = next.run(request).await;
    weight.carried(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn held(scales: &Scales) -> usize {
        scales.figures().1
    }

    #[test]
    fn the_values_of_a_text_weigh_at_least_what_they_take() {
        let size = size_of::<serde_json::Value>();
        assert!(2 * size <= VALUE / 2, "{size}: a list grows by doubling");
        // The first growth of a list is to four values.
        assert!(4 * size + size <= CONTAINER / 2, "{size}");
        assert_eq!(of_values(b"[0,0,[]]"), 2 * VALUE + 2 * CONTAINER);
        assert_eq!(of_values(b"SELECT FROM Item"), 0);
        assert_eq!(of_body(1000), 5000);
    }

    #[test]
    fn what_is_held_is_given_back() {
        let scales = Arc::new(Scales::new(8 * UNIT));
        let weight = scales.weigh();
        let mut part = weight.hold(3 * UNIT - 1).unwrap();
        assert_eq!(held(&scales), 3 * UNIT);
        part.set(UNIT).unwrap();
        assert_eq!(held(&scales), UNIT);
        let error = part.set(9 * UNIT).unwrap_err();
        assert_eq!((error.code, held(&scales)), (ErrorCode::TooLarge, UNIT));
        assert!(error.text.contains("need 9k of memory"), "{}", error.text);
        part.set(8 * UNIT).unwrap();
        let other = scales.weigh();
        assert_eq!(other.hold(1).unwrap_err().code, ErrorCode::Overload);
        drop(part);
        assert_eq!(held(&scales), 0);
        other.take(8 * UNIT).unwrap();
        let mark = other.mark();
        assert_eq!(mark, 8);
        other.back_to(3);
        assert_eq!(held(&scales), 3 * UNIT);
        other.take(5 * UNIT).unwrap();
        // What a request keeps counts with what it asks for besides.
        assert_eq!(other.hold(1).unwrap_err().code, ErrorCode::TooLarge);
        drop(other);
        assert_eq!(scales.figures(), (8 * UNIT, 0, 3));
    }

    #[tokio::test]
    async fn an_answer_holds_its_own_size_until_its_bytes_are_gone() {
        let scales = Arc::new(Scales::new(64 * UNIT));
        let weight = scales.weigh();
        weight.take(48 * UNIT).unwrap();
        let response = weight.carried(Response::new(Body::from(vec![7; 2 * UNIT])));
        drop(weight);
        assert_eq!(held(&scales), 2 * UNIT);
        assert_eq!(HttpBody::size_hint(response.body()).exact(), Some(2 * UNIT as u64));
        let mut body = response.into_body();
        let bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!((bytes.len(), held(&scales)), (2 * UNIT, 2 * UNIT));
        drop(bytes);
        assert_eq!(held(&scales), 0);
    }
}
