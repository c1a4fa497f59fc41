//! Plaintext that does not fit in memory: kept in an unnamed temporary file, encrypted with a key that only this
//! process ever knows. Its integrity is not checked here: the stream's BLAKE3 covers it.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use zeroize::Zeroizing;

/// A run of bytes in the scratch.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    at_bytes: u64,
    number: u32,
}

/// The scratch; the file is made when it is first needed.
pub struct Scratch {
    key: Zeroizing<[u8; 32]>,
    file: Option<File>,
    end_bytes: u64,
    slots: u32,
}

impl Scratch {
    /// With a fresh key.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { key, file: None, end_bytes: 0, slots: 0 })
    }

    /// Every slot has its own nonce; a slot is written once and is far shorter than the 256 GiB of one nonce.
    fn cipher(&self, slot: Slot) -> ChaCha20 {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&slot.number.to_le_bytes());
        ChaCha20::new((&*self.key).into(), &nonce.into())
    }

    /// Stores bytes; they are encrypted in place.
    ///
    /// # Errors
    /// Of the file system.
    pub fn store(&mut self, mut bytes: Vec<u8>) -> io::Result<Slot> {
        let slot = Slot { at_bytes: self.end_bytes, number: self.slots };
        self.cipher(slot).apply_keystream(&mut bytes);
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let written = file.write_all_at(&bytes, slot.at_bytes);
        self.file = Some(file);
        written?;
        self.end_bytes += bytes.len() as u64;
        self.slots = self.slots.checked_add(1).ok_or_else(|| io::Error::other("too many slots"))?;
        Ok(slot)
    }

    /// Reads a part of a slot.
    ///
    /// # Errors
    /// Of the file system.
    pub fn read(&self, slot: Slot, offset_bytes: u32, out: &mut [u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("the scratch is empty")) };
        file.read_exact_at(out, slot.at_bytes + u64::from(offset_bytes))?;
        let mut cipher = self.cipher(slot);
        cipher.try_seek(u64::from(offset_bytes)).map_err(|e| io::Error::other(e.to_string()))?;
        cipher.apply_keystream(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_slots_come_back_and_the_file_holds_no_plaintext() {
        let mut scratch = Scratch::new().unwrap();
        let text: Vec<u8> = b"plaintext ".repeat(1000);
        let slots = [scratch.store(text.clone()).unwrap(), scratch.store(text.clone()).unwrap()];
        for (slot, offset) in [(slots[0], 0), (slots[1], 0), (slots[1], 4321), (slots[0], 9990)] {
            let mut out = vec![0; 10];
            scratch.read(slot, offset, &mut out).unwrap();
            assert_eq!(out, text[offset as usize..offset as usize + 10]);
        }
        let mut raw = vec![0; 20_000];
        scratch.file.as_ref().unwrap().read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(9).any(|w| w == b"plaintext"));
        assert_ne!(raw[..10_000], raw[10_000..]);
    }
}
