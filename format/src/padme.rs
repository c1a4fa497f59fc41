//! PADMÉ lengths: padded sizes that leak O(log log n) bits of the length, for at most 12 % more bytes.
//! Source: Nikitin, Barman, Lueks, Underwood, Hubaux, Ford, "Reducing Metadata Leakage from Encrypted Files
//! and Communication with PURBs", PETS 2019, algorithm 1.

/// The smallest PADMÉ length that is at least `len_bytes`.
pub fn padded_len_bytes(len_bytes: u64) -> u64 {
    if len_bytes < 2 {
        return len_bytes;
    }
    let exponent = len_bytes.ilog2();
    let mantissa_bits = exponent.ilog2_or_zero() + 1;
    let mask = (1u64 << exponent.saturating_sub(mantissa_bits)) - 1;
    len_bytes.saturating_add(mask) & !mask
}

/// `ilog2` that is defined, as 0, for 0.
trait Ilog2OrZero {
    fn ilog2_or_zero(self) -> u32;
}

impl Ilog2OrZero for u32 {
    fn ilog2_or_zero(self) -> u32 {
        self.checked_ilog2().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_lengths() {
        for (len, padded) in [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (40_000, 40_960), (8 << 20, 8 << 20)] {
            assert_eq!(padded_len_bytes(len), padded, "{len}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_idempotent_and_costs_at_most_12_percent(len in 0u64..(1 << 50)) {
            let padded = padded_len_bytes(len);
            prop_assert!(padded >= len);
            prop_assert!(padded - len <= len * 12 / 100 + 1);
            prop_assert_eq!(padded_len_bytes(padded), padded);
        }
    }
}
