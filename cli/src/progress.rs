//! How far a transfer is: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_proto::v1::Progress;

use crate::output::{Output, text};

/// How often a line is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows one transfer.
#[derive(Debug)]
pub(crate) struct TransferProgress<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl<'a> TransferProgress<'a> {
    /// Begins to show a transfer; nothing is drawn before something moves.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self { output, bar: None, last_line: Instant::now() }
    }

    /// Shows how far it is.
    pub(crate) fn update(&mut self, progress: &Progress) {
        if progress.bytes_total == 0 || self.output.is_quiet() {
            return;
        }
        if !self.output.talks_on_terminal() {
            if self.last_line.elapsed() >= LINE_EVERY {
                self.last_line = Instant::now();
                self.output.say(&format!("  {}", line(progress)));
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(progress.bytes_total), ProgressDrawTarget::stderr());
            let template = "  {bar:28} {binary_bytes} / {binary_total_bytes}   {binary_bytes_per_sec}{msg}";
            // The template is a constant; where it did not parse, the default bar would do.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("██ "));
            }
            bar
        });
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        if progress.bytes_present > 0 {
            bar.set_message(format!("   ({} already here)", text::bytes(progress.bytes_present)));
        }
    }

    /// Ends the showing; a bar stays as it is.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
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

    #[test]
    fn a_line_says_what_moved_and_what_was_here() {
        let progress = Progress { bytes_done: 1 << 20, bytes_total: 48 << 20, bytes_present: 71 << 20 };
        assert_eq!(line(&progress), "1.0 MiB / 48.0 MiB   (71.0 MiB already here)");
        assert_eq!(line(&Progress { bytes_present: 0, ..progress }), "1.0 MiB / 48.0 MiB");
    }
}
