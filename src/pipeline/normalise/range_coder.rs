//! An adaptive binary range coder: the carry-propagating coder of LZMA, with 16-bit probabilities.
//!
//! The bytes are specified in SPEC §7.3.

use std::convert::Infallible;
use std::io::{self, BufRead};

use super::NotesError;

/// The range is refilled when it falls below this.
const RANGE_MIN: u32 = 1 << 24;

const PROBABILITY_BITS: u32 = 16;
const PROBABILITY_MIN: u16 = 32;
const PROBABILITY_MAX: u16 = u16::MAX - 31;
/// A probability settles at a rate of 1/128.
const SEEN_MAX: u16 = 126;

/// The adaptive probability, in 1/65536, that a bit is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probability {
    set: u16,
    seen: u16,
}

impl Probability {
    pub(super) const EVEN: Self = Self { set: 1 << (PROBABILITY_BITS - 1), seen: 0 };

    #[inline]
    fn learn(&mut self, bit: bool) {
        let rate = u32::from(self.seen) + 2;
        let set = u32::from(self.set);
        let set = if bit { set + ((1 << PROBABILITY_BITS) - set) / rate } else { set - set / rate };
        self.set = u16::try_from(set).unwrap_or(u16::MAX).clamp(PROBABILITY_MIN, PROBABILITY_MAX);
        self.seen = SEEN_MAX.min(self.seen + 1);
    }

    #[inline]
    fn split(self, range: u32) -> u32 {
        (range >> PROBABILITY_BITS) * u32::from(self.set)
    }
}

/// One of the two directions, so that the model is written down once.
pub(super) trait Coder {
    /// It writes what is wanted; otherwise what is wanted has no meaning.
    const WRITES: bool;
    type Error;

    /// Writes the wanted bit and gives it back, or reads one.
    fn bit(&mut self, probability: &mut Probability, wanted: bool) -> Result<bool, Self::Error>;

    /// Writes the wanted one of so many equally likely choices, or reads one.
    fn choice(&mut self, choices: u16, wanted: u16) -> Result<u16, Self::Error>;
}

/// Writes bits and choices; the bytes settle in [`Encoder::out`].
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) out: Vec<u8>,
    /// The lower end of the interval; bit 32 is a carry.
    low: u64,
    range: u32,
    /// The last byte shifted out, which a carry may still change; none before the first.
    held: Option<u8>,
    /// Bytes 0xff after the held one, which a carry would turn to 0x00.
    held_ff: u64,
    used: bool,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { out: Vec::new(), low: 0, range: u32::MAX, held: None, held_ff: 0, used: false }
    }

    #[inline]
    fn refill(&mut self) {
        self.used = true;
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves the top byte of `low` out, carrying into the bytes held back.
    fn shift(&mut self) {
        let carry = u8::from(self.low > u64::from(u32::MAX));
        let [_, _, _, top, ..] = self.low.to_le_bytes();
        if carry == 0 && top == 0xff {
            self.held_ff += 1;
        } else {
            if let Some(held) = self.held {
                self.out.push(held.wrapping_add(carry));
            }
            for _ in 0..std::mem::take(&mut self.held_ff) {
                self.out.push(0xff_u8.wrapping_add(carry));
            }
            self.held = Some(top);
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// Writes out what is held back. Nothing at all is written if no bit was.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.used {
            for _ in 0..5 {
                self.shift();
            }
        }
        self.out
    }
}

impl Coder for Encoder {
    const WRITES: bool = true;
    type Error = Infallible;

    #[inline]
    fn bit(&mut self, probability: &mut Probability, wanted: bool) -> Result<bool, Infallible> {
        let split = probability.split(self.range);
        if wanted {
            self.range = split;
        } else {
            self.low += u64::from(split);
            self.range -= split;
        }
        probability.learn(wanted);
        self.refill();
        Ok(wanted)
    }

    fn choice(&mut self, choices: u16, wanted: u16) -> Result<u16, Infallible> {
        let share = self.range / u32::from(choices.max(1));
        self.low += u64::from(share) * u64::from(wanted);
        self.range = share;
        self.refill();
        Ok(wanted)
    }
}

/// Reads what an [`Encoder`] wrote, never a byte more.
#[derive(Debug)]
pub(super) struct Decoder<R> {
    notes: R,
    /// Where in the interval the notes point to; read with the first bit.
    code: Option<u32>,
    range: u32,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(notes: R) -> Self {
        Self { notes, code: None, range: u32::MAX }
    }

    #[inline]
    fn code(&mut self) -> Result<u32, NotesError> {
        match self.code {
            Some(code) => Ok(code),
            None => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code << 8 | u32::from(self.byte()?);
                }
                Ok(code)
            }
        }
    }

    #[inline]
    fn refill(&mut self, mut code: u32) -> Result<(), NotesError> {
        while self.range < RANGE_MIN {
            self.range <<= 8;
            code = code << 8 | u32::from(self.byte()?);
        }
        self.code = Some(code);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, NotesError> {
        loop {
            match self.notes.fill_buf() {
                Ok(buffer) => {
                    let &byte = buffer.first().ok_or(NotesError::Short)?;
                    self.notes.consume(1);
                    return Ok(byte);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NotesError::Read(error)),
            }
        }
    }

    /// Checks that nothing is left to read.
    pub(super) fn finish(mut self) -> Result<(), NotesError> {
        match self.byte() {
            Err(NotesError::Short) => Ok(()),
            Ok(_) => Err(NotesError::Long),
            Err(error) => Err(error),
        }
    }
}

impl<R: BufRead> Coder for Decoder<R> {
    const WRITES: bool = false;
    type Error = NotesError;

    #[inline]
    fn bit(&mut self, probability: &mut Probability, _: bool) -> Result<bool, NotesError> {
        let code = self.code()?;
        let split = probability.split(self.range);
        let bit = code < split;
        self.range = if bit { split } else { self.range - split };
        probability.learn(bit);
        self.refill(if bit { code } else { code - split })?;
        Ok(bit)
    }

    fn choice(&mut self, choices: u16, _: u16) -> Result<u16, NotesError> {
        let code = self.code()?;
        let share = self.range / u32::from(choices.max(1));
        let choice = u16::try_from(code / share).map_err(|_| NotesError::Corrupt)?;
        if choice >= choices {
            return Err(NotesError::Corrupt);
        }
        self.range = share;
        self.refill(code % share)?;
        Ok(choice)
    }
}
