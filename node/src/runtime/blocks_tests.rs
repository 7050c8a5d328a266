//! One allocator, and a control plane that grants what the test says.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quorate_control::agreement::Refusal;
use quorate_control::positions::BLOCK;
use tokio::sync::Semaphore;

use super::*;

const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };

/// Grants blocks one behind the other, each once it is let.
#[derive(Clone)]
struct Grants {
    next: Arc<AtomicU64>,
    asked: Arc<AtomicUsize>,
    let_out: Arc<Semaphore>,
}

impl Grants {
    fn new(permits: usize) -> Self {
        let (next, asked) = (Arc::default(), Arc::default());
        Self { next, asked, let_out: Arc::new(Semaphore::new(permits)) }
    }

    async fn grant(self, to: Arc<Allocator>, cluster: ClusterKey) -> Result<(), DecideError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.let_out.acquire().await.unwrap().forget();
        let lo = self.next.fetch_add(BLOCK, Ordering::SeqCst);
        to.granted(cluster, lo..lo + BLOCK);
        // What was granted before is told of again with every answer.
        to.granted(cluster, lo..lo + BLOCK);
        Ok(())
    }

    async fn next(&self, allocator: &Arc<Allocator>) -> Result<u64, ErrorCode> {
        allocator.next(CLUSTER, || self.clone().grant(allocator.clone(), CLUSTER)).await
    }
}

/// FEATURES: A4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_unique_among_tasks() {
    let grants = Grants::new(100);
    let allocator = Arc::new(Allocator::default());
    let tasks = (0..8).map(|_| {
        let (grants, allocator) = (grants.clone(), allocator.clone());
        tokio::spawn(async move {
            let mut own = Vec::new();
            for _ in 0..4_000 {
                own.push(grants.next(&allocator).await.unwrap());
            }
            own
        })
    });
    let mut seen = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        for position in task.await.unwrap() {
            assert!(seen.insert(position), "{position} twice");
        }
    }
    assert_eq!(seen.len(), 32_000);
    assert_eq!(seen.last(), Some(&31_999), "no block was begun before the one before it ended");
}

#[tokio::test]
async fn the_next_block_is_asked_for_at_half_use_and_once() {
    let grants = Grants::new(1);
    let allocator = Arc::new(Allocator::default());
    for position in 0..BLOCK / 2 - 1 {
        assert_eq!(grants.next(&allocator).await, Ok(position));
    }
    tokio::task::yield_now().await;
    assert_eq!(grants.asked.load(Ordering::SeqCst), 1);
    // Nobody grants the second one yet, and nobody waits for it.
    for position in BLOCK / 2 - 1..BLOCK {
        assert_eq!(grants.next(&allocator).await, Ok(position));
        tokio::task::yield_now().await;
    }
    assert_eq!(grants.asked.load(Ordering::SeqCst), 2);
    let waiting = grants.next(&allocator);
    tokio::pin!(waiting);
    let early = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx)));
    assert!(early.await.is_pending());
    grants.let_out.add_permits(1);
    assert_eq!(waiting.await, Ok(BLOCK));
    assert_eq!(grants.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refusal_is_told_and_a_late_block_waited_for() {
    let allocator = Arc::new(Allocator::default());
    let refusal = Refusal { code: ErrorCode::NotOwner, text: "it is 'n2'".into() };
    let refuse = || std::future::ready(Err(DecideError::Refused(refusal.clone())));
    assert_eq!(allocator.next(CLUSTER, refuse).await, Err(ErrorCode::NotOwner));
    let full = || std::future::ready(Err(DecideError::Failed(ErrorCode::Overload)));
    assert_eq!(allocator.next(CLUSTER, full).await, Err(ErrorCode::Overload));
    // No majority at first, then one.
    let asked = AtomicUsize::new(0);
    let late = || {
        let to = allocator.clone();
        let nth = asked.fetch_add(1, Ordering::SeqCst);
        async move {
            if nth < 2 {
                return Err(DecideError::Failed(ErrorCode::NoQuorum));
            }
            to.granted(CLUSTER, 0..BLOCK);
            Ok(())
        }
    };
    assert_eq!(allocator.next(CLUSTER, late).await, Ok(0));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn clusters_count_apart_and_older_blocks_are_not_taken_again() {
    let allocator = Arc::new(Allocator::default());
    let other = ClusterKey { cluster: 11, ..CLUSTER };
    allocator.granted(CLUSTER, BLOCK..2 * BLOCK);
    allocator.granted(CLUSTER, 0..BLOCK);
    allocator.granted(other, 0..BLOCK);
    let never = || std::future::pending::<Result<(), DecideError>>();
    assert_eq!(allocator.next(CLUSTER, never).await, Ok(BLOCK));
    assert_eq!(allocator.next(CLUSTER, never).await, Ok(BLOCK + 1));
    assert_eq!(allocator.next(other, never).await, Ok(0));
}
