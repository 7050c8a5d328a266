//! Names of the messages between servers, counted by an index. May not count.

use quorate_protocol::alignment::{Answer, Ask};
use quorate_protocol::conflict::Merging;
use quorate_protocol::feeding::Relay;
use quorate_protocol::message::Message;

/// Names of the messages, in the order of [`message_index`].
pub(super) const MESSAGES: [&str; 52] = [
    "prepare",
    "vote",
    "accept",
    "accepted",
    "rejected",
    "recover",
    "promise",
    "decide",
    "decide_ack",
    "status",
    "status_reply",
    "read",
    "read_reply",
    "fetch",
    "fetch_reply",
    "low",
    "everywhere",
    "truncated",
    "left",
    "ask_logged",
    "logged",
    "align_begin",
    "align_known",
    "align_children",
    "align_list",
    "align_copy",
    "align_get",
    "align_follow",
    "align_end",
    "align_begun",
    "align_known_reply",
    "align_children_reply",
    "align_listed",
    "align_copied",
    "align_got",
    "align_followed",
    "align_unknown",
    "ended",
    "ended_reply",
    "follow",
    "unfollow",
    "feeding",
    "relay_entry",
    "below",
    "carry",
    "merge_diverged",
    "merge_look",
    "merge_seen",
    "merge_settled",
    "merge_undecided",
    "merge_range",
    "merge_listed",
];

/// Place of a message's name in [`MESSAGES`].
pub(super) const fn message_index(message: &Message) -> usize {
    match message {
        Message::Prepare { .. } => 0,
        Message::Vote { .. } => 1,
        Message::Accept { .. } => 2,
        Message::Accepted { .. } => 3,
        Message::Rejected { .. } => 4,
        Message::Recover { .. } => 5,
        Message::Promise { .. } => 6,
        Message::Decide(_) => 7,
        Message::DecideAck { .. } => 8,
        Message::Status { .. } => 9,
        Message::StatusReply { .. } => 10,
        Message::Read { .. } => 11,
        Message::ReadReply { .. } => 12,
        Message::Fetch { .. } => 13,
        Message::FetchReply { .. } => 14,
        Message::Low { .. } => 15,
        Message::Everywhere { .. } => 16,
        Message::Truncated { .. } => 17,
        Message::Left => 18,
        Message::AskLogged { .. } => 19,
        Message::Logged { .. } => 20,
        Message::Align { ask, .. } => match ask {
            Ask::Begin => 21,
            Ask::Known { .. } => 22,
            Ask::Children { .. } => 23,
            Ask::List { .. } => 24,
            Ask::Copy { .. } => 25,
            Ask::Get { .. } => 26,
            Ask::Follow { .. } => 27,
            Ask::End => 28,
        },
        Message::AlignReply { answer, .. } => match answer {
            Answer::Begun { .. } => 29,
            Answer::Known { .. } => 30,
            Answer::Children { .. } => 31,
            Answer::Listed { .. } => 32,
            Answer::Copied(_) => 33,
            Answer::Got { .. } => 34,
            Answer::Followed { .. } => 35,
            Answer::Unknown => 36,
        },
        Message::Ended { .. } => 37,
        Message::EndedReply { .. } => 38,
        Message::Relay(relay) => match relay {
            Relay::Follow { .. } => 39,
            Relay::Unfollow => 40,
            Relay::Feeding { .. } => 41,
            Relay::Entry { .. } => 42,
            Relay::Below { .. } => 43,
            Relay::Carry { .. } => 44,
        },
        Message::Merging(merging) => match merging {
            Merging::Diverged { .. } => 45,
            Merging::Look { .. } => 46,
            Merging::Seen { .. } => 47,
            Merging::Settled { .. } => 48,
            Merging::Undecided { .. } => 49,
            Merging::Range { .. } => 50,
            Merging::Listed { .. } => 51,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::ClusterKey;

    #[test]
    fn names_fit_the_messages() {
        let low = Message::Low { seq: 1 };
        assert_eq!(MESSAGES[message_index(&low)], low.name());
        let fetch = Message::Fetch { tx: quorate_api::TxId::NONE };
        assert_eq!(MESSAGES[message_index(&fetch)], fetch.name());
        let end = Message::Align { session: 1, ask: Ask::End };
        assert_eq!(MESSAGES[message_index(&end)], end.name());
        let unknown = Message::AlignReply { session: 1, answer: Answer::Unknown };
        assert_eq!(MESSAGES[message_index(&unknown)], unknown.name());
        let ended = Message::EndedReply { stage: 1, boot: quorate_api::Boot(1), agreed: true };
        assert_eq!(MESSAGES[message_index(&ended)], ended.name());
        let below = Message::Relay(Relay::Below { members: Vec::new() });
        assert_eq!(MESSAGES[message_index(&below)], below.name());
        let diverged = Message::Merging(Merging::Diverged { items: Vec::new() });
        assert_eq!(MESSAGES[message_index(&diverged)], diverged.name());
        let (cluster, entries) = (ClusterKey { database: 1, cluster: 1 }, None);
        let listed = Merging::Listed { cluster, from: None, upto: None, entries };
        let listed = Message::Merging(listed);
        assert_eq!(MESSAGES[message_index(&listed)], listed.name());
    }
}
