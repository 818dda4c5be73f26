//! Calls about groups from outside, each at the broker that knows the group.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;

use super::client::{Client, RETRY_BACKOFF};
use super::runtime::Runtime;
use crate::calls::{Call, FindCoordinator, ListGroups, ListedGroup, Target};
use crate::error::{ClientError, ErrorKind};

impl<R: Runtime> Client<R> {
    /// Runs a call at a group's coordinator; again, where that moves, loads or restarts.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call_coordinator<C: Call>(
        &self,
        group: &str,
        call: &C,
    ) -> Result<C::Answer, ClientError> {
        let deadline_ns = self.call_deadline_ns();
        let mut answer_lost = false;
        loop {
            let error = match self.call_coordinator_once(group, call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let found_done = error.code().filter(|_| answer_lost);
            if let Some(answer) = found_done.and_then(|code| call.found_done(code)) {
                return Ok(answer);
            }
            answer_lost |= matches!(
                error,
                ClientError::Disconnected { .. } | ClientError::Timeout { .. }
            );
            // A topic that is not there, and a damaged log of offsets, stay so.
            let stays = [
                Some(ErrorCode::UnknownTopicOrPartition),
                Some(ErrorCode::KafkaStorageError),
            ];
            let passes = error.kind() == ErrorKind::Retriable && !stays.contains(&error.code());
            if !passes || self.now().reached(deadline_ns) {
                return Err(error);
            }
            R::sleep(RETRY_BACKOFF).await;
        }
    }

    async fn call_coordinator_once<C: Call>(
        &self,
        group: &str,
        call: &C,
    ) -> Result<C::Answer, ClientError> {
        let group = group.to_string();
        let found = self.call(Target::Any, &FindCoordinator { group }).await?;
        if self.with_metadata(|metadata| metadata.broker(found.id).is_none()) {
            self.refresh(Some(Vec::new())).await?;
        }
        let link = self.link(found.id).await?;
        self.call_on(&link, call).await
    }

    /// The groups of all brokers, by name.
    ///
    /// # Errors
    /// A broker does not answer or lacks groups: a list without them would be wrong.
    pub async fn list_groups(
        &self,
        states: &[String],
    ) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
        let (groups, is_complete) = self.list_known_groups(states).await?;
        match is_complete {
            true => Ok(groups),
            false => Err(ClientError::Broker {
                subject: "the list of groups".to_string(),
                code: ErrorCode::KafkaStorageError,
                detail: None,
            }),
        }
    }

    /// The groups that are known to all brokers, by name, and whether there can be no others.
    ///
    /// # Errors
    /// A broker does not answer.
    pub async fn list_known_groups(
        &self,
        states: &[String],
    ) -> Result<(BTreeMap<String, ListedGroup>, bool), ClientError> {
        self.refresh(Some(Vec::new())).await?;
        let brokers: Vec<i32> =
            self.with_metadata(|metadata| metadata.brokers().map(|broker| broker.id).collect());
        let call = ListGroups {
            states: states.to_vec(),
        };
        let (mut groups, mut is_complete) = (BTreeMap::new(), true);
        for broker in brokers {
            let found = self.call(Target::Broker(broker), &call).await?;
            is_complete &= found.is_complete;
            for group in found.groups {
                groups.insert(group.group.clone(), group);
            }
        }
        Ok((groups, is_complete))
    }
}
