//! Asks the cores and puts their answers together.
//!
//! Every question has three seconds: a core that its disk or the scheduler holds up for a moment still
//! answers. One that takes longer makes the whole answer fail with its number: figures without one
//! of the cores would look like a node that does less.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::figures::{
    Answer, Asked, ConnectionFigures, CoreFigures, DamageFigures, PartitionFigures, Question,
    TopicFigures,
};

/// How long a core may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Partitions a core looks at for one question.
const PARTITIONS_PER_QUESTION_MAX: usize = 4096;
/// Topics a core tells in one answer.
const TOPICS_PER_QUESTION_MAX: usize = 1024;
/// Connections told per core.
pub const CONNECTIONS_LISTED_MAX: usize = 1000;

/// The way to the cores.
pub trait Cores: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> u16;

    /// Sends a question; false when too many wait already.
    fn ask(&self, core: u16, question: Asked) -> bool;
}

/// A core that did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {core} did not answer within {} ms", ANSWER_WITHIN.as_millis())]
pub struct Silent {
    pub core: u16,
}

fn send(cores: &dyn Cores, core: u16, question: Question) -> Result<Waiting, Silent> {
    let (asked, answer) = Asked::new(question);
    match cores.ask(core, asked) {
        true => Ok(Waiting { core, answer }),
        false => Err(Silent { core }),
    }
}

/// An answer that is due.
struct Waiting {
    core: u16,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    async fn wait(self) -> Result<Answer, Silent> {
        let silent = Silent { core: self.core };
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.answer).await;
        answer.map_err(|_| silent)?.map_err(|_| silent)
    }
}

pub(crate) async fn ask(
    cores: &dyn Cores,
    core: u16,
    question: Question,
) -> Result<Answer, Silent> {
    send(cores, core, question)?.wait().await
}

/// Asks all cores at once; answers in the order of the cores.
pub(crate) async fn ask_all(cores: &dyn Cores, question: &Question) -> Result<Vec<Answer>, Silent> {
    let waiting: Vec<Waiting> = (0..cores.count())
        .map(|core| send(cores, core, question.clone()))
        .collect::<Result<_, _>>()?;
    let mut answers = Vec::new();
    for one in waiting {
        answers.push(one.wait().await?);
    }
    Ok(answers)
}

/// The figures of all cores.
///
/// # Errors
/// A core that does not answer.
pub async fn core_figures(cores: &dyn Cores) -> Result<Vec<CoreFigures>, Silent> {
    let answers = ask_all(cores, &Question::Core).await?;
    let figures = answers.into_iter().filter_map(|answer| match answer {
        Answer::Core(figures) => Some(*figures),
        _ => None,
    });
    Ok(figures.collect())
}

/// Topics in name order.
#[derive(Debug, Default)]
pub struct Topics {
    pub topics: BTreeMap<String, TopicFigures>,
    /// Everything beyond the topics asked for, together.
    pub rest: TopicFigures,
}

/// What becomes of topics beyond those wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// They are not asked for.
    Skip,
    /// They are added up.
    AddUp,
}

/// The first `wanted` topics from `from` on.
///
/// # Errors
/// A core that does not answer.
pub async fn topics(
    cores: &dyn Cores,
    from: &str,
    wanted: usize,
    beyond: Beyond,
) -> Result<Topics, Silent> {
    let mut found = Topics::default();
    for core in 0..cores.count() {
        let mut from = Some(from.to_owned());
        let mut taken = 0;
        while let Some(next) = from.take() {
            let question = Question::Topics {
                from: next,
                topics_max: TOPICS_PER_QUESTION_MAX,
                partitions_max: PARTITIONS_PER_QUESTION_MAX,
            };
            let Answer::Topics { topics, next } = ask(cores, core, question).await? else {
                break;
            };
            taken += topics.len();
            found.add(topics, wanted);
            from = next.filter(|_| beyond == Beyond::AddUp || taken < wanted);
        }
    }
    Ok(found)
}

impl Topics {
    fn add(&mut self, shares: Vec<TopicFigures>, wanted: usize) {
        for share in shares {
            match self.topics.get_mut(&share.name) {
                Some(topic) => topic.add(&share),
                None => {
                    self.topics.insert(share.name.clone(), share);
                }
            }
            if self.topics.len() > wanted
                && let Some((_, last)) = self.topics.pop_last()
            {
                self.rest.add(&last);
            }
        }
    }
}

/// The partitions of a topic, in order; empty when there is no such topic.
///
/// # Errors
/// A core that does not answer.
pub async fn partitions(cores: &dyn Cores, topic: &str) -> Result<Vec<PartitionFigures>, Silent> {
    let mut all = Vec::new();
    for core in 0..cores.count() {
        let mut from = Some(0);
        while let Some(next) = from.take() {
            let question = Question::Partitions {
                topic: topic.to_owned(),
                from: next,
                partitions_max: PARTITIONS_PER_QUESTION_MAX,
            };
            if let Answer::Partitions { partitions, next } = ask(cores, core, question).await? {
                all.extend(partitions);
                from = next;
            }
        }
    }
    all.sort_by_key(|partition| partition.partition);
    Ok(all)
}

/// What is wrong with the partitions of each core; `told_max` of all are told by name.
///
/// # Errors
/// A core that does not answer.
pub async fn damage(cores: &dyn Cores, told_max: usize) -> Result<Vec<DamageFigures>, Silent> {
    let mut all = Vec::new();
    let mut left = told_max;
    for core in 0..cores.count() {
        let mut found = DamageFigures::default();
        let mut from = Some(String::new());
        while let Some(next) = from.take() {
            let question = Question::Damage {
                from: next,
                partitions_max: PARTITIONS_PER_QUESTION_MAX,
                told_max: left - found.partitions.len(),
            };
            if let Answer::Damage { damage, next } = ask(cores, core, question).await? {
                found.add(damage, left);
                from = next;
            }
        }
        left -= found.partitions.len();
        all.push(found);
    }
    Ok(all)
}

/// The connections of all cores, a bounded number of each.
///
/// # Errors
/// A core that does not answer.
pub async fn connections(cores: &dyn Cores) -> Result<Vec<ConnectionFigures>, Silent> {
    let question = Question::Connections {
        connections_max: CONNECTIONS_LISTED_MAX,
    };
    let answers = ask_all(cores, &question).await?;
    let lists = answers.into_iter().filter_map(|answer| match answer {
        Answer::Connections(list) => Some(list),
        _ => None,
    });
    Ok(lists.flatten().collect())
}
