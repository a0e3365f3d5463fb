//! Progress, told from a thread of its own: a terminal that takes nothing holds up no run.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::record::Event;
use crate::report::Progress;

/// Events that may wait to be told.
const WAITING: usize = 1024;
/// How long the end of a run waits for those that are not told yet.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Tells events in their order, without waiting for anybody to read them. Of what nobody reads, the
/// number is told later.
pub(super) struct Teller {
    queue: Option<SyncSender<Event>>,
    told: Receiver<()>,
    left_out: usize,
}

impl Teller {
    pub(super) fn new(mut progress: Progress) -> std::io::Result<Teller> {
        let (queue, events) = sync_channel::<Event>(WAITING);
        let (done, told) = sync_channel(1);
        std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                for event in events {
                    progress.event(&event);
                }
                let _ = done.send(());
            })?;
        Ok(Teller {
            queue: Some(queue),
            told,
            left_out: 0,
        })
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let Some(queue) = &self.queue else { return };
        if self.left_out > 0 {
            let message = format!(
                "{} lines of progress were left out, since nobody read them",
                self.left_out
            );
            match queue.try_send(Event::Notice { message }) {
                Ok(()) => self.left_out = 0,
                Err(_) => {
                    self.left_out += 1;
                    return;
                }
            }
        }
        match queue.try_send(event.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.left_out += 1,
            // It panicked; the run goes on without it.
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
    }

    /// Waits until everything is told, but not long.
    pub(super) fn end(mut self) {
        self.queue = None;
        let _ = self.told.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Look;
    use std::io::{Read, Write};
    use std::time::Instant;

    fn notice(n: usize) -> Event {
        Event::Notice {
            // A pipe holds a few of them, far less than what may wait.
            message: format!("{n} {}", "x".repeat(8000)),
        }
    }

    #[test]
    fn a_reader_that_never_reads_holds_up_nothing_and_is_told_what_it_missed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let to: Box<dyn Write + Send> = Box::new(writer);
        let mut teller = Teller::new(Progress::plain(Look::plain(80), to)).unwrap();
        let began = Instant::now();
        let all = 3 * WAITING;
        (0..all).for_each(|n| teller.tell(&notice(n)));
        assert!(began.elapsed() < Duration::from_secs(10));
        // It may just have found room to say how many these were, while the pipe takes the first lines.
        while teller.left_out == 0 && began.elapsed() < Duration::from_secs(10) {
            teller.tell(&notice(all - 1));
        }
        assert!(teller.left_out > 0);
        // It begins to read.
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while teller.left_out > 0 {
            std::thread::sleep(Duration::from_millis(5));
            teller.tell(&notice(all));
        }
        teller.end();
        let text = read.join().unwrap();
        assert!(text.contains("lines of progress were left out"), "{text}");
        assert!(text.contains(&format!("note: {all} ")));
        assert!(text.starts_with("note: 0 "));
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_reads() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let to: Box<dyn Write + Send> = Box::new(writer);
        let mut teller = Teller::new(Progress::plain(Look::plain(80), to)).unwrap();
        (0..WAITING).for_each(|n| teller.tell(&notice(n)));
        let began = Instant::now();
        teller.end();
        assert!(began.elapsed() < LAST_LINES * 5);
    }
}
