//! How far a transfer is: a bar on a terminal, now and then a line elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_proto::v1::Progress;

use crate::output::{Output, text};

/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// One transfer, in bytes.
const BYTES: &str = "  {bar:28} {binary_bytes} / {binary_total_bytes}   {binary_bytes_per_sec}{msg}";
/// Many transfers, counted: what one of them has still to move is known only when it has begun.
const COUNT: &str = "  {bar:28} {pos} / {len} references{msg}";

/// Shows one transfer, or many as one.
#[derive(Debug)]
pub(crate) struct TransferProgress<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// How far each of many is, and all together.
    each: HashMap<String, Progress>,
    sum: Progress,
    /// How many of many have ended.
    ended: usize,
    wanted: usize,
}

impl<'a> TransferProgress<'a> {
    /// Begins to show a transfer; nothing is drawn before something moves.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self {
            output,
            bar: None,
            last_line: Instant::now(),
            each: HashMap::new(),
            sum: Progress::default(),
            ended: 0,
            wanted: 0,
        }
    }

    /// Shows how far it is.
    pub(crate) fn update(&mut self, progress: &Progress) {
        if progress.bytes_total == 0 || self.output.is_quiet() {
            return;
        }
        if !self.output.talks_on_terminal() {
            self.now_and_then(|| format!("  {}", line(progress)));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| bar(BYTES));
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        if progress.bytes_present > 0 {
            bar.set_message(format!("   ({} already here)", text::bytes(progress.bytes_present)));
        }
    }

    /// Shows how far one of many is.
    pub(crate) fn update_one(&mut self, name: &str, progress: &Progress) {
        let before = self.each.insert(name.to_owned(), *progress).unwrap_or_default();
        let grown = |sum: u64, now: u64, before: u64| sum.saturating_add(now).saturating_sub(before);
        self.sum.bytes_done = grown(self.sum.bytes_done, progress.bytes_done, before.bytes_done);
        self.sum.bytes_total = grown(self.sum.bytes_total, progress.bytes_total, before.bytes_total);
        self.sum.bytes_present = grown(self.sum.bytes_present, progress.bytes_present, before.bytes_present);
        self.show_many();
    }

    /// Shows how many of many have ended.
    pub(crate) fn count(&mut self, ended: usize, wanted: usize) {
        (self.ended, self.wanted) = (ended, wanted);
        self.show_many();
    }

    fn show_many(&mut self) {
        if self.output.is_quiet() || !self.output.talks_on_terminal() {
            // Each that ends has a line of its own.
            return;
        }
        let bar = self.bar.get_or_insert_with(|| bar(COUNT));
        bar.set_length(self.wanted as u64);
        bar.set_position(self.ended as u64);
        if self.sum.bytes_total > 0 {
            bar.set_message(format!("   {}", line(&self.sum)));
        }
    }

    /// Writes something above the bar.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn now_and_then(&mut self, line: impl FnOnce() -> String) {
        if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.output.say(&line());
        }
    }

    /// Ends the showing; a bar stays as it is.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }

    /// Ends the showing of many; the bar goes, for their lines say everything.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    // The template is a constant; where it did not parse, the default bar would do.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("██ ")),
        Err(_) => bar,
    }
}

fn line(progress: &Progress) -> String {
    let moved = format!("{} / {}", text::bytes(progress.bytes_done), text::bytes(progress.bytes_total));
    match progress.bytes_present {
        0 => moved,
        present => format!("{moved}   ({} already here)", text::bytes(present)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, Talk};

    #[test]
    fn a_line_says_what_moved_and_what_was_here() {
        let progress = Progress { bytes_done: 1 << 20, bytes_total: 48 << 20, bytes_present: 71 << 20 };
        assert_eq!(line(&progress), "1.0 MiB / 48.0 MiB   (71.0 MiB already here)");
        assert_eq!(line(&Progress { bytes_present: 0, ..progress }), "1.0 MiB / 48.0 MiB");
    }

    #[test]
    fn many_are_summed() {
        let output = Output::new(Some(Format::Text), Talk::Quiet);
        let mut progress = TransferProgress::new(&output);
        let at = |bytes_done, bytes_total| Progress { bytes_done, bytes_total, bytes_present: 1 };
        progress.update_one("a", &at(1, 10));
        progress.update_one("b", &at(0, 20));
        progress.update_one("a", &at(10, 10));
        assert_eq!(progress.sum, Progress { bytes_done: 10, bytes_total: 30, bytes_present: 2 });
    }
}
