//! Damaged messages of every version: decoding never panics, never takes bytes beyond the frame, and
//! what it does accept can be walked and encoded.

mod support;

use highwater_base::prng::Prng;
use highwater_wire::ApiKey;
use highwater_wire::header::RequestHeader;
use support::{for_each_api, samples};

/// Decodes as the message of this name; walks and encodes what decodes. Whether it did.
fn decode(name: &str, version: i16, bytes: &[u8]) -> bool {
    macro_rules! one {
        ($module:ident $message:ident) => {
            if name == stringify!($message) {
                let Ok(message) = highwater_wire::$module::$message::parse(version, bytes) else {
                    return false;
                };
                let copy = message;
                assert_eq!(message, copy, "every element decodes again");
                let mut out = Vec::new();
                message
                    .encode(version, &mut out)
                    .expect("what was decoded encodes");
                let again = highwater_wire::$module::$message::parse(version, &out);
                assert_eq!(again.as_ref(), Ok(&message), "{name} {version}: {bytes:x?}");
                return true;
            }
        };
    }
    macro_rules! every {
        ($($module:ident $request:ident $response:ident,)*) => {
            $(one!($module $request); one!($module $response);)*
        };
    }
    for_each_api!(every);
    unreachable!("{name} is missing from the table")
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for sample in samples(3, 3) {
        assert!(decode(&sample.name, sample.version, &sample.bytes));
        for end in 0..sample.bytes.len() {
            let cut = decode(&sample.name, sample.version, &sample.bytes[..end]);
            assert!(!cut, "{} {} cut at {end}", sample.name, sample.version);
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    let mut prng = Prng::new(4);
    for sample in samples(10, 4) {
        for _ in 0..50 {
            let mut bytes = sample.bytes.clone();
            for _ in 0..=prng.below(3) {
                let at = prng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = prng.next_u64() as u8;
                }
            }
            decode(&sample.name, sample.version, &bytes);
        }
    }
}

#[test]
fn lengths_that_lie_do_no_harm() {
    let lies: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0x7f, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for sample in samples(1, 5) {
        for at in 0..sample.bytes.len() {
            for lie in lies {
                let mut bytes = sample.bytes.clone();
                let end = (at + lie.len()).min(bytes.len());
                bytes.splice(at..end, lie.iter().copied());
                decode(&sample.name, sample.version, &bytes);
            }
        }
    }
}

#[test]
fn random_bytes_are_no_message() {
    let mut prng = Prng::new(6);
    for sample in samples(1, 6) {
        for _ in 0..100 {
            let mut bytes = vec![0; prng.below(300) as usize];
            prng.fill(&mut bytes);
            decode(&sample.name, sample.version, &bytes);
        }
    }
}

#[test]
fn request_headers_are_bounded() {
    let mut prng = Prng::new(7);
    for _ in 0..200_000 {
        let mut bytes = vec![0; prng.below(40) as usize];
        prng.fill(&mut bytes);
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            let api = ApiKey::ALL[prng.below(ApiKey::ALL.len() as u64) as usize];
            *head = [0, api as u8, 0, prng.below(14) as u8];
        }
        if let Ok((_, used)) = RequestHeader::parse(&bytes) {
            assert!(used <= bytes.len());
        }
    }
}

#[test]
fn a_compact_string_beyond_what_can_be_answered_is_refused() {
    use highwater_wire::Reader;
    use highwater_wire::writer::put_unsigned_varint;

    let read = |length: usize| {
        let mut bytes = Vec::new();
        put_unsigned_varint(&mut bytes, length as u32 + 1);
        bytes.resize(bytes.len() + length, b'x');
        Reader::new(&bytes).string(true, "name").map(str::len)
    };
    assert_eq!(read(32_767), Ok(32_767));
    let error = read(32_768).expect_err("refused").to_string();
    assert_eq!(error, "name is 32768; allowed is a length of at most 32767");
}
