//! When a request is sent again, and after how long.

use std::time::Duration;

use http::StatusCode;
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::Response;

use super::error::RemoteError;

/// How often a request is sent again.
pub(super) const MAX_RETRIES: u32 = 3;
/// The wait before the first retry; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait of a registry's own choice that is sat out; a longer one is reported instead.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Returns how long to wait before a request is sent again whose attempt number `attempt` (from 0) had this outcome, or
/// `None` where the outcome is the last.
pub(super) fn wait_after(outcome: &Result<Response, RemoteError>, attempt: u32) -> Option<Duration> {
    match outcome {
        Ok(answer) if is_transient_status(answer.status()) => wait(attempt, retry_after(answer.headers())),
        Err(error) if is_transient(error) => wait(attempt, None),
        _ => None,
    }
}

/// Says whether a status may be another one a moment later.
fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Says whether an error may not happen a moment later.
pub(super) fn is_transient(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Unreachable { .. } | RemoteError::Stalled { .. } | RemoteError::Truncated { .. })
}

/// Returns how long to wait before the retry after attempt number `attempt` (from 0), or `None` where there is to be
/// none: enough attempts were made, or the registry wants a longer pause than anybody should sit through.
pub(super) fn wait(attempt: u32, asked: Option<Duration>) -> Option<Duration> {
    if attempt >= MAX_RETRIES {
        return None;
    }
    // Clients which failed together do not come back together. Without randomness they all wait for the longest.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    match asked {
        Some(asked) if asked > MAX_RETRY_AFTER => None,
        // No sooner than it was asked for.
        Some(asked) => Some(asked.mul_f64(1.0 + share / 4.0)),
        None => Some((FIRST_WAIT * 2u32.pow(attempt)).mul_f64(0.5 + share / 2.0)),
    }
}

/// Reads `Retry-After`: seconds, or a date, which is taken relative to the registry's own `Date` (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let then = parser.parse_timestamp(text).ok()?;
    let now = parser.parse_timestamp(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds = then.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        for (value, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Sun, 06 Nov 1994 08:49:07 GMT".parse().expect("date"));
            headers.insert(RETRY_AFTER, value.parse().expect("value"));
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn waits_grow_and_end() {
        for attempt in 0..MAX_RETRIES {
            let longest = FIRST_WAIT * 2u32.pow(attempt);
            let wait = wait(attempt, None).expect("another attempt");
            assert!(wait >= longest / 2 && wait <= longest, "{attempt}: {wait:?}");
        }
        assert_eq!(wait(MAX_RETRIES, None), None);
        let asked = Duration::from_secs(2);
        let waits: Vec<_> = (0..20).filter_map(|_| wait(0, Some(asked))).collect();
        assert!(waits.iter().all(|wait| *wait >= asked && *wait <= asked * 5 / 4), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all come back at once");
        assert_eq!(wait(0, Some(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(wait(0, Some(Duration::from_secs(11))), None);
    }
}
