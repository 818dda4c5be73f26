//! One live connection to a broker: a socket, a task that reads it and one that writes it.
//!
//! Requests may be sent at any time and are answered in order. The first failure (the peer closes,
//! bytes make no sense, an answer takes too long) ends the link and fails everything outstanding;
//! both tasks take back what they wait for and let go of the socket, whatever the peer does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use highwater_wire::{ApiKey, EncodeError};

use super::runtime::{Reader, Runtime, Writer};
use super::signal::{Signal, unless, wake};
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
    pub async fn open<R: Runtime>(
        address: &str,
        client_id: &str,
        timeout: Duration,
    ) -> Result<Rc<Link>, ClientError> {
        let failed = |reason: String| ClientError::Connect {
            address: address.to_string(),
            reason,
        };
        let (reader, writer) = connect::<R>(address, timeout).await.map_err(failed)?;
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
        R::spawn(read(Rc::clone(&link), reader));
        R::spawn(write(Rc::clone(&link), writer));
        match link.learn_versions::<R>(timeout).await {
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

    async fn learn_versions<R: Runtime>(
        self: &Rc<Self>,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        for version in [ApiVersions::VERSION, 0] {
            let head = RequestHead::new(ApiKey::ApiVersions, version);
            let answer = self.send(head, |out| ApiVersions.encode(version, out))?;
            let response = self.within::<R>(timeout, "ApiVersions", answer).await?;
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
    pub async fn within<R: Runtime>(
        &self,
        timeout: Duration,
        what: &'static str,
        answer: Answer,
    ) -> Result<Response, ClientError> {
        match R::timeout(timeout, answer).await {
            Some(result) => result,
            None => {
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
                wake(waker);
            }
        }
        self.ended.notify();
        self.progress.notify();
    }

    /// Done when the link is closed.
    async fn ended(&self) {
        self.ended.changed_since(0).await;
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
                            wake(waker);
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

/// The first of the addresses behind a name that takes a connection, or what the last one said.
async fn connect<R: Runtime>(
    address: &str,
    timeout: Duration,
) -> Result<(R::Reader, R::Writer), String> {
    let late = |what: &str| format!("{what} within {} ms", timeout.as_millis());
    let resolved = match R::timeout(timeout, R::resolve(address)).await {
        Some(resolved) => resolved.map_err(|error| error.to_string())?,
        None => return Err(late("its name was not looked up")),
    };
    let mut reason = "the name has no address".to_string();
    for candidate in resolved {
        match R::timeout(timeout, R::connect(candidate)).await {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(error)) => reason = error.to_string(),
            None => reason = late("no answer"),
        }
    }
    Err(reason)
}

async fn read(link: Rc<Link>, mut reader: impl Reader) {
    let mut buffer = vec![0; READ_BYTES];
    while let Some((result, returned)) = reader.read(buffer, link.ended()).await {
        buffer = returned;
        match result {
            Ok(0) => link.lost("the broker closed it".to_string()),
            Ok(count) => link.take_in(buffer.get(..count).unwrap_or_default()),
            Err(error) => link.lost(error.to_string()),
        }
    }
}

async fn write(link: Rc<Link>, mut writer: impl Writer) {
    let mut buffer = Vec::new();
    loop {
        let seen = link.output.seen();
        let taken = link.queued.get();
        link.connection.borrow_mut().take_output(&mut buffer);
        if buffer.is_empty() {
            match unless(link.ended(), link.output.changed_since(seen)).await {
                Some(()) => continue,
                None => return,
            }
        }
        let Some((result, returned)) = writer.write_all(buffer, link.ended()).await else {
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
