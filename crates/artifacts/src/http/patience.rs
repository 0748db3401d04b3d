//! How long an answer is waited for, and how slowly one may come.

use std::time::Duration;

use crate::error::Error;

/// How long a source over HTTP is waited for. Each wait has an end, whatever the other side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From a name to a connection, or to the proof that there is nobody.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub answer: Duration,
    /// The longest that nothing may come of a body.
    pub silence: Duration,
    /// The time over which [`Patience::least`] has to come. Only time spent waiting for the source counts.
    pub window: Duration,
    /// Bytes that have to come in each window.
    pub least: u64,
    /// Between the first two attempts; each further one is waited for twice as long.
    pub pause: Duration,
    /// The longest pause. A source that asks for more is left to whoever tries the whole again.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// 10 s for a connection, as a lost packet or two of its making cost 1 s and 3 s; 30 s for an answer and for silence,
    /// since object stores take up to some seconds for a first byte; 1 KiB/s over 2 minutes, at which an adapter of 84 MB
    /// would take a day; pauses from 0.2 s to 20 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            window: Duration::from_secs(120),
            least: 120 << 10,
            pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
        }
    }
}

impl Patience {
    /// How long to wait before the next attempt, after `failures` in a row; none where that is too long to wait here.
    pub(super) fn pause_after(&self, failures: u32, error: &Error) -> Option<Duration> {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(10));
        let pause = doubled.min(self.longest_pause).max(error.retry_after().unwrap_or_default());
        (pause <= self.longest_pause).then_some(pause)
    }
}

/// Sees whether bytes come fast enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    waited: Duration,
    bytes: u64,
    too_slow: bool,
}

impl Meter {
    /// `bytes` came after a wait. A failure is what is told of a source that is too slow.
    pub(super) fn note(&mut self, patience: &Patience, waited: Duration, bytes: usize) -> Result<(), String> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < patience.window {
            return Ok(());
        }
        let Self { waited, bytes, .. } = std::mem::take(self);
        if bytes >= patience.least {
            return Ok(());
        }
        self.too_slow = true;
        Err(format!("only {bytes} bytes came in {}", seconds(waited)))
    }

    /// Whether that was told of the last window. Asking the same source again would only take longer.
    pub(super) fn is_too_slow(&self) -> bool {
        self.too_slow
    }
}

/// For messages: `30 s`, `0.2 s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_too_slowly_are_noticed_however_they_are_spread() {
        let patience = Patience::default();
        let second = Duration::from_secs(1);
        let mut fast = Meter::default();
        assert!((0..1000).all(|_| fast.note(&patience, second, 1024).is_ok()));
        let mut drip = Meter::default();
        let ended = (0..1000).position(|_| drip.note(&patience, second, 1023).is_err());
        assert_eq!(ended, Some(119));
        let mut late = Meter::default();
        late.note(&patience, Duration::ZERO, 10 << 20).unwrap();
        late.note(&patience, 120 * second, 0).unwrap();
        assert_eq!(late.note(&patience, 120 * second, 7).unwrap_err(), "only 7 bytes came in 120 s");
    }

    #[test]
    fn pauses_grow_and_are_as_long_as_the_source_asks_up_to_a_bound() {
        let patience = Patience::default();
        let unavailable = |seconds: Option<u64>| Error::Unavailable {
            what: "it".into(),
            status: "503".into(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let pauses = [1, 2, 3, 20].map(|failures| patience.pause_after(failures, &unavailable(None)).unwrap());
        assert_eq!(pauses.map(|pause| pause.as_millis()), [200, 400, 800, 20_000]);
        assert_eq!(patience.pause_after(1, &unavailable(Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(patience.pause_after(1, &unavailable(Some(21))), None);
    }
}
