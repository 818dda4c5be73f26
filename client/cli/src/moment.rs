//! Moments as an argument: milliseconds since 1970, a date and time in UTC, or how long ago.

use std::str::FromStr;

/// A moment, absolute or counted back from the time of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Absolute { wall_ms: i64 },
    Ago { ms: i64 },
}

/// What the help and errors show.
const EXAMPLES: &str = "1767225600000, 2026-01-01, 2026-01-01T12:30:00Z or 15m (ago; s, m, h, d)";

impl Moment {
    /// Milliseconds since 1970; nothing lies before.
    pub fn wall_ms(self, now_wall_ms: i64) -> i64 {
        match self {
            Moment::Absolute { wall_ms } => wall_ms,
            Moment::Ago { ms } => now_wall_ms.saturating_sub(ms).max(0),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let whole = |digits: &str| -> Option<i64> {
            let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits_only.then(|| digits.parse().ok()).flatten()
        };
        let ago = || {
            let (at, unit) = text.char_indices().next_back()?;
            let unit_ms = match unit {
                's' => 1_000,
                'm' => 60_000,
                'h' => 3_600_000,
                'd' => 86_400_000,
                _ => return None,
            };
            let ms = whole(text.get(..at)?)?.checked_mul(unit_ms)?;
            Some(Moment::Ago { ms })
        };
        let absolute = whole(text).or_else(|| date_time_ms(text));
        absolute
            .map(|wall_ms| Moment::Absolute { wall_ms })
            .or_else(ago)
            .ok_or_else(|| format!("no moment; write {EXAMPLES}"))
    }
}

/// `YYYY-MM-DD`, perhaps with `THH:MM` or `THH:MM:SS` and `Z`: RFC 3339 in UTC.
fn date_time_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let [year, month, day] = fields(date, '-', &[4, 2, 2])?[..] else {
        return None;
    };
    let time = time.strip_suffix('Z').unwrap_or(time);
    let time = fields(time, ':', &[2, 2, 2]).or_else(|| fields(time, ':', &[2, 2]))?;
    let (hour, minute) = (time[0], time[1]);
    let second = time.get(2).copied().unwrap_or(0);
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    valid.then_some(seconds * 1_000)
}

/// Numbers of exactly these widths with `separator` between.
fn fields(text: &str, separator: char, widths: &[usize]) -> Option<Vec<i64>> {
    let parts: Vec<&str> = text.split(separator).collect();
    if parts.len() != widths.len() {
        return None;
    }
    let number = |(part, width): (&&str, &usize)| {
        let digits = part.len() == *width && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    parts.iter().zip(widths).map(number).collect()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// For years from 1970 to 9999, which is what four digits can say.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 });
    let months = (1..month).map(|month| days_of_month(year, month));
    years.chain(months).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        for (text, wall_ms) in [
            ("0", 0),
            ("1767225600000", 1_767_225_600_000),
            ("1970-01-01", 0),
            ("2026-01-01", 1_767_225_600_000),
            ("2026-01-01T00:00:01Z", 1_767_225_601_000),
            ("2024-02-29T12:30", 1_709_209_800_000),
            ("2000-03-01", 951_868_800_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment::Absolute { wall_ms }), "{text}");
        }
        for (text, ms) in [("90s", 90_000), ("15m", 900_000), ("2d", 172_800_000)] {
            let moment: Moment = text.parse().expect(text);
            assert_eq!(moment, Moment::Ago { ms });
            assert_eq!(moment.wall_ms(1_000_000_000), 1_000_000_000 - ms);
            assert_eq!(moment.wall_ms(1), 0, "nothing lies before 1970");
        }
    }

    #[test]
    fn what_is_no_moment_is_told_how_to_write_one() {
        for text in [
            "",
            "m",
            "-5m",
            "15",
            "yesterday",
            "1.5h",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-01-01T24:00",
            "2026-01-01T",
            "1969-12-31",
            "99999999999999999999",
            "+1",
            "9223372036854775807d",
            "ä",
        ] {
            let parsed = text.parse::<Moment>();
            match text {
                // Digits alone are milliseconds.
                "15" => assert_eq!(parsed, Ok(Moment::Absolute { wall_ms: 15 })),
                _ => assert!(parsed.expect_err(text).contains("write"), "{text}"),
            }
        }
    }
}
