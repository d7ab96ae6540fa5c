//! Base62 with the digits `0-9A-Za-z`, in the two widths that a token has: ids and checks.

use super::{CHECK_CHARS, ID_BYTES, ID_CHARS};

/// The digits, by value.
pub(super) const DIGITS: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The first number that 14 digits cannot write.
pub(super) const ID_LIMIT: u128 = 62_u128.pow(14);
const HALF_CHARS: usize = ID_CHARS / 2;
const HALF_LIMIT: u128 = 62_u128.pow(7);
const _: () = assert!(ID_CHARS == 14 && HALF_LIMIT * HALF_LIMIT == ID_LIMIT);
const _: () = assert!(HALF_LIMIT < u64::MAX as u128);

/// Value of a byte that is no digit.
const NO_DIGIT: u8 = 0xFF;

const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0_u8;
    while (value as usize) < DIGITS.len() {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Whether all bytes are digits. Without a branch a byte: nearly all texts that come are tokens.
pub(super) fn are_digits(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
}

/// A CRC-32 as six digits, most significant first.
#[cfg(feature = "store")]
pub(super) fn encode_check(mut crc: u32) -> [u8; CHECK_CHARS] {
    let mut chars = [0; CHECK_CHARS];
    for char in chars.iter_mut().rev() {
        *char = DIGITS[(crc % 62) as usize];
        crc /= 62;
    }
    chars
}

/// Six digits as the number that they write, which no CRC-32 may be. Read and not written anew, so
/// that nothing here waits for the CRC.
pub(super) fn decode_check(digits: &[u8; CHECK_CHARS]) -> u64 {
    digits.iter().fold(0, |number, &digit| number * 62 + u64::from(VALUES[usize::from(digit)]))
}

/// Fourteen digits as the number that they write, big-endian.
pub(super) fn decode_id(chars: &[u8; ID_CHARS]) -> Option<[u8; ID_BYTES]> {
    let half = |chars: &[u8]| {
        chars.iter().try_fold(0_u64, |number, &char| {
            let value = VALUES[usize::from(char)];
            (value != NO_DIGIT).then(|| number * 62 + u64::from(value))
        })
    };
    let (high, low) = chars.split_at(HALF_CHARS);
    Some(id_bytes(u128::from(half(high)?) * HALF_LIMIT + u128::from(half(low)?)))
}

pub(super) fn encode_id(id: &[u8; ID_BYTES]) -> [u8; ID_CHARS] {
    // Two halves of seven digits: the processor divides 64 bits far faster than 128.
    let number = number(id);
    let mut chars = [0; ID_CHARS];
    let (high, low) = chars.split_at_mut(HALF_CHARS);
    for (half, number) in [(high, number / HALF_LIMIT), (low, number % HALF_LIMIT)] {
        let mut number = u64::try_from(number).expect("below 62^7");
        for char in half.iter_mut().rev() {
            *char = DIGITS[(number % 62) as usize];
            number /= 62;
        }
    }
    chars
}

pub(super) fn number(id: &[u8; ID_BYTES]) -> u128 {
    id.iter().fold(0, |number, &byte| (number << 8) | u128::from(byte))
}

/// The low 11 bytes of `number`, big-endian. `number` is below [`ID_LIMIT`].
pub(super) fn id_bytes(number: u128) -> [u8; ID_BYTES] {
    debug_assert!(number < ID_LIMIT);
    let wide = number.to_be_bytes();
    std::array::from_fn(|i| wide[wide.len() - ID_BYTES + i])
}

/// A 256-bit big-endian number modulo [`ID_LIMIT`].
pub(super) fn remainder(digest: &[u8; 32]) -> u128 {
    // The remainder stays below 2^84, so a shift by 8 cannot overflow.
    digest.iter().fold(0, |rest, &byte| ((rest << 8) | u128::from(byte)) % ID_LIMIT)
}
