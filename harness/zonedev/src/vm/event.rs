//! What QEMU tells without being asked.

use qapi::qmp;
use serde::Deserialize;
use serde_json::Value;

/// An event of a running QEMU, by its QMP name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// SHUTDOWN: the machine powered off or reset, and stands still since.
    Shutdown {
        /// Whether the guest did it.
        guest: bool,
        /// QEMU's word for the cause: "guest-reset" after a panic or a reboot, "guest-shutdown" after
        /// a power-off.
        reason: String,
    },
    /// RESET.
    Reset {
        /// Whether the guest did it.
        guest: bool,
    },
    /// GUEST_PANICKED: the guest's kernel told so itself.
    Panicked,
    /// STOP: the machine stands still.
    Stop,
    /// RESUME: it runs on.
    Resume,
    /// MIGRATION: "active", "completed", "failed" …
    Migration {
        /// QEMU's word.
        status: String,
    },
    /// Any other.
    Other {
        /// Its QMP name.
        name: String,
        /// Its data, null where it has none.
        data: Value,
    },
}

/// How a guest came to its end. Except after `Gone`, it stands still and can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It powered off or reset; a panicked kernel resets.
    Shutdown {
        /// QEMU's word for the cause.
        reason: String,
    },
    /// Its kernel told of a panic.
    Panicked,
    /// QEMU is gone.
    Gone,
}

impl Event {
    /// Reads an event. One that isn't known, or looks different from what is known, is an `Other`.
    pub(super) fn parse(value: Value) -> Self {
        match qmp::Event::deserialize(&value).ok() {
            Some(qmp::Event::SHUTDOWN { data, .. }) => Self::Shutdown {
                guest: data.guest,
                reason: name(data.reason).to_owned(),
            },
            Some(qmp::Event::RESET { data, .. }) => Self::Reset { guest: data.guest },
            Some(qmp::Event::GUEST_PANICKED { .. }) => Self::Panicked,
            Some(qmp::Event::STOP { .. }) => Self::Stop,
            Some(qmp::Event::RESUME { .. }) => Self::Resume,
            Some(qmp::Event::MIGRATION { data, .. }) => Self::Migration {
                status: name(data.status).to_owned(),
            },
            _ => {
                let name = value
                    .get("event")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                Self::Other {
                    name,
                    data: value.get("data").cloned().unwrap_or_default(),
                }
            }
        }
    }

    /// The end that it means, if it means one.
    pub(super) fn end(&self) -> Option<End> {
        match self {
            Self::Shutdown { reason, .. } => Some(End::Shutdown {
                reason: reason.clone(),
            }),
            Self::Panicked => Some(End::Panicked),
            // Known by name, but with data that this harness can't read: still an end.
            Self::Other { name, data } if name == "SHUTDOWN" => {
                let reason = data
                    .get("reason")
                    .and_then(Value::as_str)
                    .unwrap_or("unknown");
                Some(End::Shutdown {
                    reason: reason.to_owned(),
                })
            }
            Self::Other { name, .. } if name == "GUEST_PANICKED" => Some(End::Panicked),
            _ => None,
        }
    }
}

fn name<E: qapi::Enum>(value: E) -> &'static str {
    qapi::Enum::name(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, data: Value) -> Event {
        let stamp = json!({"seconds": 1, "microseconds": 2});
        Event::parse(json!({"event": name, "data": data, "timestamp": stamp}))
    }

    #[test]
    fn ends_are_seen_also_where_their_data_are_new() {
        let reset = event("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"}));
        assert_eq!(
            reset,
            Event::Shutdown {
                guest: true,
                reason: "guest-reset".to_owned()
            }
        );
        assert_eq!(
            reset.end(),
            Some(End::Shutdown {
                reason: "guest-reset".to_owned()
            })
        );
        let new = event("SHUTDOWN", json!({"guest": true, "reason": "guest-bored"}));
        assert_eq!(
            new.end(),
            Some(End::Shutdown {
                reason: "guest-bored".to_owned()
            })
        );
        assert_eq!(
            event("GUEST_PANICKED", json!({"action": "pause"})),
            Event::Panicked
        );
        assert_eq!(
            event("GUEST_PANICKED", json!({"action": "sigh"})).end(),
            Some(End::Panicked)
        );
        assert_eq!(
            event("RESET", json!({"guest": true, "reason": "guest-reset"})).end(),
            None
        );
        assert_eq!(
            event("MIGRATION", json!({"status": "active"})),
            Event::Migration {
                status: "active".to_owned()
            }
        );
    }
}
