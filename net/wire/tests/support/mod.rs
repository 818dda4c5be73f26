//! Random messages of every API and version, encoded straight from the schema texts by an encoder
//! that shares nothing with the generated one, and a table of the generated types.

// Each test file uses its own part of this.
#![allow(dead_code, unused_macros, unused_imports)]

#[path = "../../codegen/schema.rs"]
mod schema;

use highwater_base::prng::Prng;
use schema::{Api, Field, Type, Versions};

fn covers(versions: Versions, version: i16) -> bool {
    (versions.low..=versions.high).contains(&version)
}

/// One message: which, and its bytes.
pub struct Sample {
    pub name: String,
    pub version: i16,
    pub bytes: Vec<u8>,
}

struct Encoder<'a> {
    api: &'a Api,
    version: i16,
    flexible: bool,
    prng: &'a mut Prng,
}

impl Encoder<'_> {
    fn unsigned_varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    /// A length prefix, of two or four bytes where lengths are not compact; `None` is null.
    fn length(&self, out: &mut Vec<u8>, length: Option<usize>, short: bool) {
        match (self.flexible, short) {
            (true, _) => Self::unsigned_varint(out, length.map_or(0, |length| length as u64 + 1)),
            (false, true) => {
                let length = length.map_or(-1, |length| length as i16);
                out.extend_from_slice(&length.to_be_bytes());
            }
            (false, false) => {
                let length = length.map_or(-1, |length| length as i32);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
    }

    fn random_bytes(&mut self, out: &mut Vec<u8>, count: usize) {
        let start = out.len();
        out.resize(start + count, 0);
        self.prng.fill(&mut out[start..]);
    }

    fn value(&mut self, out: &mut Vec<u8>, kind: &Type, null: bool, nullable: bool) {
        match kind {
            Type::Bool => out.push(self.prng.below(2) as u8),
            Type::Int8 => self.random_bytes(out, 1),
            Type::Int16 | Type::Uint16 => self.random_bytes(out, 2),
            Type::Int32 => self.random_bytes(out, 4),
            Type::Int64 => self.random_bytes(out, 8),
            Type::Uuid => self.random_bytes(out, 16),
            Type::String => {
                let text: String = (0..self.prng.below(6)).map(|_| 'é').collect();
                let text = format!("{text}{:x}", self.prng.next_u64());
                self.length(out, (!null).then_some(text.len()), true);
                if !null {
                    out.extend_from_slice(text.as_bytes());
                }
            }
            Type::Bytes => {
                let count = self.prng.below(200) as usize;
                self.length(out, (!null).then_some(count), false);
                if !null {
                    self.random_bytes(out, count);
                }
            }
            Type::Array(element) => {
                let count = self.prng.below(4) as usize;
                self.length(out, (!null).then_some(count), false);
                if !null {
                    for _ in 0..count {
                        self.value(out, element, false, false);
                    }
                }
            }
            Type::Struct(name) => {
                if nullable {
                    out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.message(out, name);
                }
            }
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, field: &Field) {
        let nullable = field
            .nullable
            .is_some_and(|versions| covers(versions, self.version));
        let null = nullable && self.prng.chance(1, 4);
        self.value(out, &field.kind, null, nullable);
    }

    fn message(&mut self, out: &mut Vec<u8>, name: &str) {
        let api = self.api;
        let found = api.structs.iter().find(|one| one.name == name);
        let fields = &found.expect("the schema names its structs").fields;
        let version = self.version;
        let tag_of = |field: &Field| {
            let tag = field.tag.filter(|(_, versions)| covers(*versions, version));
            tag.map(|(number, _)| number)
        };
        let present = || {
            fields
                .iter()
                .filter(|field| covers(field.versions, version))
        };
        for field in present().filter(|field| tag_of(field).is_none()) {
            self.field(out, field);
        }
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<_> = present()
            .filter_map(|field| Some((tag_of(field)?, field)))
            .filter(|_| self.prng.chance(3, 4))
            .collect();
        tagged.sort_by_key(|(number, _)| *number);
        // A field at its default is left out; those are the ones of at most one byte.
        let mut written = Vec::new();
        for (number, field) in tagged {
            let mut bytes = Vec::new();
            self.field(&mut bytes, field);
            if bytes.len() > 1 {
                written.push((number, bytes));
            }
        }
        Self::unsigned_varint(out, written.len() as u64);
        for (number, bytes) in written {
            Self::unsigned_varint(out, u64::from(number));
            Self::unsigned_varint(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Every schema of the crate.
fn apis() -> Vec<Api> {
    // The fuzz targets, which use this as well, live elsewhere.
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [package.join("schema"), package.join("../net/wire/schema")];
    let directory = places.iter().find(|place| place.is_dir());
    let texts = std::fs::read_dir(directory.expect("the schemas are there")).expect("readable");
    let mut apis: Vec<Api> = texts
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| std::fs::read_to_string(path).expect("readable"))
        .map(|text| schema::parse(&text).expect("a schema"))
        .collect();
    apis.sort_by_key(|api| api.key);
    apis
}

/// `count` random messages of each direction and version of every API.
pub fn samples(count: u64, seed: u64) -> Vec<Sample> {
    let mut prng = Prng::new(seed);
    let mut samples = Vec::new();
    for api in apis() {
        for version in api.versions.low..=api.versions.high {
            for name in ["Request", "Response"].map(|side| format!("{}{side}", api.name)) {
                for _ in 0..count {
                    let mut bytes = Vec::new();
                    let mut encoder = Encoder {
                        api: &api,
                        version,
                        flexible: version >= api.flexible_from,
                        prng: &mut prng,
                    };
                    encoder.message(&mut bytes, &name);
                    let name = name.clone();
                    samples.push(Sample {
                        name,
                        version,
                        bytes,
                    });
                }
            }
        }
    }
    samples
}

/// Calls a macro with every generated module and its request and response types.
macro_rules! for_each_api {
    ($call:ident) => {
        $call! {
            alter_configs AlterConfigsRequest AlterConfigsResponse,
            api_versions ApiVersionsRequest ApiVersionsResponse,
            create_partitions CreatePartitionsRequest CreatePartitionsResponse,
            create_topics CreateTopicsRequest CreateTopicsResponse,
            delete_records DeleteRecordsRequest DeleteRecordsResponse,
            delete_topics DeleteTopicsRequest DeleteTopicsResponse,
            describe_cluster DescribeClusterRequest DescribeClusterResponse,
            describe_configs DescribeConfigsRequest DescribeConfigsResponse,
            describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse,
            describe_topic_partitions
                DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
            fetch FetchRequest FetchResponse,
            find_coordinator FindCoordinatorRequest FindCoordinatorResponse,
            incremental_alter_configs
                IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            init_producer_id InitProducerIdRequest InitProducerIdResponse,
            list_config_resources
                ListConfigResourcesRequest ListConfigResourcesResponse,
            list_offsets ListOffsetsRequest ListOffsetsResponse,
            metadata MetadataRequest MetadataResponse,
            offset_for_leader_epoch
                OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            produce ProduceRequest ProduceResponse,
            delete_groups DeleteGroupsRequest DeleteGroupsResponse,
            describe_groups DescribeGroupsRequest DescribeGroupsResponse,
            heartbeat HeartbeatRequest HeartbeatResponse,
            join_group JoinGroupRequest JoinGroupResponse,
            leave_group LeaveGroupRequest LeaveGroupResponse,
            list_groups ListGroupsRequest ListGroupsResponse,
            offset_commit OffsetCommitRequest OffsetCommitResponse,
            offset_delete OffsetDeleteRequest OffsetDeleteResponse,
            offset_fetch OffsetFetchRequest OffsetFetchResponse,
            sync_group SyncGroupRequest SyncGroupResponse,
        }
    };
}
pub(crate) use for_each_api;
