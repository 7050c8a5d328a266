//! The sample database: songs, who wrote and who sang them, and which one followed which at
//! concerts, in the shape of the original tutorial's graph. All names are made up from syllables
//! by a seeded generator, so everybody gets the same graph. May not know how it gets into a server
//! (that is `load`).

mod load;

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub use load::{LoadError, load};

/// Of all chance.
const SEED: u64 = 1_965;
/// Songs and artists.
const SONGS: usize = 150;
const ARTISTS: usize = 40;
/// How many songs follow one at most; at least one does.
const FOLLOWERS: u64 = 3;
/// Of a song, at most.
const PERFORMANCES: u64 = 500;

/// A song.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Song {
    /// Unique.
    pub name: String,
    /// `original` or `cover`.
    pub kind: &'static str,
    /// How often it was played.
    pub performances: u64,
    /// Place of the artist who wrote it.
    pub written_by: usize,
    /// Place of the artist who sang it.
    pub sung_by: usize,
    /// Places of the songs that were played behind it, with how often.
    pub followed_by: BTreeMap<usize, u64>,
}

/// The whole graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Their names, each unique.
    pub artists: Vec<String>,
    /// All songs.
    pub songs: Vec<Song>,
}

impl Graph {
    /// The one graph that there is.
    #[must_use]
    pub fn generate() -> Self {
        let mut chance = Chance(ChaCha8Rng::seed_from_u64(SEED));
        let artists = chance.names(ARTISTS, 2);
        let names = chance.names(SONGS, 3);
        let song = |name| {
            let performances = 1 + chance.below(PERFORMANCES);
            let followers = 1 + chance.below(FOLLOWERS);
            let places = (0..followers).map(|_| (chance.place(SONGS), 1 + chance.below(50)));
            Song {
                followed_by: places.collect(),
                name,
                kind: if chance.below(3) == 0 { "cover" } else { "original" },
                performances,
                written_by: chance.place(ARTISTS),
                sung_by: chance.place(ARTISTS),
            }
        };
        let songs = names.into_iter().map(song).collect();
        Self { artists, songs }
    }

    /// How many edges it has.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.songs.iter().map(|song| 2 + song.followed_by.len()).sum()
    }
}

struct Chance(ChaCha8Rng);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        // So few of so many: nobody sees that the first ones come up more often.
        self.0.next_u64() % end
    }

    fn place(&mut self, of: usize) -> usize {
        usize::try_from(self.below(of as u64)).unwrap_or(0)
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 16] = [
            "ba", "cor", "del", "fi", "gan", "ho", "lin", "mar", "ne", "pol", "ru", "sa", "tiv",
            "und", "vel", "zo",
        ];
        let count = 2 + self.below(2);
        let mut word: String = (0..count).map(|_| SYLLABLES[self.place(SYLLABLES.len())]).collect();
        word[..1].make_ascii_uppercase();
        word
    }

    /// Names of some words, each different.
    fn names(&mut self, count: usize, words: usize) -> Vec<String> {
        let mut names = Vec::new();
        while names.len() < count {
            let name = (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_same_graph_and_it_is_one() {
        let graph = Graph::generate();
        assert_eq!(graph, Graph::generate());
        assert_eq!((graph.artists.len(), graph.songs.len()), (ARTISTS, SONGS));
        assert_eq!(graph.edges(), 599);
        assert_eq!(graph.songs[0].name, "Zovel Ruvel Ruzomar");
        for song in &graph.songs {
            assert!(song.written_by < ARTISTS && song.sung_by < ARTISTS);
            assert!(!song.followed_by.is_empty());
            assert!(song.followed_by.keys().all(|place| *place < SONGS));
        }
    }
}
