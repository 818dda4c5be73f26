//! The driver against a scripted broker on a real socket: what a broker that hangs, talks nonsense
//! or loses answers does to links and calls.

#![allow(
    clippy::disallowed_methods,
    reason = "the scripted broker blocks, so it needs threads of its own"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use highwater_base::{ErrorCode, TopicId};
use highwater_wire::api_versions::{ApiVersion, ApiVersionsResponse};
use highwater_wire::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use highwater_wire::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_wire::{ApiKey, Array};

use super::any_runtime::{Client, ConsumerHandle, ProducerHandle};
use super::client::Source;
use super::*;
use crate::calls::{CreateTopic, Target};
use crate::connection::RequestHead;
use crate::consumer::{ConsumerSettings, Start};
use crate::error::ClientError;
use crate::producer::ProducerSettings;

/// A runtime that a test can be run on.
trait Harness: Runtime {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output>;
}

#[cfg(feature = "monoio")]
impl Harness for on_monoio::Monoio {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
        on_monoio::block_on(future)
    }
}

#[cfg(feature = "tokio")]
impl Harness for on_tokio::Tokio {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
        on_tokio::block_on(future)
    }
}

/// Makes a test of each function, for each runtime.
macro_rules! on_every_runtime {
    ($($story:ident),* $(,)?) => {
        #[cfg(feature = "monoio")]
        mod monoio_runs {
            $(#[test] fn $story() { super::$story::<super::on_monoio::Monoio>(); })*
        }
        #[cfg(feature = "tokio")]
        mod tokio_runs {
            $(#[test] fn $story() { super::$story::<super::on_tokio::Tokio>(); })*
        }
    };
}

on_every_runtime!(
    a_link_to_a_broker_that_hangs_gives_its_socket_and_tasks_back,
    a_peer_that_speaks_something_else_is_left,
    a_topic_made_by_an_attempt_whose_answer_was_lost_counts_as_created,
    a_consumer_whose_broker_does_not_know_fetch_fails_instead_of_waiting,
    trouble_ends_when_the_broker_is_back,
    a_runtime_may_end_while_its_client_is_busy,
    a_topic_that_the_broker_does_not_know_at_once_is_waited_for,
);

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(10);
const BROKER_ID: i32 = 1;
const TOPIC: &str = "t";

/// What the scripted broker does with a request.
enum Reaction {
    Answer(Vec<u8>),
    /// Keeps the connection and says nothing.
    Hang,
    /// Ends the connection.
    HangUp,
}

/// The version that the broker offers of each API it knows.
type Offered = BTreeMap<i16, i16>;

fn offered(apis: &[(ApiKey, i16)]) -> Offered {
    apis.iter()
        .map(|(api, version)| (*api as i16, *version))
        .collect()
}

/// Serves `connections`, each on its thread. `react` sees every request that is neither
/// ApiVersions nor Metadata. Returns whether the client ended every connection.
fn broker(
    connections: usize,
    apis: Offered,
    react: impl FnMut(i16) -> Reaction + Send + 'static,
) -> (String, JoinHandle<bool>) {
    broker_that_knows_late(0, connections, apis, react)
}

/// Like [`broker`]; its first `late` answers to Metadata say that there is no such topic.
fn broker_that_knows_late(
    late: usize,
    connections: usize,
    apis: Offered,
    react: impl FnMut(i16) -> Reaction + Send + 'static,
) -> (String, JoinHandle<bool>) {
    let late = Arc::new(AtomicUsize::new(late));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let react = Arc::new(Mutex::new(react));
    let serve = move || {
        let mut serving = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let (apis, react, late) = (apis.clone(), Arc::clone(&react), Arc::clone(&late));
            let mut react = move |api| (react.lock().expect("no panic"))(api);
            serving.push(std::thread::spawn(move || {
                serve_one(stream, address.port(), &apis, &late, &mut react)
            }));
        }
        let mut ended = serving.into_iter().map(|one| one.join().expect("no panic"));
        ended.all(|ended| ended)
    };
    (address.to_string(), std::thread::spawn(serve))
}

fn serve_one(
    mut stream: TcpStream,
    port: u16,
    apis: &Offered,
    late: &AtomicUsize,
    react: &mut impl FnMut(i16) -> Reaction,
) -> bool {
    loop {
        let mut length = [0; 4];
        if let Err(error) = stream.read_exact(&mut length) {
            // A client that leaves with bytes unread resets the connection.
            return error.kind() != std::io::ErrorKind::WouldBlock;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).expect("a whole request");
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let reaction = match apis.get(&api) {
            _ if api == ApiKey::ApiVersions as i16 => Reaction::Answer(versions(apis)),
            Some(version) if api == ApiKey::Metadata as i16 => {
                let one_less = |left: usize| left.checked_sub(1);
                let is_late = late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
                Reaction::Answer(metadata(*version, port, is_late.is_err()))
            }
            _ => react(api),
        };
        match reaction {
            Reaction::Answer(body) => {
                let mut answer = ((body.len() + 4) as u32).to_be_bytes().to_vec();
                answer.extend_from_slice(&frame[4..8]);
                answer.extend_from_slice(&body);
                stream.write_all(&answer).expect("a client that listens");
            }
            // A descriptor that nobody closes keeps the connection, whatever the client does.
            Reaction::Hang => std::mem::forget(stream.try_clone()),
            Reaction::HangUp => return false,
        }
    }
}

fn versions(apis: &Offered) -> Vec<u8> {
    let apis: Vec<ApiVersion> = apis
        .iter()
        .map(|(api, version)| ApiVersion {
            api_key: *api,
            min_version: *version,
            max_version: *version,
        })
        .collect();
    let mut body = Vec::new();
    ApiVersionsResponse {
        api_keys: Array::from(&apis),
        ..Default::default()
    }
    .encode(3, &mut body)
    .expect("fits");
    body
}

fn metadata(version: i16, port: u16, topic_is_known: bool) -> Vec<u8> {
    let brokers = [MetadataResponseBroker {
        node_id: BROKER_ID,
        host: "127.0.0.1",
        port: i32::from(port),
        rack: None,
    }];
    let partitions = [MetadataResponsePartition {
        leader_id: BROKER_ID,
        ..Default::default()
    }];
    let (code, partitions) = match topic_is_known {
        true => (ErrorCode::None, &partitions[..]),
        false => (ErrorCode::UnknownTopicOrPartition, &[][..]),
    };
    let topics = [MetadataResponseTopic {
        error_code: code.code(),
        name: Some(TOPIC),
        topic_id: TopicId([1; 16]),
        partitions: Array::from(partitions),
        ..Default::default()
    }];
    let mut body = Vec::new();
    MetadataResponse {
        brokers: Array::from(&brokers),
        controller_id: BROKER_ID,
        topics: Array::from(&topics),
        ..Default::default()
    }
    .encode(version, &mut body)
    .expect("fits");
    body
}

/// An answer to CreateTopics.
fn created(code: ErrorCode) -> Vec<u8> {
    let topics = [CreatableTopicResult {
        name: TOPIC,
        error_code: code.code(),
        ..Default::default()
    }];
    let mut body = Vec::new();
    CreateTopicsResponse {
        topics: Array::from(&topics),
        ..Default::default()
    }
    .encode(2, &mut body)
    .expect("fits");
    body
}

fn settings() -> ClientSettings {
    ClientSettings {
        request_timeout_ms: 200,
        connect_timeout_ms: 200,
        ..ClientSettings::default()
    }
}

/// Lets the tasks of a link do what they have to.
async fn within_patience<R: Runtime>(done: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if done() {
            return;
        }
        R::sleep(Duration::from_millis(1)).await;
    }
}

fn a_link_to_a_broker_that_hangs_gives_its_socket_and_tasks_back<R: Harness>() {
    let apis = offered(&[(ApiKey::CreateTopics, 2)]);
    let (address, served) = broker(1, apis, |_| Reaction::Hang);
    R::block_on(async {
        let link = Link::open::<R>(&address, "test", PATIENCE)
            .await
            .expect("it answers ApiVersions");
        let head = RequestHead::new(ApiKey::CreateTopics, 2);
        let answer = link.send(head, |_| Ok(())).expect("it has room");
        let timeout = Duration::from_millis(50);
        let late = link.within::<R>(timeout, "the request", answer).await;
        assert!(matches!(late, Err(ClientError::Timeout { .. })), "{late:?}");
        // The tasks hold the link as long as they live.
        within_patience::<R>(|| Rc::strong_count(&link) == 1).await;
        assert_eq!(Rc::strong_count(&link), 1, "both tasks ended");
    })
    .expect("a runtime");
    assert!(served.join().expect("no panic"), "the client left");
}

fn a_peer_that_speaks_something_else_is_left<R: Harness>() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // A whole frame that answers correlation id 0 with what is no ApiVersions response.
        stream
            .write_all(b"\0\0\0\x06\0\0\0\0xx")
            .expect("a client that listens");
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    });
    let opened = R::block_on(async {
        let opened = Link::open::<R>(&address, "test", PATIENCE).await;
        within_patience::<R>(|| served.is_finished()).await;
        opened.map(|_| ())
    })
    .expect("a runtime");
    assert!(
        matches!(opened, Err(ClientError::Protocol { .. })),
        "{opened:?}"
    );
    assert!(served.join().expect("no panic"), "the client left");
}

fn a_topic_made_by_an_attempt_whose_answer_was_lost_counts_as_created<R: Harness>() {
    let apis = offered(&[(ApiKey::Metadata, 1), (ApiKey::CreateTopics, 2)]);
    let mut attempts = 0;
    // Connections: the bootstrap, the controller, the controller again.
    let (address, served) = broker(3, apis, move |_| {
        attempts += 1;
        if attempts == 1 {
            return Reaction::HangUp;
        }
        Reaction::Answer(created(ErrorCode::TopicAlreadyExists))
    });
    let created = R::block_on(async {
        let client = Client::<R>::connect(&address, settings()).await?;
        let call = CreateTopic {
            name: TOPIC.to_string(),
            partitions: 1,
            ..CreateTopic::default()
        };
        client.call(Target::Controller, &call).await
    })
    .expect("a runtime");
    assert!(created.is_ok(), "{created:?}");
    drop(served);
}

fn a_consumer_whose_broker_does_not_know_fetch_fails_instead_of_waiting<R: Harness>() {
    let apis = offered(&[(ApiKey::Metadata, 1)]);
    let (address, served) = broker(2, apis, |_| Reaction::Hang);
    let next = R::block_on(async {
        let client = Client::<R>::connect(&address, settings()).await?;
        let settings = ConsumerSettings::default();
        let consumer =
            ConsumerHandle::start(&client, settings, TOPIC, &[0], Start::Offset(0)).await?;
        let next = R::timeout(PATIENCE, consumer.next()).await;
        next.expect("it does not wait for ever")
    })
    .expect("a runtime");
    assert!(
        matches!(next, Err(ClientError::NoCommonVersion { .. })),
        "{next:?}"
    );
    drop(served);
}

fn trouble_ends_when_the_broker_is_back<R: Harness>() {
    let apis = offered(&[(ApiKey::Metadata, 1)]);
    let (address, served) = broker(2, apis, |_| Reaction::Hang);
    let trouble = R::block_on(async {
        let client = Client::<R>::connect(&address, settings()).await?;
        let down = || ClientError::Connect {
            address: address.clone(),
            reason: "refused".to_string(),
        };
        client.note::<()>(Source::Metadata, &Err(down()));
        client.note::<()>(Source::Broker(BROKER_ID), &Err(down()));
        assert_eq!(client.trouble(), Some(down()));
        assert!(!client.may_use(BROKER_ID), "it has to connect");
        within_patience::<R>(|| client.may_use(BROKER_ID)).await;
        Ok::<_, ClientError>(client.trouble())
    })
    .expect("a runtime");
    assert_eq!(trouble, Ok(None));
    drop(served);
}

/// monoio panics when a task is woken that its runtime is about to drop.
fn a_runtime_may_end_while_its_client_is_busy<R: Harness>() {
    let apis = offered(&[(ApiKey::Metadata, 1)]);
    let (address, served) = broker(1, apis, |_| Reaction::Hang);
    let connected = R::block_on(async {
        let client = Client::<R>::connect(&address, settings()).await?;
        // The tasks of both have not begun, so they are dropped with the last use of the client,
        // which then wants to end its link.
        let _ = ProducerHandle::start(&client, ProducerSettings::default(), |_| ());
        let _ = ConsumerHandle::idle(&client, ConsumerSettings::default());
        Ok::<_, ClientError>(())
    })
    .expect("a runtime");
    assert_eq!(connected, Ok(()));
    drop(served);
}

/// Kafka answers CreateTopics before every broker has heard of the topic.
fn a_topic_that_the_broker_does_not_know_at_once_is_waited_for<R: Harness>() {
    let apis = offered(&[(ApiKey::Metadata, 1), (ApiKey::CreateTopics, 2)]);
    let react = |_| Reaction::Answer(created(ErrorCode::None));
    // Not known when the client starts, nor when it asks for the first time after the creation.
    let (address, served) = broker_that_knows_late(2, 2, apis, react);
    let known = R::block_on(async {
        let client = Client::<R>::connect(&address, settings()).await?;
        let call = CreateTopic {
            name: TOPIC.to_string(),
            partitions: 1,
            ..CreateTopic::default()
        };
        client.call(Target::Controller, &call).await?;
        client.with_metadata(|metadata| metadata.partition_count(TOPIC))
    })
    .expect("a runtime");
    assert_eq!(known, Ok(1));
    drop(served);
}
