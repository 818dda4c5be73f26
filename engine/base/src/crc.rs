//! CRC32C (Castagnoli), the checksum of Kafka record batches and of every block we write.

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC32C of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_give_the_checksum_of_the_whole() {
        let mut pieces = super::Crc32c::default();
        pieces.update(b"1234");
        assert_eq!(pieces.value(), super::crc32c(b"1234"));
        pieces.update(b"56789");
        assert_eq!(pieces.value(), 0xe306_9283);
    }

    #[test]
    fn known_vector() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc32c(&[0u8; 32]), 0x8a91_36aa);
    }
}
