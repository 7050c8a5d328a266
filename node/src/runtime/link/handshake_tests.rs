//! Handshakes over an in-memory connection: the good one, and every way to fail.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

fn hello(name: &str, to: &str) -> Hello {
    Hello {
        cluster: "bench".into(),
        name: name.into(),
        to: to.into(),
        node: NodeId(u64::from(name.as_bytes()[1])),
        boot: Boot(1),
        process: 9,
        started_with: (Boot(0), 0),
        nonce: [name.as_bytes()[1]; 32],
    }
}

fn credentials(cluster: &str, password: &str) -> Credentials {
    Credentials { cluster: cluster.into(), key: Key::derive(cluster, password) }
}

type Side = Result<Hello, HandshakeError>;

async fn run(dialer: (Hello, Credentials), acceptor: (Hello, Credentials)) -> (Side, Side) {
    let (mut a, mut b) = duplex(1 << 16);
    let dial = async move {
        let bytes = LinkBytes::default();
        Talk::new(&mut a, &bytes, Versions::ALL).dial(&dialer.0, &dialer.1).await
    };
    let answer = async move {
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut b, &bytes, Versions::ALL);
        let (peer, proof) = talk.answer(acceptor.0, &acceptor.1).await?;
        talk.accept(&proof).await?;
        Ok(peer)
    };
    tokio::join!(dial, answer)
}

fn text(side: Side) -> String {
    side.unwrap_err().to_string()
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let good = credentials("bench", "secret");
    let (a, b) = run((hello("n1", "n2"), good.clone()), (hello("n2", ""), good)).await;
    assert_eq!(a.unwrap().name, "n2");
    assert_eq!(b.unwrap(), hello("n1", "n2"));
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_logged_on_both_sides() {
    let (good, bad) = (credentials("bench", "secret"), credentials("bench", "guess"));
    let (a, b) = run((hello("n1", "n2"), bad), (hello("n2", ""), good)).await;
    assert_eq!(text(a), "refused by the other side: cluster name or password differ");
    assert_eq!(text(b), "refused: cluster name or password differ");
}

/// Passes on what both sides send until one of them ends, and keeps it.
async fn overhear(mut a: DuplexStream, mut b: DuplexStream) -> Vec<u8> {
    let (mut heard, mut from_a, mut from_b) = (Vec::new(), [0; 512], [0; 512]);
    loop {
        let (bytes, to) = tokio::select! {
            count = a.read(&mut from_a) => (&from_a[..count.unwrap()], &mut b),
            count = b.read(&mut from_b) => (&from_b[..count.unwrap()], &mut a),
        };
        if bytes.is_empty() {
            return heard;
        }
        heard.extend_from_slice(bytes);
        // Whoever has refused does not listen any more.
        to.write_all(bytes).await.ok();
    }
}

/// FEATURES: S7
#[tokio::test]
async fn no_password_travels_whoever_is_at_the_other_end() {
    for (password, is_right) in [("secret", true), ("guessed", false)] {
        let ((mut a, left), (right, mut b)) = (duplex(1 << 16), duplex(1 << 16));
        let dial = async move {
            let bytes = LinkBytes::default();
            let credentials = credentials("bench", password);
            Talk::new(&mut a, &bytes, Versions::ALL)
                .dial(&hello("n1", "n2"), &credentials)
                .await
                .is_ok()
        };
        let answer = async move {
            let bytes = LinkBytes::default();
            let mut talk = Talk::new(&mut b, &bytes, Versions::ALL);
            if let Ok((_, proof)) =
                talk.answer(hello("n2", ""), &credentials("bench", "secret")).await
            {
                talk.accept(&proof).await.unwrap();
            }
        };
        let (linked, (), heard) = tokio::join!(dial, answer, overhear(left, right));
        assert_eq!(linked, is_right);
        let holds = |text: &str| heard.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("bench") && !holds("secret") && !holds("guessed"));
    }
}

#[tokio::test]
async fn a_wrong_cluster_looks_like_a_wrong_password() {
    let mut other = hello("n1", "n2");
    other.cluster = "prod".into();
    let acceptor = (hello("n2", ""), credentials("bench", "secret"));
    let (a, b) = run((other, credentials("prod", "secret")), acceptor).await;
    assert_eq!(text(a), "refused by the other side: cluster name or password differ");
    assert_eq!(text(b), "refused: cluster name or password differ");
}

#[tokio::test]
async fn an_acceptor_without_the_password_is_not_believed() {
    let (mut a, mut b) = duplex(1 << 16);
    let dial = async move {
        let bytes = LinkBytes::default();
        let good = credentials("bench", "secret");
        Talk::new(&mut a, &bytes, Versions::ALL).dial(&hello("n1", "n2"), &good).await
    };
    let impostor = async move {
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut b, &bytes, Versions::ALL);
        talk.receive(Kind::Hello).await.unwrap();
        let own = introduction(&hello("n2", "n1"), Versions::ALL).unwrap();
        talk.send(Kind::Welcome, &Raw(&own)).await.unwrap();
        // The dialer's own proof, handed back.
        let proof: Proof = frame::decode(&talk.receive(Kind::Proof).await.unwrap()).unwrap();
        talk.accept(&proof).await.unwrap();
    };
    let (a, ()) = tokio::join!(dial, impostor);
    assert_eq!(text(a), "refused: cluster name or password differ");
}

#[tokio::test]
async fn a_recorded_conversation_does_not_work_twice() {
    let good = credentials("bench", "secret");
    let (first, mut replayed) = (hello("n2", "n1"), hello("n2", ""));
    let own = introduction(&hello("n1", "n2"), Versions::ALL).unwrap();
    let recorded =
        good.key.prove(Role::Dialer, &own, &introduction(&first, Versions::ALL).unwrap());
    replayed.nonce = [1; 32];
    let (mut a, mut b) = duplex(1 << 16);
    let replay = async move {
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut a, &bytes, Versions::ALL);
        talk.send(Kind::Hello, &Raw(&own)).await.unwrap();
        talk.receive(Kind::Welcome).await.unwrap();
        talk.send(Kind::Proof, &recorded).await.unwrap();
        talk.receive(Kind::Accepted).await.unwrap_err()
    };
    let answer = async move {
        let bytes = LinkBytes::default();
        Talk::new(&mut b, &bytes, Versions::ALL).answer(replayed, &good).await.map(|(peer, _)| peer)
    };
    let (a, b) = tokio::join!(replay, answer);
    assert!(matches!(a, HandshakeError::RefusedByPeer(Refusal::Credentials)));
    assert_eq!(text(b), "refused: cluster name or password differ");
}

#[tokio::test]
async fn a_dial_map_that_leads_elsewhere_is_noticed() {
    let good = credentials("bench", "secret");
    let (a, b) = run((hello("n1", "n3"), good.clone()), (hello("n2", ""), good)).await;
    assert_eq!(text(a), "refused by the other side: the address belongs to another server");
    assert_eq!(text(b), "refused: the address belongs to another server");
}

/// One server meets another one, each with the versions that it speaks: what both agree on, or why
/// they do not, in the words of each.
async fn meet(dialer: Versions, acceptor: Versions) -> (Result<u16, String>, Result<u16, String>) {
    let (mut a, mut b) = duplex(1 << 16);
    let good = credentials("bench", "secret");
    let dial = async {
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut a, &bytes, dialer);
        let met = talk.dial(&hello("n1", "n2"), &good).await;
        met.map(|_| talk.version()).map_err(|error| error.to_string())
    };
    let answer = async {
        let bytes = LinkBytes::default();
        let mut talk = Talk::new(&mut b, &bytes, acceptor);
        let (_, proof) =
            talk.answer(hello("n2", ""), &good).await.map_err(|error| error.to_string())?;
        talk.accept(&proof).await.map_err(|error| error.to_string())?;
        Ok(talk.version())
    };
    tokio::join!(dial, answer)
}

#[test]
fn an_introduction_begins_as_it_always_did() {
    let hello = hello("n1", "n2");
    let before = introduction(&hello, range(8, 8)).unwrap();
    let now = introduction(&hello, range(8, 9)).unwrap();
    assert_eq!(before[..16], *b"quorate\0\x08\0\x05bench");
    assert_eq!(now[..18], *b"quorate\0\x09\0\x08\0\x05bench");
    assert_eq!(before[10..], now[12..]);
    assert_eq!(versions_of(&now).unwrap().0, range(8, 9));
    // A newer one may say more.
    let longer = [&now[..], &[1, 2, 3]].concat();
    assert!(frame::decode_begin::<Hello>(versions_of(&longer).unwrap().1).is_ok());
}

const fn range(oldest: u16, newest: u16) -> Versions {
    Versions { oldest, newest }
}

#[tokio::test]
async fn the_highest_common_version_is_used_whoever_dials() {
    for (one, other, version) in [
        (range(8, 9), range(8, 9), 9),
        (range(8, 9), range(9, 12), 9),
        (range(9, 12), range(8, 10), 10),
        // From before the ranges, and the newer one's second attempt at such a server.
        (range(8, 8), range(8, 9), 8),
        (without_range(range(8, 9)).unwrap(), range(8, 8), 8),
    ] {
        assert_eq!(meet(one, other).await, (Ok(version), Ok(version)), "{one} and {other}");
    }
}

#[tokio::test]
async fn without_a_common_version_both_say_what_each_speaks_and_who_is_too_old() {
    let (a, b) = meet(range(9, 9), range(10, 11)).await;
    assert_eq!(
        a.unwrap_err(),
        "no common version of the link protocol: this server speaks version 9, the other one \
         versions 10 to 11; start this server with a newer program, the data folder stays as it is"
    );
    let text = b.unwrap_err();
    assert!(text.contains("versions 10 to 11, the other one version 9; start the other"), "{text}");
    // A server from before the ranges is told what it knows.
    let (a, b) = meet(range(8, 8), range(9, 9)).await;
    assert!(a.unwrap_err().contains("another version of the link protocol only"));
    let text = b.unwrap_err();
    assert!(text.contains("speaks version 9, the other one version 8; start the other"), "{text}");
    // It looks at nothing but the number, and is offered the last one from before.
    let (a, b) = meet(range(8, 9), range(8, 8)).await;
    assert!(a.unwrap_err().contains("another version") && b.is_err());
    assert_eq!((without_range(range(9, 10)), without_range(range(8, 8))), (None, None));
}

#[test]
fn garbage_ends_the_handshake_without_a_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    proptest!(|(garbage: Vec<u8>, framed: bool)| {
        let outcome = runtime.block_on(async {
            let (mut a, mut b) = duplex(1 << 16);
            let bytes = LinkBytes::default();
            if framed {
                let mut buffer = Vec::new();
                frame::append(&mut buffer, Kind::Hello, &Raw(&garbage)).unwrap();
                a.write_all(&buffer).await.unwrap();
            } else {
                a.write_all(&garbage).await.unwrap();
            }
            a.shutdown().await.unwrap();
            let good = credentials("bench", "secret");
            let mut talk = Talk::new(&mut b, &bytes, Versions::ALL);
            let answer = talk.answer(hello("n2", ""), &good).await;
            drop(b);
            a.read_to_end(&mut Vec::new()).await.unwrap();
            answer
        });
        prop_assert!(outcome.is_err());
    });
}

#[tokio::test]
async fn an_oversize_frame_ends_the_handshake() {
    let (mut a, mut b) = duplex(1 << 16);
    a.write_all(&(HANDSHAKE_FRAME_MAX as u32 + 1).to_le_bytes()).await.unwrap();
    a.write_all(&[0; 4]).await.unwrap();
    let bytes = LinkBytes::default();
    let good = credentials("bench", "secret");
    let answer = Talk::new(&mut b, &bytes, Versions::ALL).answer(hello("n2", ""), &good).await;
    assert!(matches!(answer, Err(HandshakeError::Frame(FrameError::Length(_)))));
}
