//! DeleteTopics (key 20): by name, or from version 6 by topic id (KIP-516).

use highwater_base::{Now, TopicId};
use highwater_reactor::Outbox;
use highwater_wire::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code, check_entries};
use crate::message::Message;
use crate::metadata::controller::{Change, ChangeOutcome, Changed, TopicRef};
use crate::shard::Shard;

/// The name and the id (zero for none) that the request gives each topic.
fn named<'a>(version: i16, decoded: &DeleteTopicsRequest<'a>) -> Vec<(Option<&'a str>, TopicId)> {
    if version < 6 {
        let names = decoded.topic_names.iter();
        return names.map(|name| (Some(name), TopicId::ZERO)).collect();
    }
    let topics = decoded.topics.iter();
    topics.map(|topic| (topic.name, topic.topic_id)).collect()
}

fn reference(name: Option<&str>, id: TopicId) -> TopicRef {
    match name {
        Some(name) if id.is_zero() => TopicRef::Name(name.to_string()),
        None if !id.is_zero() => TopicRef::Id(id),
        _ => TopicRef::Unclear,
    }
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
            topics: named(request.version, &decoded)
                .into_iter()
                .map(|(name, id)| reference(name, id))
                .collect(),
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
        let asked = named(request.version, &decoded);
        let responses: Vec<DeletableTopicResult<'_>> = asked
            .iter()
            .zip(outcome)
            .map(|(&(name, topic_id), result)| match result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_referred_to_by_its_name_or_by_its_id() {
        let id = TopicId([7; 16]);
        assert_eq!(reference(None, id), TopicRef::Id(id));
        let by_name = TopicRef::Name("a".to_string());
        assert_eq!(reference(Some("a"), TopicId::ZERO), by_name);
        // The name may by now be that of another topic than the id.
        assert_eq!(reference(Some("a"), id), TopicRef::Unclear);
        assert_eq!(reference(None, TopicId::ZERO), TopicRef::Unclear);
    }
}
