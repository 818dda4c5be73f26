//! Texts of error answers, kept within what an answer can carry.

/// Longest text of an error answer. It quotes what a client sent, which may be longer than the
/// 32,767 bytes a string of the protocol holds; this much of it helps.
pub const ANSWER_TEXT_BYTES_MAX: usize = 1024;

const CUT: &str = "...";

/// The text, cut between two characters where it is too long.
#[must_use]
pub fn shortened(mut text: String) -> String {
    if text.len() <= ANSWER_TEXT_BYTES_MAX {
        return text;
    }
    let mut end = ANSWER_TEXT_BYTES_MAX - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(CUT);
    // What was quoted may be a hundred megabytes.
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("short".to_string()), "short");
        for shift in 0..4 {
            let text = shortened("a".repeat(shift) + &"\u{1f600}".repeat(10_000));
            assert!(text.len() <= ANSWER_TEXT_BYTES_MAX, "{}", text.len());
            assert!(text.ends_with("\u{1f600}..."), "{text}");
        }
    }
}
