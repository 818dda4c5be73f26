//! Whole requests through the shard: from the frame to the answer in the outbox.
//!
//! A produce is two turns: in the first the batch is checked and appended and its write issued, in
//! the second the write has ended and the answer leaves. A fetch of what was just produced is one.

use highwater_base::record_batch::CRC_COVERED_FROM;
use highwater_wire::fetch::FetchResponse;
use highwater_wire::header::decode_response_header;
use highwater_wire::produce::ProduceResponse;
use highwater_wire::{ApiKey, DecodeError};

use crate::inputs::{Batches, FETCH_VERSION, PRODUCE_VERSION, Session, fetch_frame, produce_frame};
use crate::node::{FILL_RECORDS, FILL_STEPS, Node};
use crate::{Meter, Piece};

/// A producer that sends its next batch when the one before is acknowledged.
pub struct ProduceTurn {
    node: Node,
    batches: Batches,
    records: u32,
    batch: Vec<u8>,
    frame: Vec<u8>,
    /// Where the last batch should be, and the next one.
    base_offset: i64,
    next_offset: i64,
}

impl ProduceTurn {
    /// With batches of so many records of 1 KiB.
    #[must_use]
    pub fn new(records: u32) -> ProduceTurn {
        let mut turn = ProduceTurn {
            node: Node::start(),
            batches: Batches::default(),
            records: FILL_RECORDS,
            batch: Vec::new(),
            frame: Vec::new(),
            base_offset: 0,
            next_offset: 0,
        };
        for _ in 0..FILL_STEPS {
            turn.prepare();
            turn.step(Meter::Idle);
        }
        turn.records = records;
        turn
    }
}

fn produced_at(answer: &[u8]) -> Result<i64, String> {
    let say = |error: DecodeError| error.to_string();
    let (_, at) = decode_response_header(ApiKey::Produce, PRODUCE_VERSION, answer).map_err(say)?;
    let answer = ProduceResponse::parse(PRODUCE_VERSION, &answer[at..]).map_err(say)?;
    let topic = answer.responses.iter().next().ok_or("no topic")?;
    let partition = topic.partition_responses.iter().next();
    let partition = partition.ok_or("no partition")?;
    match partition.error_code {
        0 => Ok(partition.base_offset),
        code => Err(format!("error code {code}: {:?}", partition.error_message)),
    }
}

impl Piece for ProduceTurn {
    fn prepare(&mut self) {
        self.node.pass();
        self.batch = self.batches.next_of(self.records);
        self.frame = produce_frame(&self.batch, 1);
        self.base_offset = self.next_offset;
        self.next_offset += i64::from(self.records);
    }

    fn step(&mut self, meter: Meter) {
        self.node.serve(std::mem::take(&mut self.frame), meter);
    }

    fn verify(&self) -> Result<(), String> {
        let base_offset = produced_at(self.node.answer())?;
        match base_offset == self.base_offset {
            true => Ok(()),
            false => Err(format!("batch at {base_offset}, not {}", self.base_offset)),
        }
    }
}

/// A consumer that follows the producer, in a session (KIP-227): each batch is fetched from memory
/// after it was acknowledged. Producing it is neither timed nor counted.
pub struct FetchTurn {
    produce: ProduceTurn,
    session: Session,
    frame: Vec<u8>,
}

impl FetchTurn {
    /// Of batches of so many records of 1 KiB.
    #[must_use]
    pub fn new(records: u32) -> FetchTurn {
        FetchTurn {
            produce: ProduceTurn::new(records),
            session: Session::default(),
            frame: Vec::new(),
        }
    }

    fn answer(&self) -> Result<FetchResponse<'_>, String> {
        let say = |error: DecodeError| error.to_string();
        let answer = self.produce.node.answer();
        let (_, at) = decode_response_header(ApiKey::Fetch, FETCH_VERSION, answer).map_err(say)?;
        FetchResponse::parse(FETCH_VERSION, &answer[at..]).map_err(say)
    }
}

impl Piece for FetchTurn {
    fn prepare(&mut self) {
        if self.session.epoch == 1 {
            // Empty before the first answer: then the next one says that there is no such session.
            self.session.id = self.answer().map_or(0, |answer| answer.session_id);
        }
        self.produce.prepare();
        self.produce.step(Meter::Idle);
        self.frame = fetch_frame(self.session, self.produce.base_offset, 1);
        // Epochs begin again at 1 behind the largest one.
        self.session.epoch = self.session.epoch.checked_add(1).unwrap_or(1);
    }

    fn step(&mut self, meter: Meter) {
        let frame = std::mem::take(&mut self.frame);
        self.produce.node.serve(frame, meter);
    }

    fn verify(&self) -> Result<(), String> {
        let answer = self.answer()?;
        if answer.error_code != 0 || answer.session_id == 0 {
            let (code, id) = (answer.error_code, answer.session_id);
            return Err(format!("error code {code}, session {id}"));
        }
        let topic = answer.responses.iter().next().ok_or("no topic")?;
        let partition = topic.partitions.iter().next().ok_or("no partition")?;
        let records = partition.records.unwrap_or_default();
        // In front of the checksum are the offset and the epoch, which are the broker's.
        let covered = |bytes: &[u8]| bytes.get(CRC_COVERED_FROM..).map(<[u8]>::to_vec);
        match partition.error_code {
            0 if covered(records) == covered(&self.produce.batch) => Ok(()),
            0 => Err(format!(
                "{} bytes that were not produced last",
                records.len()
            )),
            code => Err(format!("error code {code}")),
        }
    }
}
