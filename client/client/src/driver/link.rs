//! One live connection to a broker: a socket, a task that reads it and one that writes it.
//!
//! Requests may be sent at any time and are answered in order. The first failure (the peer closes,
//! bytes make no sense, an answer takes too long) ends the link and fails everything outstanding;
//! both tasks cancel what they wait for and let go of the socket, whatever the peer does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use highwater_wire::{ApiKey, EncodeError};
use monoio::io::{CancelableAsyncReadRent, CancelableAsyncWriteRentExt, Canceller, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use super::signal::Signal;
use crate::calls::{ApiVersions, BrokerVersions, Call};
use crate::connection::{Connection, RequestHead, Response};
use crate::error::ClientError;

const READ_BYTES: usize = 256 * 1024;

/// See the module.
pub struct Link {
    address: String,
    connection: RefCell<Connection>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    tag_next: Cell<u64>,
    versions: RefCell<BrokerVersions>,
    closed: RefCell<Option<ClientError>>,
    /// Changes once: when the link was closed.
    ended: Signal,
    /// There is something to write.
    output: Signal,
    /// Requests handed to the connection, and how many of them the socket took whole.
    queued: Cell<u64>,
    written: Cell<u64>,
    /// `written` grew, or the link was closed.
    progress: Signal,
}

#[derive(Debug, Default)]
struct Waiting {
    waker: Option<Waker>,
    response: Option<Response>,
}

impl Link {
    /// Connects and learns which versions the broker answers.
    ///
    /// # Errors
    /// No connection, or a peer that does not speak the protocol.
    pub async fn open(
        address: &str,
        client_id: &str,
        timeout: Duration,
    ) -> Result<Rc<Link>, ClientError> {
        let failed = |reason: String| ClientError::Connect {
            address: address.to_string(),
            reason,
        };
        let resolved = address
            .to_socket_addrs()
            .map_err(|error| failed(error.to_string()))?;
        let mut reason = "the name has no address".to_string();
        let mut stream = None;
        for candidate in resolved {
            match monoio::time::timeout(timeout, connect(candidate)).await {
                Ok(Ok(connected)) => {
                    stream = Some(connected);
                    break;
                }
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = format!("no answer within {} ms", timeout.as_millis()),
            }
        }
        let stream = stream.ok_or_else(|| failed(reason))?;
        let link = Rc::new(Link {
            address: address.to_string(),
            connection: RefCell::new(Connection::new(client_id)),
            waiting: RefCell::default(),
            tag_next: Cell::new(0),
            versions: RefCell::default(),
            closed: RefCell::new(None),
            ended: Signal::default(),
            output: Signal::default(),
            queued: Cell::new(0),
            written: Cell::new(0),
            progress: Signal::default(),
        });
        let (reader, writer) = stream.into_split();
        monoio::spawn(read(Rc::clone(&link), reader));
        monoio::spawn(write(Rc::clone(&link), writer));
        match link.learn_versions(timeout).await {
            Ok(()) => Ok(link),
            Err(error) => {
                link.close(error.clone());
                Err(match error {
                    ClientError::Timeout { timeout_ms, .. } => failed(format!(
                        "it takes the connection and says nothing within {timeout_ms} ms"
                    )),
                    ClientError::Disconnected { reason, .. } => failed(reason),
                    other => other,
                })
            }
        }
    }

    async fn learn_versions(self: &Rc<Self>, timeout: Duration) -> Result<(), ClientError> {
        for version in [ApiVersions::VERSION, 0] {
            let head = RequestHead::new(ApiKey::ApiVersions, version);
            let answer = self.send(head, |out| ApiVersions.encode(version, out))?;
            let response = self.within(timeout, "ApiVersions", answer).await?;
            let decoded = ApiVersions::decode_any(version, &response.body);
            match decoded.map_err(|error| self.protocol(&error.to_string()))? {
                Some(versions) => {
                    self.versions.replace(versions);
                    return Ok(());
                }
                None => continue,
            }
        }
        Err(self.protocol("ApiVersions is not answered in version 0"))
    }

    /// The error for bytes that make no sense.
    pub(crate) fn protocol(&self, reason: &str) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }

    /// Whether requests can still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    /// Whether a request can be sent now without exceeding the bound of outstanding ones.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.is_open() && self.connection.borrow().has_room()
    }

    /// The version to use.
    ///
    /// # Errors
    /// There is no common one.
    pub fn version(&self, api: ApiKey, version_max: i16) -> Result<i16, ClientError> {
        self.versions.borrow().pick(api, version_max)
    }

    /// Sends a request. The answer is waited for by awaiting what is returned; dropping that
    /// ignores the answer.
    ///
    /// # Errors
    /// The link is closed or full, or the request cannot be encoded.
    pub fn send(
        self: &Rc<Self>,
        head: RequestHead,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Answer, ClientError> {
        if let Some(error) = self.closed.borrow().as_ref() {
            return Err(error.clone());
        }
        let mut connection = self.connection.borrow_mut();
        if !connection.has_room() {
            let reason = "too many requests are outstanding".to_string();
            return Err(ClientError::Disconnected {
                address: self.address.clone(),
                reason,
            });
        }
        let tag = self.tag_next.get();
        self.tag_next.set(tag + 1);
        connection
            .send(head, tag, body)
            .map_err(|error| ClientError::Usage(format!("the request cannot be sent: {error}")))?;
        if head.answered {
            self.waiting.borrow_mut().insert(tag, Waiting::default());
        }
        let place = self.queued.get() + 1;
        self.queued.set(place);
        self.output.notify();
        Ok(Answer {
            link: Rc::clone(self),
            tag,
            place,
        })
    }

    /// Waits for an answer, at most `timeout`; a late answer ends the link.
    ///
    /// # Errors
    /// Time ran out, or the link was closed.
    pub async fn within(
        &self,
        timeout: Duration,
        what: &'static str,
        answer: Answer,
    ) -> Result<Response, ClientError> {
        match monoio::time::timeout(timeout, answer).await {
            Ok(result) => result,
            Err(_) => {
                let timeout_ms = timeout.as_millis() as u64;
                let error = ClientError::Timeout { what, timeout_ms };
                self.close(error.clone());
                Err(error)
            }
        }
    }

    /// Ends the link; everything outstanding fails with `error`.
    pub fn close(&self, error: ClientError) {
        if !self.is_open() {
            return;
        }
        self.closed.replace(Some(error));
        for waiting in self.waiting.borrow_mut().values_mut() {
            if let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
        }
        self.ended.notify();
        self.progress.notify();
    }

    /// Waits for an operation; `None` when the link was closed meanwhile. One on the socket is then
    /// to be taken back from the kernel, which would else wait for a peer that hangs.
    async fn while_open<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        let mut operation = pin!(operation);
        let mut ended = pin!(self.ended.changed_since(0));
        poll_fn(|context| match ended.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => operation.as_mut().poll(context).map(Some),
        })
        .await
    }

    /// Ends the link because nobody needs it any more.
    pub(super) fn end(&self) {
        self.lost("the client ended it".to_string());
    }

    fn lost(&self, reason: String) {
        self.close(ClientError::Disconnected {
            address: self.address.clone(),
            reason,
        });
    }

    fn take_in(&self, bytes: &[u8]) {
        let mut connection = self.connection.borrow_mut();
        connection.handle_bytes(bytes);
        loop {
            match connection.poll_response() {
                Ok(Some(response)) => {
                    let mut waiting = self.waiting.borrow_mut();
                    if let Some(waiting) = waiting.get_mut(&response.tag) {
                        waiting.response = Some(response);
                        if let Some(waker) = waiting.waker.take() {
                            waker.wake();
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    drop(connection);
                    self.close(self.protocol(&error.to_string()));
                    return;
                }
            }
        }
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_addr(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn read(link: Rc<Link>, mut reader: TcpOwnedReadHalf) {
    let canceller = Canceller::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut operation = pin!(reader.cancelable_read(buffer, canceller.handle()));
        let Some((result, returned)) = link.while_open(operation.as_mut()).await else {
            canceller.cancel();
            let _ = operation.await;
            return;
        };
        buffer = returned;
        match result {
            Ok(0) => link.lost("the broker closed it".to_string()),
            Ok(count) => link.take_in(buffer.get(..count).unwrap_or_default()),
            Err(error) => link.lost(error.to_string()),
        }
    }
}

async fn write(link: Rc<Link>, mut writer: TcpOwnedWriteHalf) {
    let canceller = Canceller::new();
    let mut buffer = Vec::new();
    loop {
        let seen = link.output.seen();
        let taken = link.queued.get();
        link.connection.borrow_mut().take_output(&mut buffer);
        if buffer.is_empty() {
            match link.while_open(link.output.changed_since(seen)).await {
                Some(()) => continue,
                None => return,
            }
        }
        let mut operation = pin!(writer.write_all(buffer, canceller.handle()));
        let Some((result, returned)) = link.while_open(operation.as_mut()).await else {
            canceller.cancel();
            let _ = operation.await;
            return;
        };
        buffer = returned;
        if let Err(error) = result {
            link.lost(error.to_string());
            return;
        }
        link.written.set(taken);
        link.progress.notify();
    }
}

/// The answer to one request.
pub struct Answer {
    link: Rc<Link>,
    tag: u64,
    place: u64,
}

impl Answer {
    /// Waits until the socket took the request: all there is to wait for where none is answered.
    ///
    /// # Errors
    /// The link was closed before.
    pub async fn written(&self) -> Result<(), ClientError> {
        loop {
            let seen = self.link.progress.seen();
            if self.link.written.get() >= self.place {
                return Ok(());
            }
            if let Some(error) = self.link.closed.borrow().as_ref() {
                return Err(error.clone());
            }
            self.link.progress.changed_since(seen).await;
        }
    }
}

impl Future for Answer {
    type Output = Result<Response, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = self.link.waiting.borrow_mut();
        let Some(mine) = waiting.get_mut(&self.tag) else {
            return Poll::Pending;
        };
        if let Some(response) = mine.response.take() {
            return Poll::Ready(Ok(response));
        }
        if let Some(error) = self.link.closed.borrow().as_ref() {
            return Poll::Ready(Err(error.clone()));
        }
        mine.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().remove(&self.tag);
    }
}
