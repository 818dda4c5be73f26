//! What the answers to Produce requests mean for their batches.
//!
//! | answer                              | batch                                                  |
//! |-------------------------------------|--------------------------------------------------------|
//! | none                                | delivered                                              |
//! | DUPLICATE_SEQUENCE_NUMBER           | delivered, offset unknown                              |
//! | OUT_OF_ORDER, an older one pending  | again, same sequence, after the older one              |
//! | OUT_OF_ORDER, an older one failed   | not written: again under the next identity             |
//! | OUT_OF_ORDER otherwise              | failed: the broker lost records                        |
//! | retriable, or no answer             | again, same sequence                                   |
//! | anything else                       | failed                                                 |

use highwater_base::{ErrorCode, Now};
use highwater_wire::produce::ProduceResponse;

use super::{Identity, Key, Producer, Receipt};
use crate::calls::AnswerError;
use crate::error::{ClientError, ErrorKind, needs_metadata};

impl Producer {
    /// Takes in the answer to a request.
    ///
    /// # Errors
    /// Bytes that do not decode; the request counts as failed without an answer.
    pub fn handle_response(
        &mut self,
        now: Now,
        request: u64,
        version: i16,
        body: &[u8],
    ) -> Result<(), AnswerError> {
        let response = match ProduceResponse::parse(version, body) {
            Ok(response) => response,
            Err(error) => {
                self.handle_failure(now, request);
                return Err(AnswerError::Decode(error));
            }
        };
        for (key, batch_id) in self.requests.remove(&request).unwrap_or_default() {
            let topic = &self.topics[key.0].name;
            let answer = response
                .responses
                .iter()
                .filter(|answer| *answer.name == **topic)
                .flat_map(|answer| answer.partition_responses.iter())
                .find(|answer| usize::try_from(answer.index) == Ok(key.1));
            let Some(answer) = answer else {
                self.try_again(now, key, batch_id);
                continue;
            };
            let subject = format!("{topic}-{}", key.1);
            match ClientError::from_code(&subject, answer.error_code, answer.error_message) {
                None => {
                    let receipt = Receipt {
                        base_offset: Some(answer.base_offset).filter(|offset| *offset >= 0),
                        log_append_time: Some(answer.log_append_time_ms).filter(|time| *time >= 0),
                    };
                    self.complete(key, batch_id, receipt);
                }
                Some(error) => self.refused(now, key, batch_id, error),
            }
        }
        Ok(())
    }

    /// A request got no answer: the connection broke or time ran out.
    pub fn handle_failure(&mut self, now: Now, request: u64) {
        for (key, batch_id) in self.requests.remove(&request).unwrap_or_default() {
            let name = self.topics[key.0].name.clone();
            self.metadata_wanted.insert(name);
            self.try_again(now, key, batch_id);
        }
    }

    /// A request could not be sent. Where no other attempt can, its batches fail: waiting for their
    /// timeout would only hide why.
    pub fn handle_unsendable(&mut self, now: Now, request: u64, error: &ClientError) {
        if error.kind() == ErrorKind::Retriable {
            self.handle_failure(now, request);
            return;
        }
        for (key, batch_id) in self.requests.remove(&request).unwrap_or_default() {
            if let Some(at) = self.queue(key).answered(batch_id) {
                self.fail(key, at, error.clone());
            }
        }
    }

    fn refused(&mut self, now: Now, key: Key, batch_id: u64, error: ClientError) {
        match error.code() {
            Some(ErrorCode::DuplicateSequenceNumber) => {
                let receipt = Receipt {
                    base_offset: None,
                    log_append_time: None,
                };
                self.complete(key, batch_id, receipt);
            }
            Some(ErrorCode::OutOfOrderSequenceNumber) if self.identity != Identity::Off => {
                self.out_of_order(now, key, batch_id, error);
            }
            Some(code) if error.kind() == ErrorKind::Retriable => {
                if needs_metadata(code) {
                    let name = self.topics[key.0].name.clone();
                    self.metadata_wanted.insert(name);
                }
                self.try_again(now, key, batch_id);
            }
            _ => {
                if let Some(at) = self.queue(key).answered(batch_id) {
                    self.fail(key, at, error);
                }
            }
        }
    }

    fn out_of_order(&mut self, now: Now, key: Key, batch_id: u64, error: ClientError) {
        let queue = self.queue(key);
        let Some(at) = queue.batches.iter().position(|batch| batch.id == batch_id) else {
            return;
        };
        let older_pending = queue
            .batches
            .iter()
            .take(at)
            .any(|batch| batch.sequence.is_some());
        if older_pending {
            self.try_again(now, key, batch_id);
        } else if queue.gap {
            // The broker says that it has not written it, so another sequence cannot duplicate it.
            queue.answered(batch_id);
            queue.batches[at].sequence = None;
            self.ready.insert(key);
        } else if let Some(at) = queue.answered(batch_id) {
            self.fail(key, at, error);
        }
    }

    fn try_again(&mut self, now: Now, key: Key, batch_id: u64) {
        let queue = self.queue(key);
        if queue.answered(batch_id).is_some() {
            queue.back_off(now.monotonic_ns);
        }
        self.ready.insert(key);
    }
}
