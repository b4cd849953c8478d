//! The forms in which access logs write times.

use chrono::NaiveDate;
use model::Time;

/// `$msec`: `1795445917.052`. Also whole seconds, milliseconds and more digits, as shippers write them.
pub(super) fn msec(text: &[u8]) -> Option<Time> {
    let (whole, fraction) = match memchr::memchr(b'.', text) {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = digits(whole)?;
    if fraction.is_empty() {
        // 12 digits and more are milliseconds: as seconds they would be past the year 5000.
        let time = if whole.len() >= 12 { Time::from_millis(seconds) } else { Time::from_seconds(seconds) };
        return Some(time);
    }
    let used = &fraction[..fraction.len().min(9)];
    let scale = 10i64.pow(u32::try_from(9 - used.len()).ok()?);
    Some(Time(Time::from_seconds(seconds).0.saturating_add(digits(used)? * scale)))
}

/// RFC 3339, `23/Nov/2026:06:38:53 +0000` or seconds since 1970.
pub(super) fn any(text: &[u8]) -> Option<Time> {
    match text.get(2)? {
        b'/' => local(text),
        _ if text.get(4) == Some(&b'-') => Time::parse(std::str::from_utf8(text).ok()?),
        _ => msec(text),
    }
}

/// `$time_local`.
fn local(text: &[u8]) -> Option<Time> {
    if text.len() != 26 || text[6] != b'/' || text[11] != b':' || text[14] != b':' || text[17] != b':' {
        return None;
    }
    let number = |from: usize, to: usize| digits(&text[from..to]).and_then(|n| u32::try_from(n).ok());
    let date = NaiveDate::from_ymd_opt(i32::try_from(digits(&text[7..11])?).ok()?, month(&text[3..6])?, number(0, 2)?)?;
    let time = date.and_hms_opt(number(12, 14)?, number(15, 17)?, number(18, 20)?.min(59))?;
    let offset = (digits(&text[22..24])? * 60 + digits(&text[24..26])?) * 60;
    let offset = match text[21] {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    Some(Time::from_seconds(time.and_utc().timestamp() - offset))
}

/// `Nov 23 07:37:52 2026 GMT`, the day padded with a space: OpenSSL's form in `$ssl_client_v_start` and `_v_end`.
pub(super) fn certificate(text: &[u8]) -> Option<Time> {
    if text.len() != 24 || !text.ends_with(b" GMT") {
        return None;
    }
    let number = |from: usize, to: usize| digits(text[from..to].trim_ascii_start()).and_then(|n| u32::try_from(n).ok());
    let date = NaiveDate::from_ymd_opt(i32::try_from(digits(&text[16..20])?).ok()?, month(&text[..3])?, number(4, 6)?)?;
    let time = date.and_hms_opt(number(7, 9)?, number(10, 12)?, number(13, 15)?.min(59))?;
    Some(Time::from_seconds(time.and_utc().timestamp()))
}

fn month(text: &[u8]) -> Option<u32> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.iter().position(|name| *name == text).and_then(|at| u32::try_from(at + 1).ok())
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 17 {
        return None;
    }
    text.iter().try_fold(0i64, |n, byte| byte.is_ascii_digit().then(|| n * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_all_its_forms() {
        let second = Time::parse("2026-11-23T06:41:10Z");
        assert_eq!(any(b"23/Nov/2026:12:11:10 +0530"), second);
        assert_eq!(any(b"23/Nov/2026:01:41:10 -0500"), second);
        assert_eq!(any(b"2026-11-23T12:11:10+05:30"), second);
        assert_eq!(any(b"1795416070"), second);
        assert_eq!(any(b"1795416070000"), second);
        assert_eq!(msec(b"1795416070.819"), Time::parse("2026-11-23T06:41:10.819Z"));
        assert_eq!(certificate(b"Nov 23 06:41:10 2026 GMT"), second);
        assert_eq!(certificate(b"Nov  3 06:41:10 2026 GMT"), Time::parse("2026-11-03T06:41:10Z"));
        for text in ["", "-", "23/Nov/2026", "32/Nov/2026:12:11:10 +0530", "23/Nov/2026:12:11:10 x0530", "1795.4160.1"]
        {
            assert_eq!(any(text.as_bytes()), None, "{text}");
        }
    }
}
