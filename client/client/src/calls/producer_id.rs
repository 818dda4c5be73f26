//! InitProducerId: the identity under which an idempotent producer counts its batches (KIP-98).

use highwater_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use highwater_wire::{ApiKey, EncodeError};

use super::{AnswerError, Call};
use crate::error::ClientError;

/// Asks for a new producer id.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitProducerId;

/// A producer's identity in the logs it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

impl Call for InitProducerId {
    const API: ApiKey = ApiKey::InitProducerId;
    const VERSION_MAX: i16 = 4;
    type Answer = ProducerIdentity;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<ProducerIdentity, AnswerError> {
        let response = InitProducerIdResponse::parse(version, body)?;
        ClientError::check("producer id", response.error_code, None)?;
        Ok(ProducerIdentity {
            id: response.producer_id,
            epoch: response.producer_epoch,
        })
    }
}
