//! Frames: a little-endian 32-bit length, then that many bytes of JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The longest frame that either side accepts, in bytes.
pub const MAX_FRAME: usize = 8 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("carry a frame over the channel")]
    Io(#[from] io::Error),
    /// The peer announced or we built a frame over [`MAX_FRAME`].
    #[error("accept a frame of {0} bytes (at most {MAX_FRAME})")]
    TooLong(usize),
    /// The bytes are not the message that was expected.
    #[error("understand a frame: {0}")]
    Json(#[from] serde_json::Error),
    /// The stream ended.
    #[error("read a frame: the channel was closed")]
    Closed,
}

/// The bytes of one frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut out = vec![0; 4];
    serde_json::to_writer(&mut out, message)?;
    let len = out.len() - 4;
    if len > MAX_FRAME {
        return Err(FrameError::TooLong(len));
    }
    out[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(out)
}

/// The length that a frame's header announces, checked.
pub fn body_len(header: [u8; 4]) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(header) as usize;
    if len > MAX_FRAME {
        return Err(FrameError::TooLong(len));
    }
    Ok(len)
}

/// The message in a frame's body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// Writes one frame and flushes.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    to.flush()?;
    Ok(())
}

/// Reads one frame, blocking.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut header = [0; 4];
    match from.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        other => other?,
    }
    let mut body = vec![0; body_len(header)?];
    from.read_exact(&mut body)?;
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentMessage, HostMessage, Op, Request, Size};
    use proptest::prelude::*;

    #[test]
    fn a_request_comes_back() {
        let m = HostMessage::Run(Request {
            id: 7,
            actor: "main".into(),
            op: Op::Create {
                file: "a".into(),
                size: Size(2 << 20),
            },
            blocked_after_ms: Some(300),
            mark: "zonedev: step 1".into(),
        });
        let bytes = encode(&m).unwrap();
        assert_eq!(read::<HostMessage>(&mut &bytes[..]).unwrap(), m);
    }

    #[test]
    fn an_announced_giant_is_refused_before_it_is_read() {
        let bytes = (MAX_FRAME as u32 + 1).to_le_bytes();
        assert!(matches!(
            read::<AgentMessage>(&mut &bytes[..]),
            Err(FrameError::TooLong(_))
        ));
    }

    proptest! {
        #[test]
        fn noise_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<AgentMessage>(&mut &bytes[..]);
        }
    }
}
