//! What needs no broker; the rest is in the suite against real ones.

use super::*;

fn is_send_and_sync<T: Send + Sync>() {}

fn is_send<T: Send>(_: &T) {}

#[test]
fn handles_and_their_futures_may_be_sent_and_shared() {
    is_send_and_sync::<Client>();
    is_send_and_sync::<Producer>();
    is_send_and_sync::<Consumer>();
    is_send_and_sync::<GroupConsumer>();
    is_send_and_sync::<DeliveryFuture>();
    is_send(&Client::connect("", ClientSettings::default()));
}

#[test]
fn a_broker_that_is_not_there_is_told_from_the_clients_thread() {
    // The port is free again when the listener is dropped, and nobody answers there.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O and time");
    let connected = runtime.block_on(Client::connect(&address, ClientSettings::default()));
    let error = connected.expect_err("nobody answers");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}
