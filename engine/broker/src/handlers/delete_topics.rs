//! DeleteTopics (key 20): by name, or from version 6 by topic id (KIP-516).

use highwater_base::Now;
use highwater_reactor::Outbox;
use highwater_wire::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code, check_entries};
use crate::message::Message;
use crate::metadata::controller::{Change, ChangeOutcome, Changed, TopicRef};
use crate::shard::Shard;

fn references(version: i16, decoded: &DeleteTopicsRequest<'_>) -> Vec<TopicRef> {
    if version < 6 {
        return decoded
            .topic_names
            .iter()
            .map(|name| TopicRef::Name(name.to_string()))
            .collect();
    }
    decoded
        .topics
        .iter()
        .map(|topic| match topic.name {
            Some(name) => TopicRef::Name(name.to_string()),
            None => TopicRef::Id(topic.topic_id),
        })
        .collect()
}

impl Shard {
    pub(crate) fn handle_delete_topics(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteTopicsRequest::parse(request.version, body)?;
        check_entries([decoded.topics.len(), decoded.topic_names.len()].into_iter())?;
        let change = Change::DeleteTopics {
            topics: references(request.version, &decoded),
        };
        self.request_change(now, request.pending_change(body), change, out);
        Ok(())
    }

    pub(crate) fn answer_delete_topics(
        &mut self,
        request: &Request,
        body: &[u8],
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DeleteTopicsRequest::parse(request.version, body)?;
        let asked = references(request.version, &decoded);
        let responses: Vec<DeletableTopicResult<'_>> = asked
            .iter()
            .zip(outcome)
            .map(|(asked, result)| {
                let (name, topic_id) = match asked {
                    TopicRef::Name(name) => (Some(name.as_str()), Default::default()),
                    TopicRef::Id(id) => (None, *id),
                };
                match result {
                    Ok(Changed::Deleted { topic_id, name }) => DeletableTopicResult {
                        name: Some(name),
                        topic_id: *topic_id,
                        ..Default::default()
                    },
                    Ok(_) => DeletableTopicResult {
                        name,
                        topic_id,
                        ..Default::default()
                    },
                    Err(error) => DeletableTopicResult {
                        name,
                        topic_id,
                        error_code: as_code(error.code),
                        error_message: Some(&error.message),
                        ..Default::default()
                    },
                }
            })
            .collect();
        let response = DeleteTopicsResponse {
            responses: Array::from(&responses),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}
