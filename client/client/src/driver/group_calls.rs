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
            let passes = error.kind() == ErrorKind::Retriable
                && error.code() != Some(ErrorCode::UnknownTopicOrPartition);
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
    /// A broker does not answer: a list without its groups would be wrong.
    pub async fn list_groups(
        &self,
        states: &[String],
    ) -> Result<BTreeMap<String, ListedGroup>, ClientError> {
        self.refresh(Some(Vec::new())).await?;
        let brokers: Vec<i32> =
            self.with_metadata(|metadata| metadata.brokers().map(|broker| broker.id).collect());
        let call = ListGroups {
            states: states.to_vec(),
        };
        let mut groups = BTreeMap::new();
        for broker in brokers {
            for group in self.call(Target::Broker(broker), &call).await? {
                groups.insert(group.group.clone(), group);
            }
        }
        Ok(groups)
    }
}
