use super::*;
use crate::config::TopicConfig;

const ORIGIN: Origin = Origin {
    core: CoreId(0),
    ticket: 1,
};

fn controller() -> (Controller, Image) {
    controller_of(&[1])
}

fn controller_of(broker_ids: &[i32]) -> (Controller, Image) {
    let config = ControllerConfig {
        broker_ids: broker_ids.to_vec(),
        num_partitions: 4,
        offsets_topic_partitions: 50,
        cores: 2,
        topics_max: 100,
        partitions_max: 1000,
    };
    (
        Controller::new(config, 42),
        Image::new(1, TopicConfig::default()),
    )
}

fn new_topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_string(),
        partitions,
        replication_factor: -1,
        ..Default::default()
    }
}

/// Runs a change to its end and returns the outcome.
fn run(controller: &mut Controller, image: &mut Image, change: Change) -> ChangeOutcome {
    assert!(controller.submit(ORIGIN, change).is_none());
    match controller.step(image) {
        Step::Answer(origin, outcome) => {
            assert_eq!(origin, ORIGIN);
            outcome
        }
        Step::Log(records) => {
            for record in &records {
                image.apply(record);
            }
            assert!(
                controller.applied().is_none(),
                "one core of two has applied"
            );
            controller.applied().expect("both cores have").1
        }
        Step::Idle => panic!("a queued change is work"),
    }
}

fn create(topics: Vec<NewTopic>) -> Change {
    Change::CreateTopics {
        topics,
        validate_only: false,
    }
}

fn code(result: &Result<Changed, ChangeError>) -> ErrorCode {
    result
        .as_ref()
        .map_or_else(|error| error.code, |_| ErrorCode::None)
}

#[test]
fn topics_are_created_once_and_entries_fail_apart() {
    let (mut controller, mut image) = controller();
    let outcome = run(
        &mut controller,
        &mut image,
        create(vec![
            new_topic("a", -1),
            new_topic("b/c", 1),
            new_topic("d", 0),
        ]),
    );
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidPartitions
        ]
    );
    assert_eq!(image.topic_by_name("a").expect("created").partitions, 4);
    let again = run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    assert_eq!(code(&again[0]), ErrorCode::TopicAlreadyExists);
}

#[test]
fn the_name_of_the_metadata_log_is_refused_as_kafka_refuses_it() {
    let (mut controller, mut image) = controller();
    let topics = vec![new_topic(METADATA_TOPIC, 1), new_topic("..", 1)];
    let refused = run(&mut controller, &mut image, create(topics));
    assert_eq!(code(&refused[0]), ErrorCode::InvalidRequest);
    assert_eq!(code(&refused[1]), ErrorCode::InvalidTopicException);
}

#[test]
fn the_topic_of_offsets_is_created_once_and_is_nobodys_to_change() {
    let (mut controller, mut image) = controller();
    let refused = run(
        &mut controller,
        &mut image,
        create(vec![new_topic(OFFSETS_TOPIC, 1)]),
    );
    assert_eq!(code(&refused[0]), ErrorCode::InvalidRequest);
    for _ in 0..2 {
        let outcome = run(&mut controller, &mut image, Change::CreateOffsetsTopic);
        assert_eq!(outcome, [Ok(Changed::Done)]);
        let topic = image.topic_by_name(OFFSETS_TOPIC).expect("created");
        assert_eq!((topic.partitions, topic.config.retention_ms), (50, -1));
        assert_eq!(image.topic_count(), 1);
    }
    let name = OFFSETS_TOPIC.to_string();
    let id = image.topic_by_name(OFFSETS_TOPIC).expect("created").id;
    let changes = [
        Change::DeleteTopics {
            topics: vec![TopicRef::Name(name.clone())],
        },
        Change::DeleteTopics {
            topics: vec![TopicRef::Id(id)],
        },
        Change::CreatePartitions {
            topics: vec![(name.clone(), 100, None)],
            validate_only: false,
        },
        Change::Configure {
            changes: vec![ConfigChange {
                target: ConfigTarget::Topic(name),
                operations: Vec::new(),
                replace: true,
            }],
            validate_only: false,
        },
    ];
    for change in changes {
        let outcome = run(&mut controller, &mut image, change);
        assert_eq!(code(&outcome[0]), ErrorCode::InvalidRequest);
    }
    assert_eq!(
        image.topic_by_name(OFFSETS_TOPIC).expect("kept").partitions,
        50
    );
}

#[test]
fn validation_alone_changes_nothing() {
    let (mut controller, mut image) = controller();
    let change = Change::CreateTopics {
        topics: vec![new_topic("a", 2)],
        validate_only: true,
    };
    let outcome = run(&mut controller, &mut image, change);
    assert_eq!(code(&outcome[0]), ErrorCode::None);
    assert_eq!(image.topic_count(), 0);
}

#[test]
fn a_recreated_topic_has_a_new_id() {
    let (mut controller, mut image) = controller();
    run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    let first = image.topic_by_name("a").expect("created").id;
    let delete = Change::DeleteTopics {
        topics: vec![TopicRef::Id(first)],
    };
    run(&mut controller, &mut image, delete);
    run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    assert_ne!(image.topic_by_name("a").expect("created").id, first);
}

#[test]
fn partitions_only_grow() {
    let (mut controller, mut image) = controller();
    run(&mut controller, &mut image, create(vec![new_topic("a", 3)]));
    let grow = |total| Change::CreatePartitions {
        topics: vec![("a".to_string(), total, None)],
        validate_only: false,
    };
    assert_eq!(
        code(&run(&mut controller, &mut image, grow(3))[0]),
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        code(&run(&mut controller, &mut image, grow(5))[0]),
        ErrorCode::None
    );
    assert_eq!(image.topic_by_name("a").expect("exists").partitions, 5);
}

#[test]
fn configuration_steps_build_on_what_is_in_force() {
    let (mut controller, mut image) = controller();
    run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    let set = |name: &str, operation, value: &str, replace| Change::Configure {
        changes: vec![ConfigChange {
            target: ConfigTarget::Topic("a".to_string()),
            operations: vec![(name.to_string(), operation, Some(value.to_string()))],
            replace,
        }],
        validate_only: false,
    };
    run(
        &mut controller,
        &mut image,
        set("retention.ms", ConfigOperation::Set, "5", false),
    );
    run(
        &mut controller,
        &mut image,
        set("segment.ms", ConfigOperation::Set, "7", false),
    );
    let topic = image.topic_by_name("a").expect("exists");
    assert_eq!((topic.config.retention_ms, topic.config.segment_ms), (5, 7));
    let outcome = run(
        &mut controller,
        &mut image,
        set("cleanup.policy", ConfigOperation::Append, "compact", false),
    );
    assert_eq!(code(&outcome[0]), ErrorCode::InvalidConfig);
    run(
        &mut controller,
        &mut image,
        set("segment.ms", ConfigOperation::Set, "9", true),
    );
    let topic = image.topic_by_name("a").expect("exists");
    assert_eq!(
        (topic.config.retention_ms, topic.config.segment_ms),
        (604_800_000, 9)
    );
}

#[test]
fn a_failed_log_write_is_told_and_leaves_nothing() {
    let (mut controller, image) = controller();
    controller.submit(ORIGIN, create(vec![new_topic("a", 1)]));
    assert!(matches!(controller.step(&image), Step::Log(_)));
    let (_, outcome) = controller
        .failed(ErrorCode::KafkaStorageError, "disk full")
        .expect("told");
    assert_eq!(code(&outcome[0]), ErrorCode::KafkaStorageError);
    assert!(matches!(controller.step(&image), Step::Idle));
}

#[test]
fn a_name_given_twice_is_refused_in_every_place() {
    let (mut controller, mut image) = controller();
    let topics = vec![
        new_topic("a", 1),
        new_topic("twice", 1),
        new_topic("twice", 2),
    ];
    let outcome = run(&mut controller, &mut image, create(topics));
    let refused = ErrorCode::InvalidRequest;
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(codes, [ErrorCode::None, refused, refused]);
    let grow = Change::CreatePartitions {
        topics: vec![("a".to_string(), 2, None), ("a".to_string(), 3, None)],
        validate_only: false,
    };
    let outcome = run(&mut controller, &mut image, grow);
    assert_eq!(
        outcome.iter().map(code).collect::<Vec<_>>(),
        [refused, refused]
    );
    let id = image.topic_by_name("a").expect("created").id;
    let delete = Change::DeleteTopics {
        topics: vec![TopicRef::Name("a".to_string()), TopicRef::Id(id)],
    };
    let outcome = run(&mut controller, &mut image, delete);
    assert_eq!(
        outcome.iter().map(code).collect::<Vec<_>>(),
        [refused, refused]
    );
    assert_eq!(image.topic_by_name("a").expect("still there").partitions, 1);
}

#[test]
fn a_resource_altered_twice_in_one_request_keeps_its_configuration() {
    let (mut controller, mut image) = controller();
    run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    let set = |operations: &[(&str, &str)]| ConfigChange {
        target: ConfigTarget::Topic("a".to_string()),
        operations: operations
            .iter()
            .map(|(name, value)| {
                let value = Some(value.to_string());
                (name.to_string(), ConfigOperation::Set, value)
            })
            .collect(),
        replace: false,
    };
    let twice = Change::Configure {
        changes: vec![set(&[("retention.ms", "5")]), set(&[("segment.ms", "7")])],
        validate_only: false,
    };
    let outcome = run(&mut controller, &mut image, twice);
    let refused = ErrorCode::InvalidRequest;
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(codes, [refused, refused]);
    let key_twice = Change::Configure {
        changes: vec![set(&[("retention.ms", "5"), ("retention.ms", "6")])],
        validate_only: false,
    };
    let outcome = run(&mut controller, &mut image, key_twice);
    assert_eq!(code(&outcome[0]), refused);
    assert!(
        image
            .topic_by_name("a")
            .expect("exists")
            .overrides
            .is_empty()
    );
}

#[test]
fn the_partitions_of_one_request_add_up_to_the_limit() {
    let (mut controller, mut image) = controller();
    let topics = vec![new_topic("a", 1), new_topic("b", 1)];
    run(&mut controller, &mut image, create(topics));
    let grow = Change::CreatePartitions {
        topics: vec![("a".to_string(), 600, None), ("b".to_string(), 600, None)],
        validate_only: false,
    };
    let outcome = run(&mut controller, &mut image, grow);
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::PolicyViolation]);
    // What is refused takes no room from what follows it.
    let topics = vec![
        new_topic("c", 900),
        NewTopic {
            configs: vec![("no.such.key".to_string(), Some("1".to_string()))],
            ..new_topic("d", 300)
        },
        new_topic("e", 300),
    ];
    let outcome = run(&mut controller, &mut image, create(topics));
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::PolicyViolation,
            ErrorCode::InvalidConfig,
            ErrorCode::None
        ]
    );
    assert_eq!(image.partition_count(), 901);
}

#[test]
fn a_request_with_many_names_is_decided_in_little_time() {
    // Comparing every name with every other would not come to an end here.
    const NAMES: usize = 200_000;
    let (mut controller, mut image) = controller();
    let names = (0..NAMES).map(|at| new_topic(&format!("{at:0200}"), 0));
    let outcome = run(&mut controller, &mut image, create(names.collect()));
    assert_eq!(outcome.len(), NAMES);
    let topics = (0..NAMES).map(|at| (format!("{at:0200}"), 0, None));
    let grow = Change::CreatePartitions {
        topics: topics.collect(),
        validate_only: false,
    };
    assert_eq!(run(&mut controller, &mut image, grow).len(), NAMES);
}

#[test]
fn direct_mode_takes_assignments_to_the_brokers_it_shows() {
    let (mut controller, mut image) = controller_of(&[1000, 1001]);
    let assigned = |name: &str, brokers: &[i32]| NewTopic {
        assignments: (0..).zip(brokers).map(|(at, id)| (at, vec![*id])).collect(),
        ..new_topic(name, -1)
    };
    let topics = vec![
        assigned("on-1", &[1001]),
        assigned("also-on-1", &[1001, 1000]),
        assigned("on-0", &[1000]),
        assigned("both-on-1", &[1001, 1001]),
        assigned("nowhere", &[1]),
    ];
    let outcome = run(&mut controller, &mut image, create(topics));
    let codes: Vec<ErrorCode> = outcome.iter().map(code).collect();
    assert_eq!(codes[..4], [ErrorCode::None; 4]);
    assert_eq!(codes[4], ErrorCode::InvalidReplicaAssignment);
    let first_core = |name: &str| {
        let topic = image.topic_by_name(name).expect("created");
        topic.core_of(0, 2)
    };
    assert_eq!(first_core("on-1"), CoreId(1));
    assert_eq!(first_core("also-on-1"), CoreId(1));
    assert_eq!(first_core("on-0"), CoreId(0));
    let grow = Change::CreatePartitions {
        topics: vec![("on-1".to_string(), 2, Some(vec![vec![1000]]))],
        validate_only: false,
    };
    let outcome = run(&mut controller, &mut image, grow);
    assert_eq!(code(&outcome[0]), ErrorCode::None);
}

#[test]
fn a_refusal_that_quotes_a_long_name_fits_its_answer() {
    let (mut controller, mut image) = controller();
    let name = "x".repeat(32_767);
    let outcome = run(
        &mut controller,
        &mut image,
        create(vec![new_topic(&name, 1)]),
    );
    let error = outcome[0].as_ref().expect_err("too long");
    assert_eq!(error.code, ErrorCode::InvalidTopicException);
    assert!(error.message.len() <= 1024, "{}", error.message.len());
}

#[test]
fn a_list_cannot_grow_beyond_what_describing_it_can_say() {
    let (mut controller, mut image) = controller();
    run(&mut controller, &mut image, create(vec![new_topic("a", 1)]));
    let key = "leader.replication.throttled.replicas";
    let mut append = |value: String| {
        let change = Change::Configure {
            changes: vec![ConfigChange {
                target: ConfigTarget::Topic("a".to_string()),
                operations: vec![(key.to_string(), ConfigOperation::Append, Some(value))],
                replace: false,
            }],
            validate_only: false,
        };
        code(&run(&mut controller, &mut image, change)[0])
    };
    assert_eq!(append("x".repeat(20_000)), ErrorCode::None);
    assert_eq!(append("y".repeat(20_000)), ErrorCode::InvalidConfig);
    assert_eq!(append("x".repeat(20_000)), ErrorCode::None);
}

#[test]
fn null_values_are_refused_as_kafka_refuses_them() {
    let (mut controller, mut image) = controller();
    let null = NewTopic {
        configs: vec![("retention.ms".to_string(), None)],
        ..new_topic("b", 1)
    };
    let topics = vec![new_topic("a", 1), null];
    let outcome = run(&mut controller, &mut image, create(topics));
    assert_eq!(code(&outcome[1]), ErrorCode::InvalidConfig);
    for (operation, expected) in [
        (ConfigOperation::Set, ErrorCode::InvalidRequest),
        (ConfigOperation::Delete, ErrorCode::None),
    ] {
        let change = Change::Configure {
            changes: vec![ConfigChange {
                target: ConfigTarget::Topic("a".to_string()),
                operations: vec![("retention.ms".to_string(), operation, None)],
                replace: false,
            }],
            validate_only: false,
        };
        let outcome = run(&mut controller, &mut image, change);
        assert_eq!(code(&outcome[0]), expected);
    }
}
