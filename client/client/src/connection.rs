//! One connection to a broker, without its socket: frames, correlation, order.
//!
//! Requests are appended to an outbox that the driver writes; bytes that it reads are handed in and
//! come out as responses. Kafka answers a connection's requests in their order, so a response that
//! does not match the oldest outstanding request means the stream is lost and so is the connection.
//! Invariants: at most [`REQUESTS_IN_FLIGHT_MAX`] requests are outstanding; no frame above
//! [`FRAME_BYTES_MAX`] is accepted. Timeouts and reconnecting are the driver's business.

use std::collections::VecDeque;

use highwater_wire::ApiKey;

/// Requests outstanding on one connection; beyond it the caller waits.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;
/// Largest response frame accepted: a fetch answer of the largest size plus its envelope.
pub const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Space an idle inbox or outbox may keep for reuse.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the framing has to know about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Number of the API.
    pub api_key: i16,
    /// Version the body is encoded in.
    pub version: i16,
    /// Request header v2, with tagged fields (KIP-482).
    pub flexible_request: bool,
    /// Response header v1; never for ApiVersions, whose response header stays at v0.
    pub flexible_response: bool,
    /// Produce with acks=0 gets no answer at all.
    pub answered: bool,
}

impl RequestHead {
    /// The head of an answered request.
    #[must_use]
    pub fn new(api: ApiKey, version: i16) -> RequestHead {
        let flexible = api.is_flexible(version);
        RequestHead {
            api_key: api as i16,
            version,
            flexible_request: flexible,
            flexible_response: flexible && api != ApiKey::ApiVersions,
            answered: true,
        }
    }
}

/// A response that belongs to the request sent with `tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What the sender called its request.
    pub tag: u64,
    /// API and version the body is encoded in.
    pub api_key: i16,
    pub version: i16,
    /// The body, after the response header.
    pub body: Vec<u8>,
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("a frame of {bytes} bytes, allowed are 4 to {FRAME_BYTES_MAX}")]
    FrameSize { bytes: i64 },
    #[error("a response with correlation id {found}, the next one outstanding is {expected}")]
    Correlation { found: i32, expected: i32 },
    #[error("a response that no request asked for")]
    Unasked,
    #[error("a response header that ends early")]
    Header,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    correlation_id: i32,
    head: RequestHead,
    tag: u64,
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct Connection {
    client_id: String,
    correlation_id_next: i32,
    outstanding: VecDeque<Outstanding>,
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    inbox_read: usize,
}

impl Connection {
    /// A fresh connection that introduces itself as `client_id` in every request.
    #[must_use]
    pub fn new(client_id: &str) -> Connection {
        assert!(
            client_id.len() <= i16::MAX as usize,
            "a client id of at most 32767 bytes"
        );
        Connection {
            client_id: client_id.to_string(),
            correlation_id_next: 0,
            outstanding: VecDeque::new(),
            outbox: Vec::new(),
            inbox: Vec::new(),
            inbox_read: 0,
        }
    }

    /// Whether another request may be sent now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outstanding.len() < REQUESTS_IN_FLIGHT_MAX
    }

    /// Number of requests without an answer yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Tags of the requests without an answer yet, oldest first.
    pub fn outstanding_tags(&self) -> impl Iterator<Item = u64> + '_ {
        self.outstanding.iter().map(|request| request.tag)
    }

    /// Appends a request to the outbox. `body` writes the encoded body; when it fails, nothing is
    /// sent. The caller checked [`Connection::has_room`].
    ///
    /// # Errors
    /// Whatever `body` returns.
    pub fn send<E>(
        &mut self,
        head: RequestHead,
        tag: u64,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(
            self.has_room(),
            "more than {REQUESTS_IN_FLIGHT_MAX} requests outstanding"
        );
        let correlation_id = self.correlation_id_next;
        let start = self.outbox.len();
        self.outbox.extend_from_slice(&[0; 4]);
        self.outbox.extend_from_slice(&head.api_key.to_be_bytes());
        self.outbox.extend_from_slice(&head.version.to_be_bytes());
        self.outbox.extend_from_slice(&correlation_id.to_be_bytes());
        self.outbox
            .extend_from_slice(&(self.client_id.len() as i16).to_be_bytes());
        self.outbox.extend_from_slice(self.client_id.as_bytes());
        if head.flexible_request {
            self.outbox.push(0);
        }
        if let Err(error) = body(&mut self.outbox) {
            self.outbox.truncate(start);
            return Err(error);
        }
        let length = (self.outbox.len() - start - 4) as u32;
        self.outbox[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.correlation_id_next = correlation_id.wrapping_add(1) & i32::MAX;
        if head.answered {
            self.outstanding.push_back(Outstanding {
                correlation_id,
                head,
                tag,
            });
        }
        Ok(())
    }

    /// Whether there are bytes to write.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Swaps the bytes to write into `buffer`, whose old content is dropped and memory reused.
    pub fn take_output(&mut self, buffer: &mut Vec<u8>) {
        buffer.clear();
        if buffer.capacity() > KEPT_BYTES_MAX {
            *buffer = Vec::new();
        }
        std::mem::swap(buffer, &mut self.outbox);
    }

    /// Takes in bytes read from the socket, in any portions.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.inbox_read == self.inbox.len() {
            self.inbox.clear();
            self.inbox_read = 0;
            if self.inbox.capacity() > KEPT_BYTES_MAX {
                self.inbox = Vec::new();
            }
        } else if self.inbox_read > KEPT_BYTES_MAX {
            self.inbox.drain(..self.inbox_read);
            self.inbox_read = 0;
        }
        self.inbox.extend_from_slice(bytes);
    }

    /// The next complete response, if its last byte has arrived.
    ///
    /// # Errors
    /// The stream makes no sense any more; close it and fail what is outstanding.
    pub fn poll_response(&mut self) -> Result<Option<Response>, ConnectionError> {
        let unread = &self.inbox[self.inbox_read..];
        let Some((length, rest)) = unread.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let bytes = match usize::try_from(length) {
            Ok(bytes) if (4..=FRAME_BYTES_MAX).contains(&bytes) => bytes,
            _ => {
                return Err(ConnectionError::FrameSize {
                    bytes: i64::from(length),
                });
            }
        };
        let Some(frame) = rest.get(..bytes) else {
            let missing = bytes - rest.len();
            self.inbox.reserve(missing.min(KEPT_BYTES_MAX));
            return Ok(None);
        };
        let Some(request) = self.outstanding.front().copied() else {
            return Err(ConnectionError::Unasked);
        };
        let Some((id, body)) = frame.split_first_chunk::<4>() else {
            return Err(ConnectionError::Header);
        };
        let found = i32::from_be_bytes(*id);
        if found != request.correlation_id {
            let expected = request.correlation_id;
            return Err(ConnectionError::Correlation { found, expected });
        }
        let body = match request.head.flexible_response {
            true => skip_tagged_fields(body)
                .ok_or(ConnectionError::Header)?
                .to_vec(),
            false => body.to_vec(),
        };
        self.outstanding.pop_front();
        self.inbox_read += 4 + bytes;
        let RequestHead {
            api_key, version, ..
        } = request.head;
        Ok(Some(Response {
            tag: request.tag,
            api_key,
            version,
            body,
        }))
    }
}

/// What follows a block of tagged fields, none of which the response header defines.
fn skip_tagged_fields(bytes: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = unsigned_varint(bytes)?;
    for _ in 0..count {
        let (_tag, after_tag) = unsigned_varint(rest)?;
        let (size, after_size) = unsigned_varint(after_tag)?;
        rest = after_size.get(size as usize..)?;
    }
    Some(rest)
}

fn unsigned_varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u32;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const PLAIN: RequestHead = RequestHead {
        api_key: 3,
        version: 1,
        flexible_request: false,
        flexible_response: false,
        answered: true,
    };

    fn send(connection: &mut Connection, head: RequestHead, tag: u64, body: &[u8]) {
        let sent: Result<(), Infallible> = connection.send(head, tag, |out| {
            out.extend_from_slice(body);
            Ok(())
        });
        assert_eq!(sent, Ok(()));
    }

    fn frame(correlation_id: i32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = ((rest.len() + 4) as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&correlation_id.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_request_is_framed_with_its_header() {
        let mut connection = Connection::new("me");
        let flexible = RequestHead {
            flexible_request: true,
            ..PLAIN
        };
        send(&mut connection, flexible, 1, b"body");
        let mut out = Vec::new();
        connection.take_output(&mut out);
        let expected = b"\0\0\0\x11\0\x03\0\x01\0\0\0\0\0\x02me\0body";
        assert_eq!(out, expected);
        assert!(!connection.has_output());
    }

    #[test]
    fn a_body_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::new("me");
        let failed = connection.send(PLAIN, 1, |out| {
            out.push(9);
            Err("too long")
        });
        assert_eq!(failed, Err("too long"));
        assert!(!connection.has_output());
        assert_eq!(connection.outstanding(), 0);
    }

    #[test]
    fn responses_come_out_whole_whatever_the_portions() {
        let mut connection = Connection::new("me");
        send(&mut connection, PLAIN, 7, b"");
        send(
            &mut connection,
            RequestHead {
                flexible_response: true,
                ..PLAIN
            },
            8,
            b"",
        );
        let mut bytes = frame(0, b"first");
        // One tagged field: tag 5, two bytes.
        bytes.extend_from_slice(&frame(1, b"\x01\x05\x02xxsecond"));
        let mut seen = Vec::new();
        for byte in bytes {
            connection.handle_bytes(&[byte]);
            while let Some(response) = connection.poll_response().expect("in order") {
                seen.push((response.tag, response.body));
            }
        }
        assert_eq!(seen, [(7, b"first".to_vec()), (8, b"second".to_vec())]);
        assert_eq!(connection.outstanding(), 0);
    }

    #[test]
    fn unanswered_requests_are_not_waited_for() {
        let mut connection = Connection::new("me");
        send(
            &mut connection,
            RequestHead {
                answered: false,
                ..PLAIN
            },
            1,
            b"",
        );
        send(&mut connection, PLAIN, 2, b"");
        connection.handle_bytes(&frame(1, b"x"));
        let response = connection
            .poll_response()
            .expect("in order")
            .expect("complete");
        assert_eq!(response.tag, 2);
    }

    #[test]
    fn a_stream_that_makes_no_sense_is_refused() {
        let mut connection = Connection::new("me");
        send(&mut connection, PLAIN, 1, b"");
        connection.handle_bytes(&frame(5, b""));
        let error = connection
            .poll_response()
            .expect_err("wrong correlation id");
        assert_eq!(
            error,
            ConnectionError::Correlation {
                found: 5,
                expected: 0
            }
        );

        let mut connection = Connection::new("me");
        connection.handle_bytes(b"HTTP/1.1 400 Bad Request");
        let error = connection.poll_response().expect_err("not a frame");
        assert_eq!(error, ConnectionError::FrameSize { bytes: 0x4854_5450 });

        let mut connection = Connection::new("me");
        connection.handle_bytes(&frame(0, b""));
        assert_eq!(connection.poll_response(), Err(ConnectionError::Unasked));
    }
}
