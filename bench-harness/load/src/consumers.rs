//! The consumers of a thread. Hot ones read from the end on and time each record from the moment it
//! was due to the moment it is in hand; cold ones read from the beginning, again and again, and time
//! how long they wait for each answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_client::calls::OffsetSpec;
use highwater_client::consumer::{ConsumerSettings, Start};
use highwater_client::driver::{Client, ConsumerHandle};

use crate::clock::now_ns;
use crate::payload::due_of;
use crate::recorder::SeriesKind;
use crate::worker::{self, Common, Tasks, Worker, in_words};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After the last producer ended, records that arrived nowhere for so long do not arrive.
const QUIET_NS: u64 = 500_000_000;

/// A consumer that has its place in every partition.
pub struct Reader {
    handle: ConsumerHandle,
    topic: String,
    partitions: Vec<i32>,
    /// Its connections live as long as it does.
    _client: Client,
}

/// The consumers' tasks.
pub struct Reading(Vec<monoio::task::JoinHandle<()>>);

impl Reading {
    pub async fn ended(self) {
        for task in self.0 {
            task.await;
        }
    }
}

pub async fn connect_hot(worker: &Worker, count: usize) -> Result<Vec<Reader>, String> {
    connect(worker, count, OffsetSpec::End).await
}

pub async fn connect_cold(worker: &Worker, count: usize) -> Result<Vec<Reader>, String> {
    connect(worker, count, OffsetSpec::Beginning).await
}

async fn connect(worker: &Worker, count: usize, from: OffsetSpec) -> Result<Vec<Reader>, String> {
    let plan = &worker.plan;
    let mut readers = Vec::new();
    for _ in 0..count {
        let client = worker::connect(&plan.bootstrap).await?;
        let partitions: Vec<i32> = (0..plan.partitions).collect();
        let settings = ConsumerSettings::default();
        let start = Start::At(from);
        let handle = ConsumerHandle::start(&client, settings, &plan.topic, &partitions, start)
            .await
            .map_err(in_words)?;
        // A consumer that looked for the end later would miss what is sent until then.
        let placed = |partition: &i32| handle.position(&plan.topic, *partition).is_some();
        while !partitions.iter().all(placed) {
            if let Some(trouble) = handle.trouble() {
                return Err(trouble.to_string());
            }
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        readers.push(Reader {
            handle,
            topic: plan.topic.clone(),
            partitions,
            _client: client,
        });
    }
    Ok(readers)
}

pub fn start(worker: &Worker, hot: Vec<Reader>, cold: Vec<Reader>, tasks: &Tasks) -> Reading {
    let mut reading = Vec::new();
    for reader in hot {
        let common = Arc::clone(&worker.common);
        reading.push(monoio::spawn(read_hot(reader, tasks.clone(), common)));
    }
    for reader in cold {
        reading.push(monoio::spawn(read_cold(reader, tasks.clone())));
    }
    Reading(reading)
}

async fn read_hot(reader: Reader, tasks: Tasks, common: Arc<Common>) {
    let recorder = tasks.recorders.of(SeriesKind::EndToEnd);
    let mut last_ns = now_ns();
    loop {
        let fetched = monoio::time::timeout(LOOK_EVERY, reader.handle.next()).await;
        let now = now_ns();
        match fetched {
            Ok(Ok(fetched)) => {
                let mut recorder = recorder.borrow_mut();
                for value in fetched.records.iter().filter_map(|one| one.value.as_ref()) {
                    if let Some(due_ns) = due_of(value, tasks.mark) {
                        recorder.succeeded(due_ns, now, value.len() as u64);
                        last_ns = now;
                    }
                }
            }
            Ok(Err(error)) => {
                recorder.borrow_mut().failed(now, 1, &error.to_string());
                return;
            }
            Err(_) => {}
        }
        let produced = common.producing.load(Ordering::SeqCst) == 0;
        let quiet = now.saturating_sub(last_ns) > QUIET_NS;
        if (produced && quiet) || now >= tasks.times.drained_ns {
            return;
        }
    }
}

async fn read_cold(reader: Reader, tasks: Tasks) {
    let recorder = tasks.recorders.of(SeriesKind::Fetch);
    let mut asked_ns = now_ns();
    while now_ns() < tasks.times.end_ns() {
        let fetched = monoio::time::timeout(LOOK_EVERY, reader.handle.next_before_end()).await;
        let now = now_ns();
        match fetched {
            Ok(Ok(Some(fetched))) => {
                let bytes = fetched.records.iter().map(|one| {
                    one.key.as_ref().map_or(0, Vec::len) + one.value.as_ref().map_or(0, Vec::len)
                });
                let bytes = bytes.sum::<usize>() as u64;
                let mut recorder = recorder.borrow_mut();
                recorder.counted(now, fetched.records.len() as u64, bytes);
                recorder.took(asked_ns, now);
                asked_ns = now_ns();
            }
            Ok(Ok(None)) => {
                for partition in &reader.partitions {
                    let start = Start::At(OffsetSpec::Beginning);
                    reader.handle.assign(&reader.topic, *partition, start);
                }
                // What is waited for next is a look-up of offsets, too.
                asked_ns = now;
            }
            Ok(Err(error)) => {
                recorder.borrow_mut().failed(now, 1, &error.to_string());
                return;
            }
            Err(_) => {}
        }
    }
}
