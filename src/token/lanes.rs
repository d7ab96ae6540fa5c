//! BLAKE3 of several short texts at once, one in each lane of a vector.
//!
//! A token fits one block of 64 bytes, so its keyed hash is one compression (BLAKE3 paper, 2.2 to
//! 2.6), and the `blake3` crate does one at a time: its parallelism is within a long input. Eight
//! at a time take a fifth of the time with AVX2, and less with AVX-512.

#![allow(unsafe_code)]

use std::array;

use zeroize::Zeroize;

use super::{Digest, DomainKey};

/// Texts that are hashed at once.
const LANES: usize = 8;
/// Fewer than this are hashed one by one in less time than lanes are filled and wiped.
pub(super) const LANES_MIN: usize = 3;
const BLOCK_BYTES: usize = 64;
const ROUNDS: usize = 7;

/// The first words of the initial state behind the key: those of SHA-256.
const IV: [u32; 4] = [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A];
/// CHUNK_START, CHUNK_END, ROOT and KEYED_HASH: one block is all of a keyed input.
const FLAGS: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 4;
/// Where each word of the message comes from in the next round.
const SCHEDULE: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// One word of each lane, and as many words of a key or a digest.
type Words = [u32; LANES];
type Blocks = [[u8; BLOCK_BYTES]; LANES];

/// One compression in each lane.
///
/// # Safety
/// The processor has what it was compiled for, which [`compressions`] makes sure of.
type Compress = unsafe fn(&Words, &Blocks, &Words) -> [Words; LANES];

/// Takes texts and puts their digests where they belong. Wiped when dropped: texts are tokens.
pub(super) struct Lanes<'a> {
    key: &'a DomainKey,
    /// `None` where the processor has no vectors.
    compress: Option<Compress>,
    blocks: Blocks,
    lens: Words,
    /// Where the digest of each goes.
    places: [usize; LANES],
    held: usize,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(key: &'a DomainKey) -> Lanes<'a> {
        Lanes {
            key,
            compress: compressions().next(),
            blocks: [[0; BLOCK_BYTES]; LANES],
            lens: [0; LANES],
            places: [0; LANES],
            held: 0,
        }
    }

    /// Takes a text, whose digest will be `digests[place]`: now, later, or when this is finished.
    pub(super) fn push(&mut self, text: &[u8], place: usize, digests: &mut [Digest]) {
        if self.compress.is_none() || text.len() > BLOCK_BYTES {
            digests[place] = self.key.digest(text);
            return;
        }
        let block = &mut self.blocks[self.held];
        *block = [0; BLOCK_BYTES];
        block[..text.len()].copy_from_slice(text);
        self.lens[self.held] = u32::try_from(text.len()).expect("at most 64");
        self.places[self.held] = place;
        self.held += 1;
        if self.held == LANES {
            self.hash(digests);
        }
    }

    /// Hashes what is left.
    pub(super) fn finish(mut self, digests: &mut [Digest]) {
        if self.held >= LANES_MIN {
            return self.hash(digests);
        }
        for lane in 0..self.held {
            let text = &self.blocks[lane][..self.lens[lane] as usize];
            digests[self.places[lane]] = self.key.digest(text);
        }
    }

    /// Lanes that hold nothing are hashed as well, and forgotten.
    fn hash(&mut self, digests: &mut [Digest]) {
        let key = array::from_fn(|word| word_of(&self.key.0, word));
        let compress = self.compress.expect("a text is held only where there are vectors");
        // SAFETY: `compressions` gives what this processor has.
        let hashed = unsafe { compress(&key, &self.blocks, &self.lens) };
        for (digest, &place) in hashed.iter().zip(&self.places[..self.held]) {
            for (bytes, word) in digests[place].as_chunks_mut().0.iter_mut().zip(digest) {
                *bytes = word.to_le_bytes();
            }
        }
        self.held = 0;
    }
}

impl Drop for Lanes<'_> {
    fn drop(&mut self) {
        self.blocks.zeroize();
    }
}

/// What this processor has, the fastest first.
#[cfg(target_arch = "x86_64")]
fn compressions() -> impl Iterator<Item = Compress> {
    let avx512 = std::arch::is_x86_feature_detected!("avx512vl");
    let avx2 = std::arch::is_x86_feature_detected!("avx2");
    let compressions: [(bool, Compress); 2] =
        [(avx512, x86_64::compress_avx512), (avx2, x86_64::compress_avx2)];
    compressions.into_iter().filter_map(|(is_there, compress)| is_there.then_some(compress))
}

#[cfg(not(target_arch = "x86_64"))]
fn compressions() -> impl Iterator<Item = Compress> {
    std::iter::empty()
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_or_si256, _mm256_set_epi32, _mm256_set1_epi32,
        _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_xor_si256,
    };
    use std::array;

    use super::{Blocks, FLAGS, IV, LANES, ROUNDS, SCHEDULE, Words, word_of};

    /// The first half of the output of one compression, in each lane. Safe where there is what it is
    /// compiled for.
    macro_rules! compress {
        ($name:ident, $features:literal) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(key: &Words, blocks: &Blocks, lens: &Words) -> [Words; LANES] {
                let mut message = [across(&[0; LANES]); 16];
                for (word, vector) in message.iter_mut().enumerate() {
                    *vector = across(&array::from_fn(|lane| word_of(&blocks[lane], word)));
                }
                let mut state = [across(&[0; LANES]); 16];
                for word in 0..8 {
                    state[word] = _mm256_set1_epi32(key[word].cast_signed());
                }
                for word in 0..4 {
                    state[8 + word] = _mm256_set1_epi32(IV[word].cast_signed());
                }
                // Words 12 and 13 count chunks, of which there is one, number 0.
                state[14] = across(lens);
                state[15] = _mm256_set1_epi32(FLAGS.cast_signed());
                for _ in 0..ROUNDS {
                    let m = message;
                    mix(&mut state, [0, 4, 8, 12], m[0], m[1]);
                    mix(&mut state, [1, 5, 9, 13], m[2], m[3]);
                    mix(&mut state, [2, 6, 10, 14], m[4], m[5]);
                    mix(&mut state, [3, 7, 11, 15], m[6], m[7]);
                    mix(&mut state, [0, 5, 10, 15], m[8], m[9]);
                    mix(&mut state, [1, 6, 11, 12], m[10], m[11]);
                    mix(&mut state, [2, 7, 8, 13], m[12], m[13]);
                    mix(&mut state, [3, 4, 9, 14], m[14], m[15]);
                    for word in 0..16 {
                        message[word] = m[SCHEDULE[word]];
                    }
                }
                let mut digests = [[0; 8]; LANES];
                for word in 0..8 {
                    let lanes = down(_mm256_xor_si256(state[word], state[word + 8]));
                    for lane in 0..LANES {
                        digests[lane][word] = lanes[lane];
                    }
                }
                digests
            }
        };
    }

    compress!(compress_avx2, "avx2");
    // Rotates in one instruction, and has registers for all words.
    compress!(compress_avx512, "avx512f,avx512vl");

    /// The quarter round G.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn mix(state: &mut [__m256i; 16], [a, b, c, d]: [usize; 4], x: __m256i, y: __m256i) {
        state[a] = _mm256_add_epi32(_mm256_add_epi32(state[a], state[b]), x);
        state[d] = rotate::<16, 16>(_mm256_xor_si256(state[d], state[a]));
        state[c] = _mm256_add_epi32(state[c], state[d]);
        state[b] = rotate::<12, 20>(_mm256_xor_si256(state[b], state[c]));
        state[a] = _mm256_add_epi32(_mm256_add_epi32(state[a], state[b]), y);
        state[d] = rotate::<8, 24>(_mm256_xor_si256(state[d], state[a]));
        state[c] = _mm256_add_epi32(state[c], state[d]);
        state[b] = rotate::<7, 25>(_mm256_xor_si256(state[b], state[c]));
    }

    /// To the right by `R`, which is to the left by `L`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const R: i32, const L: i32>(words: __m256i) -> __m256i {
        const { assert!(R + L == 32) };
        _mm256_or_si256(_mm256_srli_epi32::<R>(words), _mm256_slli_epi32::<L>(words))
    }

    /// A vector of one word of each lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn across(lanes: &Words) -> __m256i {
        let [a, b, c, d, e, f, g, h] = lanes.map(u32::cast_signed);
        _mm256_set_epi32(h, g, f, e, d, c, b, a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn down(vector: __m256i) -> Words {
        let mut lanes = [0; LANES];
        // SAFETY: 32 bytes are written to an array of 8 words of 4 bytes; no alignment is asked for.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
        lanes
    }
}

/// A little-endian word of some bytes.
#[inline]
fn word_of(bytes: &[u8], word: usize) -> u32 {
    let (words, _) = bytes.as_chunks();
    u32::from_le_bytes(words[word])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With each sort of vectors that there is, and without, on random keys and texts of all lengths.
    #[test]
    fn lanes_hash_as_the_crate_does() {
        let inputs =
            if std::env::var_os("ADAMANT_RELEASE").is_some() { 10_000_000 } else { 40_000 };
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut word = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        };
        let mut texts = [[0; BLOCK_BYTES]; LANES];
        let mut digests = [Digest::default(); LANES];
        for round in 0..inputs / LANES {
            let key = DomainKey(array::from_fn(|_| word()[0]));
            for compress in compressions().map(Some).chain([None]) {
                let mut lanes = Lanes::new(&key);
                lanes.compress = compress;
                for (lane, text) in texts.iter_mut().enumerate() {
                    text.as_chunks_mut().0.iter_mut().for_each(|bytes| *bytes = word());
                    lanes.push(&text[..(round + 9 * lane) % 65], lane, &mut digests);
                }
                lanes.finish(&mut digests);
                for (lane, text) in texts.iter().enumerate() {
                    let text = &text[..(round + 9 * lane) % 65];
                    assert_eq!(digests[lane], *blake3::keyed_hash(&key.0, text).as_bytes());
                }
            }
        }
    }
}
