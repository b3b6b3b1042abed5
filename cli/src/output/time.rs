//! Times: relative and local for people, RFC 3339 in JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Reads a time of the API; what is no time is none.
pub(crate) fn read(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// Writes how long ago it was: `just now`, `3 min ago`, `5 h ago`, `2 days ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second());
    match seconds {
        ..45 => "just now".to_owned(),
        45..3_600 => format!("{} min ago", (seconds / 60).max(1)),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Writes the time of day, with seconds.
pub(crate) fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// Writes day and time as people say them: `today 10:33`, `yesterday 10:33`, `20 Nov 16:02`, `2025-11-20 16:02`.
pub(crate) fn day(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if time.date() == now.date() {
        "today %H:%M"
    } else if now.date().yesterday().is_ok_and(|yesterday| time.date() == yesterday) {
        "yesterday %H:%M"
    } else if time.year() == now.year() {
        "%-d %b %H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn relative() {
        let now = at("2026-11-23T10:33:00Z");
        let times = ["2026-11-23T10:32:50Z", "2026-11-23T10:30:00Z", "2026-11-23T05:00:00Z", "2026-11-22T05:00:00Z"];
        assert_eq!(times.map(|time| ago(at(time), now)), ["just now", "3 min ago", "5 h ago", "1 day ago"]);
        assert_eq!(ago(at("2026-11-20T00:00:00Z"), now), "3 days ago");
        assert_eq!(ago(at("2027-01-01T00:00:00Z"), now), "just now", "a clock that was set back");
    }

    #[test]
    fn days() {
        let (now, zone) = (at("2026-11-23T10:33:00Z"), TimeZone::fixed(jiff::tz::offset(1)));
        let times = [
            "2026-11-23T09:33:00Z",
            "2026-11-22T23:30:00Z",
            "2026-11-22T12:00:00Z",
            "2026-11-03T15:02:00Z",
            "2025-11-20T15:02:00Z",
        ];
        assert_eq!(
            times.map(|time| day(at(time), now, &zone)),
            ["today 10:33", "today 00:30", "yesterday 13:00", "3 Nov 16:02", "2025-11-20 16:02"]
        );
        assert_eq!(clock(now, &zone), "11:33:00");
    }

    #[test]
    fn what_is_no_time_is_none() {
        let broken = prost_types::Timestamp { seconds: i64::MAX, nanos: -1 };
        assert_eq!(read(Some(&broken)), None);
        let good = prost_types::Timestamp { seconds: 0, nanos: 0 };
        assert_eq!(read(Some(&good)).map(|time| time.to_string()).as_deref(), Some("1970-01-01T00:00:00Z"));
    }
}
