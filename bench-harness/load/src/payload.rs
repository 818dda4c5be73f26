//! The values of records: where their bytes come from, and the stamp that end-to-end latency needs.
//!
//! A value begins with 16 bytes: the moment its record was due (ns of the monotonic clock, big
//! endian) and the mark of this run, by which a consumer knows its own records. The rest is taken in
//! turn from a few values made before the load starts.

use std::path::PathBuf;

use highwater_base::prng::Prng;

/// Bytes of due moment and mark.
pub const STAMP_BYTES: usize = 16;
/// Values made beforehand; small enough to stay in a cache, many enough not to repeat in a batch.
const VALUES: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Bytes that no codec can shrink.
    Random,
    Zero,
    /// Random for one part in `ratio`, then one byte repeated.
    Compressible {
        ratio: f64,
    },
    /// Consecutive pieces of a file, from its beginning again at its end.
    File(PathBuf),
}

impl std::str::FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Payload, String> {
        let wrong = || {
            format!(
                "{text:?} is no payload; allowed are random, zero, compressible:RATIO, file:PATH"
            )
        };
        match text.split_once(':') {
            None if text == "random" => Ok(Payload::Random),
            None if text == "zero" => Ok(Payload::Zero),
            Some(("compressible", ratio)) => match ratio.parse() {
                Ok(ratio) if (1.0..=1000.0).contains(&ratio) => Ok(Payload::Compressible { ratio }),
                _ => Err(format!("the ratio {ratio:?} is no number from 1 to 1000")),
            },
            Some(("file", path)) if !path.is_empty() => Ok(Payload::File(PathBuf::from(path))),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Payload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Random => write!(out, "random"),
            Payload::Zero => write!(out, "zero"),
            Payload::Compressible { ratio } => write!(out, "compressible:{ratio}"),
            Payload::File(path) => write!(out, "file:{}", path.display()),
        }
    }
}

/// Makes values of one size.
#[derive(Clone, Debug)]
pub struct Values {
    values: Vec<Vec<u8>>,
    next: usize,
    mark: u64,
}

impl Values {
    /// # Errors
    /// The file cannot be read or is empty.
    pub fn new(payload: &Payload, bytes: usize, mark: u64) -> Result<Values, String> {
        let mut random = Prng::new(mark);
        let source = match payload {
            Payload::File(path) => {
                let read = std::fs::read(path).map_err(|error| error.to_string());
                let whole = read.and_then(|whole| match whole.is_empty() {
                    true => Err("it is empty".to_string()),
                    false => Ok(whole),
                });
                whole.map_err(|error| format!("the payload file {}: {error}", path.display()))?
            }
            _ => Vec::new(),
        };
        let random_bytes = match payload {
            Payload::Random => bytes,
            Payload::Zero | Payload::File(_) => 0,
            Payload::Compressible { ratio } => (bytes as f64 / ratio) as usize,
        };
        let value = |index: usize| {
            let mut value = vec![0u8; bytes];
            for piece in value[..random_bytes].chunks_mut(8) {
                piece.copy_from_slice(&random.next_u64().to_be_bytes()[..piece.len()]);
            }
            for (at, byte) in value.iter_mut().enumerate().skip(random_bytes) {
                if !source.is_empty() {
                    *byte = source[(index * bytes + at) % source.len()];
                }
            }
            value
        };
        Ok(Values {
            values: (0..VALUES).map(value).collect(),
            next: 0,
            mark,
        })
    }

    /// Stamps values with this mark instead of the seed they were made from.
    pub fn marked(mut self, mark: u64) -> Values {
        self.mark = mark;
        self
    }

    /// A value that no run takes for its own.
    pub fn unmarked(&self) -> &[u8] {
        &self.values[0]
    }

    /// The next value, stamped.
    pub fn next(&mut self, due_ns: u64) -> &[u8] {
        self.next = (self.next + 1) % self.values.len();
        let value = &mut self.values[self.next];
        if value.len() >= STAMP_BYTES {
            value[..8].copy_from_slice(&due_ns.to_be_bytes());
            value[8..STAMP_BYTES].copy_from_slice(&self.mark.to_be_bytes());
        }
        value
    }
}

/// When a record of the run with this mark was due; `None` for anybody else's.
pub fn due_of(value: &[u8], mark: u64) -> Option<u64> {
    let due: [u8; 8] = value.get(..8)?.try_into().ok()?;
    let found: [u8; 8] = value.get(8..STAMP_BYTES)?.try_into().ok()?;
    (u64::from_be_bytes(found) == mark).then_some(u64::from_be_bytes(due))
}

#[cfg(test)]
mod tests {
    use highwater_wire::compression::{Codec, compress};

    use super::*;

    fn compressed(payload: &Payload) -> f64 {
        let mut values = Values::new(payload, 10_000, 7).expect("made");
        let all: Vec<u8> = (0..20).flat_map(|_| values.next(1).to_vec()).collect();
        let out = compress(Codec::Zstd, &all).expect("compresses");
        all.len() as f64 / out.len() as f64
    }

    #[test]
    fn values_compress_as_asked() {
        assert!(compressed(&Payload::Random) < 1.05);
        assert!(compressed(&Payload::Zero) > 100.0);
        let four = compressed(&Payload::Compressible { ratio: 4.0 });
        assert!((3.5..=4.5).contains(&four), "{four}");
    }

    #[test]
    fn a_stamp_is_read_back_by_its_own_run_only() {
        let mut values = Values::new(&Payload::Random, 100, 42).expect("made");
        let value = values.next(123_456).to_vec();
        assert_eq!(due_of(&value, 42), Some(123_456));
        assert_eq!(due_of(&value, 43), None);
        assert_eq!(due_of(b"short", 42), None);
    }

    #[test]
    fn payloads_are_named() {
        for text in ["random", "zero", "compressible:3.5", "file:/tmp/x"] {
            assert_eq!(text.parse::<Payload>().expect("valid").to_string(), text);
        }
        for text in ["", "noise", "compressible:0", "file:"] {
            assert!(text.parse::<Payload>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_cut_into_values() {
        let path = std::env::temp_dir().join(format!("highwater-payload-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").expect("written");
        let values = Values::new(&Payload::File(path.clone()), 20, 1);
        std::fs::remove_file(&path).expect("removed");
        let mut values = values.expect("made");
        assert_eq!(&values.next(0)[STAMP_BYTES..], b"6789");
        let error = Values::new(&Payload::File(path), 20, 1).expect_err("gone");
        assert!(error.contains("the payload file"), "{error}");
    }
}
