//! The end of a turn: `end_turn`, then everything in the outbox is carried out.

use std::rc::Rc;
use std::time::Duration;

use crate::core_loop::Core;
use crate::disk;
use crate::mailbox::Envelope;
use crate::outbox::{Command, SendPiece};
use crate::reader;
use crate::service::{ConnectionId, Service};
use crate::{timer, writer};

/// How long a turn with mail that did not fit its ring waits for another input.
const MAIL_RETRY: Duration = Duration::from_millis(1);

/// Runs after all inputs that were ready, as often as there were any.
pub(crate) async fn run<S: Service>(core: Rc<Core<S>>) {
    let mut commands = Vec::new();
    let mut requests = Vec::new();
    let mut touched: Vec<ConnectionId> = Vec::new();
    loop {
        if core.mail_waits.get() {
            // Its reader is busy, perhaps with this core's mailbox being full: parking lets this core
            // read too.
            let _ = monoio::time::timeout(MAIL_RETRY, core.turn.wait()).await;
        } else {
            core.turn.wait().await;
        }
        end_turn(&core, &mut commands, &mut requests, &mut touched);
        if core.stopped.get() {
            core.stop.set();
            return;
        }
        timer::rearm(&core);
        core.idle.set();
    }
}

fn end_turn<S: Service>(
    core: &Rc<Core<S>>,
    commands: &mut Vec<Command<S::Message>>,
    requests: &mut Vec<highwater_base::disk::DiskRequest>,
    touched: &mut Vec<ConnectionId>,
) {
    core.step(|service, now, out| {
        service.end_turn(now, out);
        std::mem::swap(&mut out.commands, commands);
        std::mem::swap(&mut out.requests, requests);
    });
    // The step above is the turn itself, not an input that asks for another one.
    core.turn.clear();
    // Files are attached before a send may name them, and everything else (removals above all) runs
    // after the sends have opened theirs.
    disk::attach(core, requests);
    for command in commands.drain(..) {
        carry_out(core, command, touched);
    }
    disk::dispatch(core, requests);
    for id in touched.drain(..) {
        if let Some(connection) = core.connection(id) {
            writer::flush(core, &connection);
        }
    }
    let all = core.post.borrow_mut().flush();
    core.mail_waits.set(!all);
}

fn carry_out<S: Service>(
    core: &Rc<Core<S>>,
    command: Command<S::Message>,
    touched: &mut Vec<ConnectionId>,
) {
    match command {
        Command::Send(id, piece) => {
            let Some(connection) = core.connection(id) else {
                if let SendPiece::Bytes(bytes) = piece {
                    core.outbox(|out| out.recycle(bytes));
                }
                return;
            };
            if piece.is_empty() {
                return;
            }
            if let SendPiece::File { file, .. } = &piece {
                core.files.borrow_mut().hold_for_send(*file);
            }
            connection
                .queued_bytes
                .set(connection.queued_bytes.get() + piece.len());
            connection.queue.borrow_mut().push_back(piece);
            if touched.last() != Some(&id) {
                touched.push(id);
            }
        }
        Command::Close(id, reason) => {
            if let Some(connection) = core.connection(id) {
                connection.close(reason);
                touched.push(id);
            }
        }
        Command::Resume(id) => {
            if let Some(connection) = core.connection(id) {
                connection.paused.set(false);
                connection.reader.set();
            }
        }
        Command::HandOver(id, to, message) => {
            if let Some(connection) = core.connection(id) {
                assert!(
                    connection.paused.get(),
                    "only a paused connection is handed over"
                );
                *connection.moving.borrow_mut() = Some((to, message));
                connection.reader.set();
            }
        }
        Command::Mail(to, message) => {
            if to == core.id {
                // Mail to oneself skips the rings but not the turn.
                let from = core.id;
                core.step(|service, now, out| service.on_message(now, from, message, out));
            } else {
                core.post
                    .borrow_mut()
                    .send(to, Envelope::Message(core.id, message));
            }
        }
        Command::Stop => {
            core.stopped.set(true);
        }
    }
}

/// A connection that was accepted or has arrived from another core.
pub(crate) fn open_connection<S: Service>(
    core: &Rc<Core<S>>,
    socket: crate::mailbox::Socket,
    arrived: Option<(Vec<u8>, S::Message)>,
) {
    reader::start(core, socket, arrived);
}
