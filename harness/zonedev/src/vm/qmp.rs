//! QEMU's monitor protocol.
//!
//! The commands' and answers' types are qapi's; the transport is ours. Every command carries an id and
//! is answered by it, a command that nobody waits for any more harms no other, and an event that this
//! harness never heard of is handed on like any other.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::qmp::{self, QmpCommand};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::error::{Result, VmError};
use super::event::{End, Event};

/// The longest line taken from QEMU, bytes.
const LINE_LIMIT: u64 = 16 << 20;
/// How many events may wait for a slow listener.
const EVENTS: usize = 1024;
/// How long an ordinary command may take.
pub(super) const PROMPTLY: Duration = Duration::from_secs(30);

/// A connection to a monitor. Its tasks end with it.
#[derive(Debug)]
pub(super) struct Qmp {
    outbox: mpsc::UnboundedSender<Message>,
    pending: Arc<Mutex<Pending>>,
    events: broadcast::Sender<Event>,
    end: watch::Receiver<Option<End>>,
    tasks: [AbortHandle; 2],
}

type Answer = Result<Value, Refusal>;

#[derive(Debug)]
enum Refusal {
    Error(String),
    Closed,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    closed: bool,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

#[derive(Debug)]
struct Message {
    line: Vec<u8>,
    /// Travels with the line's first byte.
    fd: Option<OwnedFd>,
}

impl Qmp {
    /// Takes the greeting and leaves the negotiation mode.
    pub(super) async fn connect(stream: UnixStream) -> Result<Self> {
        let (input, output) = stream.into_split();
        let mut input = BufReader::new(input);
        let greeting = tokio::time::timeout(PROMPTLY, next_line(&mut input))
            .await
            .map_err(|_| VmError::Timeout {
                what: "its start".to_owned(),
                limit: PROMPTLY,
            })??;
        if greeting.is_none_or(|value| value.get("QMP").is_none()) {
            return Err(VmError::Protocol {
                what: "it does not greet".to_owned(),
            });
        }
        let pending = Arc::<Mutex<Pending>>::default();
        let (events, _) = broadcast::channel(EVENTS);
        let (told, end) = watch::channel(None);
        let (outbox, messages) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(input, Arc::clone(&pending), events.clone(), told));
        let writer = tokio::spawn(write(output, messages));
        let tasks = [reader.abort_handle(), writer.abort_handle()];
        let monitor = Self {
            outbox,
            pending,
            events,
            end,
            tasks,
        };
        monitor
            .execute(qmp::qmp_capabilities { enable: None })
            .await?;
        Ok(monitor)
    }

    /// Runs a command that ends promptly.
    pub(super) async fn execute<C: QmpCommand>(&self, command: C) -> Result<C::Ok> {
        self.send(command, None, PROMPTLY).await
    }

    /// Runs a command that may take up to `limit`.
    pub(super) async fn execute_within<C: QmpCommand>(
        &self,
        command: C,
        limit: Duration,
    ) -> Result<C::Ok> {
        self.send(command, None, limit).await
    }

    /// Hands QEMU a descriptor, under a name that a later command gives.
    pub(super) async fn give_fd(&self, name: &str, fd: OwnedFd) -> Result<()> {
        self.send(
            qmp::getfd {
                fdname: name.to_owned(),
            },
            Some(fd),
            PROMPTLY,
        )
        .await
        .map(drop)
    }

    /// What happens from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// How the guest ended, once it has.
    pub(super) fn end(&self) -> watch::Receiver<Option<End>> {
        self.end.clone()
    }

    async fn send<C: QmpCommand>(
        &self,
        command: C,
        fd: Option<OwnedFd>,
        limit: Duration,
    ) -> Result<C::Ok> {
        let broken = |what: String| VmError::Protocol {
            what: format!("{}: {what}", C::NAME),
        };
        let arguments =
            serde_json::to_value(&command).map_err(|error| broken(error.to_string()))?;
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.closed {
                return Err(VmError::Closed);
            }
            pending.next += 1;
            let id = pending.next;
            pending.waiting.insert(id, sender);
            id
        };
        let request = json!({ "execute": C::NAME, "arguments": arguments, "id": id });
        let line = format!("{request}\n").into_bytes();
        self.outbox
            .send(Message { line, fd })
            .map_err(|_| VmError::Closed)?;
        let answer = match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| VmError::Closed)?,
            Err(_) => {
                self.pending
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .waiting
                    .remove(&id);
                return Err(VmError::Timeout {
                    what: C::NAME.to_owned(),
                    limit,
                });
            }
        };
        match answer {
            Ok(value) => serde_json::from_value(value).map_err(|error| broken(error.to_string())),
            Err(Refusal::Closed) => Err(VmError::Closed),
            Err(Refusal::Error(description)) => Err(VmError::Refused {
                command: C::NAME.to_owned(),
                description,
            }),
        }
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Reads until QEMU is gone; then nobody is left waiting.
async fn read(
    mut input: BufReader<OwnedReadHalf>,
    pending: Arc<Mutex<Pending>>,
    events: broadcast::Sender<Event>,
    end: watch::Sender<Option<End>>,
) {
    let lock = || pending.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some(value)) = next_line(&mut input).await {
        if value.get("event").is_some() {
            let event = Event::parse(value);
            if let Some(how) = event.end() {
                end.send_if_modified(|end| end.is_none() && end.replace(how).is_none());
            }
            // An error means that nobody listens.
            let _ = events.send(event);
            continue;
        }
        let answer = answer(&value);
        // The answer to a command that is not waited for any more, or to none of ours.
        let waiting = value
            .get("id")
            .and_then(Value::as_u64)
            .and_then(|id| lock().waiting.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
    let waiting = {
        let mut pending = lock();
        pending.closed = true;
        std::mem::take(&mut pending.waiting)
    };
    for (_, sender) in waiting {
        let _ = sender.send(Err(Refusal::Closed));
    }
    end.send_if_modified(|end| end.is_none() && end.replace(End::Gone).is_none());
}

fn answer(value: &Value) -> Answer {
    match (value.get("return"), value.get("error")) {
        (Some(value), _) => Ok(value.clone()),
        (None, error) => {
            let words = error
                .and_then(|error| error.get("desc"))
                .and_then(Value::as_str);
            Err(Refusal::Error(
                words.unwrap_or("no reason given").to_owned(),
            ))
        }
    }
}

/// Writes whole lines, one after another, whatever becomes of those who asked for them.
async fn write(mut output: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<Message>) {
    while let Some(Message { line, fd }) = messages.recv().await {
        let mut sent = 0;
        if let Some(fd) = fd {
            let socket: &UnixStream = output.as_ref();
            let first = socket.async_io(Interest::WRITABLE, || {
                let fds = [fd.as_raw_fd()];
                let control = [ControlMessage::ScmRights(&fds)];
                let data = [IoSlice::new(&line)];
                Ok(sendmsg::<()>(
                    socket.as_raw_fd(),
                    &data,
                    &control,
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )?)
            });
            match first.await {
                Ok(bytes) => sent = bytes,
                Err(_) => return,
            }
        }
        // The reader sees the same end, and tells those who wait.
        if output.write_all(&line[sent..]).await.is_err() {
            return;
        }
    }
}

/// The next JSON value, none at the end.
async fn next_line(input: &mut BufReader<OwnedReadHalf>) -> Result<Option<Value>> {
    let mut line = Vec::new();
    let read = input.take(LINE_LIMIT).read_until(b'\n', &mut line).await;
    match read {
        Ok(0) => return Ok(None),
        // A reset is what the end of a process with unread input looks like.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
        Err(source) => {
            return Err(VmError::Io {
                what: "read from QEMU's monitor".to_owned(),
                source,
            });
        }
        Ok(_) => {}
    }
    if line.last() != Some(&b'\n') {
        return Err(VmError::Protocol {
            what: "a line ends early or never".to_owned(),
        });
    }
    match serde_json::from_slice(&line) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(VmError::Protocol {
            what: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qapi::qmp::{RunState, query_status};

    /// A monitor that a test plays: greets, negotiates, then is the test's.
    struct Fake {
        input: BufReader<OwnedReadHalf>,
        output: OwnedWriteHalf,
    }

    impl Fake {
        async fn connect() -> (Qmp, Self) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (input, output) = theirs.into_split();
            let mut fake = Self {
                input: BufReader::new(input),
                output,
            };
            let serve = async {
                fake.say(json!({"QMP": {"version": {}, "capabilities": ["oob", {"new": 1}]}}))
                    .await;
                let id = fake.hear("qmp_capabilities").await;
                fake.say(json!({"return": {}, "id": id})).await;
            };
            let (monitor, ()) = tokio::join!(Qmp::connect(ours), serve);
            (monitor.unwrap(), fake)
        }

        async fn say(&mut self, value: Value) {
            self.output
                .write_all(format!("{value}\r\n").as_bytes())
                .await
                .unwrap();
        }

        async fn hear(&mut self, command: &str) -> Value {
            let request = next_line(&mut self.input).await.unwrap().unwrap();
            assert_eq!(request["execute"], command);
            assert!(request["id"].is_u64());
            request["id"].clone()
        }
    }

    #[tokio::test]
    async fn answers_find_their_commands_in_any_order() {
        let (monitor, mut fake) = Fake::connect().await;
        let serve = async {
            let one = fake.hear("query-status").await;
            let two = fake.hear("query-status").await;
            fake.say(
                json!({"return": {"running": true, "status": "running", "news": 1}, "id": two}),
            )
            .await;
            fake.say(json!({"return": {"running": false, "status": "paused"}, "id": one}))
                .await;
        };
        let (one, two, ()) = tokio::join!(
            monitor.execute(query_status {}),
            monitor.execute(query_status {}),
            serve
        );
        assert_eq!(one.unwrap().status, RunState::paused);
        assert_eq!(two.unwrap().status, RunState::running);
    }

    #[tokio::test]
    async fn an_unknown_event_is_handed_on_and_harms_nothing() {
        let (monitor, mut fake) = Fake::connect().await;
        let mut events = monitor.events();
        let serve = async {
            let id = fake.hear("query-status").await;
            fake.say(json!({"event": "FROM_THE_FUTURE", "data": {"x": 1}, "timestamp": {"seconds": 1, "microseconds": 2}})).await;
            fake.say(json!({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}))
                .await;
            fake.say(json!({"return": {"running": false, "status": "paused"}, "id": id}))
                .await;
        };
        let (status, ()) = tokio::join!(monitor.execute(query_status {}), serve);
        assert!(!status.unwrap().running);
        let unknown = Event::Other {
            name: "FROM_THE_FUTURE".to_owned(),
            data: json!({"x": 1}),
        };
        assert_eq!(events.recv().await.unwrap(), unknown);
        assert_eq!(events.recv().await.unwrap(), Event::Stop);
        assert_eq!(*monitor.end().borrow(), None);
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_with_qemus_words() {
        let (monitor, mut fake) = Fake::connect().await;
        let serve = async {
            let id = fake.hear("cont").await;
            fake.say(json!({"error": {"class": "NewClass", "desc": "Not now"}, "id": id}))
                .await;
        };
        let (answer, ()) = tokio::join!(monitor.execute(qmp::cont {}), serve);
        assert_eq!(
            answer.unwrap_err().to_string(),
            "QEMU refused cont: Not now"
        );
    }

    #[tokio::test]
    async fn a_forgotten_command_harms_no_other() {
        let (monitor, mut fake) = Fake::connect().await;
        let brief = Duration::from_millis(10);
        let late = monitor.execute_within(qmp::stop {}, brief).await;
        assert!(matches!(late, Err(VmError::Timeout { .. })), "{late:?}");
        let serve = async {
            let forgotten = fake.hear("stop").await;
            fake.say(json!({"return": {}, "id": forgotten})).await;
            fake.say(json!({"return": {}, "id": "somebody else's"}))
                .await;
            let id = fake.hear("cont").await;
            fake.say(json!({"return": {}, "id": id})).await;
        };
        let (answer, ()) = tokio::join!(monitor.execute(qmp::cont {}), serve);
        answer.unwrap();
    }

    #[tokio::test]
    async fn the_end_wakes_everybody() {
        let (monitor, mut fake) = Fake::connect().await;
        let mut end = monitor.end();
        let serve = async {
            fake.hear("stop").await;
            drop(fake);
        };
        let (answer, ()) = tokio::join!(monitor.execute(qmp::stop {}), serve);
        assert!(matches!(answer, Err(VmError::Closed)), "{answer:?}");
        assert_eq!(
            *end.wait_for(Option::is_some).await.unwrap(),
            Some(End::Gone)
        );
        assert!(matches!(
            monitor.execute(qmp::stop {}).await,
            Err(VmError::Closed)
        ));
    }

    #[tokio::test]
    async fn a_descriptor_travels_with_its_name() {
        use nix::sys::socket::{ControlMessageOwned, recvmsg};
        let (monitor, mut fake) = Fake::connect().await;
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let serve = async {
            let socket: &UnixStream = fake.output.as_ref();
            let mut bytes = [0; 4096];
            let (read, fd) = socket
                .async_io(Interest::READABLE, || {
                    let mut data = [std::io::IoSliceMut::new(&mut bytes)];
                    let mut space = nix::cmsg_space!([i32; 1]);
                    let message = recvmsg::<()>(
                        socket.as_raw_fd(),
                        &mut data,
                        Some(&mut space),
                        MsgFlags::empty(),
                    )?;
                    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs()?.next() else {
                        panic!("no descriptor")
                    };
                    Ok((message.bytes, fds[0]))
                })
                .await
                .unwrap();
            let request: Value = serde_json::from_slice(&bytes[..read]).unwrap();
            assert_eq!(request["arguments"]["fdname"], "state");
            // SAFETY: the kernel has just made the descriptor for us.
            let mut stream: std::os::unix::net::UnixStream =
                unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }.into();
            std::io::Write::write_all(&mut stream, b"through").unwrap();
            fake.say(json!({"return": {}, "id": request["id"]})).await;
        };
        let (answer, ()) = tokio::join!(monitor.give_fd("state", theirs.into()), serve);
        answer.unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut ours, &mut text).unwrap();
        assert_eq!(text, "through");
    }
}
