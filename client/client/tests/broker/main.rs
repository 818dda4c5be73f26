//! The client against a real broker, on every runtime: what a program sees of topics, records, groups
//! and errors.
//!
//! It needs the address of one in `HIGHWATER_TEST_BOOTSTRAP_SERVER` and is skipped without;
//! `scripts/interop/rust-client` starts brokers and runs it. Every behaviour makes topics and
//! groups of its own, so they run side by side. Wherever brokers may differ, the test says so.

mod admin;
mod consume;
mod errors;
mod group;
mod produce;
mod suite;
#[cfg(feature = "tokio")]
mod threaded;

/// Makes a test of each behaviour, for each runtime.
macro_rules! on_every_runtime {
    ($($module:ident: $($behaviour:ident),* $(,)?;)*) => {
        #[cfg(feature = "monoio")]
        mod monoio {
            $(mod $module { $(
                #[test]
                fn $behaviour() {
                    let run = crate::$module::$behaviour;
                    crate::suite::run::<highwater_client::driver::on_monoio::Monoio>(run);
                }
            )* })*
        }
        #[cfg(feature = "tokio")]
        mod tokio {
            $(mod $module { $(
                #[test]
                fn $behaviour() {
                    let run = crate::$module::$behaviour;
                    crate::suite::run::<highwater_client::driver::on_tokio::Tokio>(run);
                }
            )* })*
        }
    };
}

on_every_runtime! {
    admin:
        a_topic_is_created_described_grown_and_deleted,
        a_topics_configuration_is_read_and_changed;
    produce:
        records_of_every_codec_come_back_whole,
        every_kind_of_acknowledgement_delivers,
        an_idempotent_producer_keeps_order_with_five_in_flight,
        a_record_too_large_is_refused_where_the_limit_is,
        a_record_of_a_megabyte_is_taken_where_the_topic_allows_it,
        every_partitioner_agrees_with_other_clients,
        deliveries_come_to_whoever_waits;
    consume:
        a_consumer_starts_where_it_is_told,
        a_position_that_is_gone_fails_or_moves,
        a_consumer_gets_what_comes_later;
    group:
        two_members_share_and_the_one_that_stays_takes_over,
        a_member_goes_on_where_the_group_has_committed,
        groups_are_listed_described_and_deleted;
    errors:
        a_topic_that_does_not_exist_is_named,
        a_partition_that_does_not_exist_is_named,
        a_broker_that_cannot_be_reached_is_named,
        a_group_that_does_not_exist_is_named;
}
