//! The delivery contract as a suite that every transport runs, sentence by sentence.
//!
//! A sentence of the contract is a function here that proves it by its effect. It sees a [`Bed`]: a bus that
//! nobody else uses, and how to join it as one more host. [`conformance!`](crate::conformance) makes a test of
//! each for one transport; `tests/tests/conformance_local.rs` and `conformance_nats.rs` differ in their
//! [`Ground`] alone. What a transport does not declare it is not held to: those sentences appear in its report
//! as `not_declared::…`, and such a test fails once the transport does declare the ability.
//!
//! A transport within the process runs with paused time, which moves when nothing else can: a wait that proves
//! that nothing comes is exact there and takes no time. Elsewhere it is a short while.

pub mod batches;
mod bed;
pub mod closing;
pub mod delivery;
pub mod drops;
pub mod durable;
pub mod effects;
pub mod handling;
pub mod hosts;
pub mod load;
pub mod moving;
pub mod order;
pub mod pressure;
pub mod requests;
pub mod retries;
pub mod sides;
pub mod state;
pub mod subscribing;

use std::collections::BTreeSet;
use std::sync::Arc;

use echo_bus::Transport;
use echo_sdk::BoxFuture;
use tokio::runtime::Builder;

pub use bed::{Bed, keyed, message, now, numbers, take, take_all, topic};

/// How one more host joins a bus.
#[derive(Debug, Clone, Default)]
pub struct Joining {
    /// The largest message that the bus is to take, in bytes; as it likes without one. The first host says it.
    pub max_payload: Option<usize>,
}

/// Topics under this are durable wherever a transport can do that.
pub const DURABLE: &str = "durable.>";

/// What is put under the suite: a way to make a bus, and to join it.
pub trait Ground: Send + Sync + 'static {
    /// Brings up a bus that nobody else uses.
    fn new() -> Self
    where
        Self: Sized;
    /// The transport's name.
    fn name(&self) -> &'static str;
    /// Whether all of it lives in this process, so that time can be paused.
    fn is_in_process(&self) -> bool;
    /// Whether several hosts can join it.
    fn connects_hosts(&self) -> bool;
    /// Joins it as one more host. Where the bus outlives its hosts, what it promised to keep is kept.
    fn join(&self, joining: Joining) -> BoxFuture<'_, Arc<dyn Transport>>;
}

/// Runs a sentence with all of it on one thread.
pub fn run<G: Ground>(sentence: impl AsyncFnOnce(Bed)) {
    let ground = G::new();
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(ground.is_in_process());
    runtime.build().unwrap().block_on(async { sentence(Bed::new(Box::new(ground)).await).await });
}

/// Runs a sentence on several threads, in real time.
pub fn run_parallel<G: Ground>(sentence: impl AsyncFnOnce(Bed)) {
    let ground = G::new();
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async { sentence(Bed::new(Box::new(ground)).await).await });
}

/// What a transport declares, by the names that [`conformance!`](crate::conformance) knows.
fn declared(bed: &Bed) -> BTreeSet<&'static str> {
    let features = bed.bus.features();
    let named = [
        ("pressure", features.back_pressure),
        ("batches", features.atomic_batches),
        ("durable", features.durable),
        ("hosts", bed.connects_hosts()),
    ];
    named.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// Holds what a transport declares to what its conformance tests say of it.
pub fn declares<G: Ground>(expected: &[&str]) {
    run::<G>(async |bed: Bed| {
        assert_eq!(declared(&bed), expected.iter().copied().collect(), "{} declares", bed.name());
    });
}

/// Reports a sentence that a transport does not declare; fails when it does.
pub fn lacks<G: Ground>(ability: &str) {
    run::<G>(async |bed: Bed| {
        let name = bed.name();
        assert!(!declared(&bed).contains(ability), "{name} declares `{ability}`: hold it to it");
    });
}

/// Makes a test of each sentence for a transport.
///
/// `declares` are the abilities that it has, `lacks` those that it has not: `pressure` (a full slot holds its
/// publishers back), `batches` (several messages become visible together or not at all), `durable` (topics outlive
/// the host), `hosts` (several hosts share a bus).
#[macro_export]
macro_rules! conformance {
    ($ground:ty, declares: [$($has:ident),*], lacks: [$($lacks:ident),*]) => {
        $crate::sentences!(all, each_holds, $ground);
        $($crate::sentences!($has, each_holds, $ground);)*
        /// What the transport does not promise.
        mod not_declared {
            #[allow(unused_imports, reason = "a transport may lack nothing")]
            use super::*;
            $($crate::sentences!($lacks, each_is_lacking, $ground);)*
        }
        #[test]
        fn what_is_declared_is_what_is_tested() {
            $crate::conformance::declares::<$ground>(&[$(stringify!($has)),*]);
        }
    };
}

/// The list of sentences: those of all transports, and those of each ability.
#[doc(hidden)]
#[macro_export]
macro_rules! sentences {
    (all, $then:ident, $ground:ty) => {
        $crate::$then! { $ground, run;
            delivery: each_matching_slot_gets_each_message,
                the_receivers_of_a_slot_share_its_messages,
                the_receivers_of_a_slot_share_what_was_published_together,
                a_slot_gets_a_message_once_however_many_of_its_patterns_match,
                a_message_arrives_as_it_was_sent,
                a_receiver_that_is_dropped_gives_back_what_it_had_one_attempt_older,
                a_slots_name_is_taken_until_the_slot_is_closed,
                too_large_a_message_is_refused_with_both_sizes,
                a_slot_is_behind_by_what_it_has_not_acknowledged;
            retries: again_is_no_earlier_than_its_delay_and_counts_the_attempts,
                without_a_key_nobody_waits_behind_a_retry,
                what_is_published_again_starts_over;
            order: one_receiver_gets_the_order_of_publication,
                what_is_published_together_keeps_its_order,
                a_key_is_in_one_hand_at_a_time,
                a_key_that_waits_for_its_retry_holds_back_itself_and_no_other,
                a_key_keeps_its_order_when_a_receiver_is_dropped,
                a_subscription_keeps_the_order_of_publication_whatever_the_keys;
            sides: each_side_is_handed_its_own,
                what_waits_goes_over_with_the_share,
                a_key_goes_over_between_two_messages,
                both_sides_pause_and_close;
            subscribing: other_patterns_take_effect_and_what_is_held_stays,
                nothing_is_lost_or_doubled_while_patterns_change;
            drops: the_oldest_is_dropped_and_counted,
                the_newest_is_dropped_and_counted,
                a_slot_that_drops_holds_nobody_back,
                what_is_published_past_the_bound_neither_waits_nor_is_lost;
            effects: a_commit_publishes_and_settles,
                a_commit_that_fails_publishes_nothing_and_leaves_the_message_in_hand,
                bury_goes_past_all_bounds_and_settles;
            state: what_is_set_is_committed_with_the_acknowledgement,
                what_is_set_is_dropped_on_any_other_answer,
                each_key_of_each_slot_has_a_state_of_its_own,
                who_was_quicker_wins_and_the_other_runs_again,
                a_commit_on_what_is_not_the_latest_does_nothing,
                each_key_that_has_a_document_is_listed_once,
                a_document_is_put_without_a_message_unless_it_changed,
                a_state_that_is_too_large_is_refused;
            requests: a_request_gets_the_first_answer,
                a_request_that_nobody_hears_says_so_at_once,
                a_request_that_nobody_answers_times_out;
            closing: after_close_nobody_publishes_and_nothing_more_is_opened,
                receivers_and_subscriptions_end_when_they_have_nothing_left,
                a_closed_slot_takes_nothing_more_and_shows_what_is_left,
                a_paused_slot_keeps_its_messages_until_it_is_resumed,
                idle_resolves_once_a_slot_holds_nothing,
                a_subscription_that_is_dropped_hears_nothing_more;
            handling: acknowledged_ends_it_and_its_effects_come_with_it,
                retry_later_delivers_again_no_earlier_until_it_is_dead,
                failed_is_dead_at_once_with_its_reason_and_without_effects,
                forward_publishes_and_acknowledges_and_a_loop_ends_after_sixteen_hops,
                an_error_a_panic_and_a_passed_deadline_are_failed_attempts,
                the_workers_of_a_slot_share_its_messages,
                one_worker_handles_in_the_order_of_publication,
                a_key_keeps_its_order_through_retries_however_many_workers,
                drops_are_counted_where_the_policy_drops,
                a_request_is_answered_with_the_acknowledgement,
                shutdown_drains_and_says_what_it_could_not_finish;
        }
        $crate::$then! { $ground, run_parallel;
            load: nothing_is_lost_between_publishers_that_come_and_receivers_that_idle,
                keys_keep_their_order_with_many_receivers_retries_and_dropped_hands,
                a_subscription_has_a_message_before_what_a_handler_makes_of_it;
            moving: each_message_is_handled_once_while_the_share_changes;
        }
    };
    (pressure, $then:ident, $ground:ty) => {
        $crate::$then! { $ground, run;
            pressure: publish_waits_for_room,
                what_is_published_together_waits_for_room,
                what_is_in_hand_and_what_waits_for_its_retry_take_room,
                try_publish_says_full_and_delivers_to_nobody,
                a_publish_that_is_dropped_delivers_to_nobody_and_keeps_no_room,
                a_commit_that_is_dropped_leaves_the_message_in_hand,
                a_full_queue_holds_publishers_back,
                the_bound_holds_again_after_what_went_past_it;
        }
    };
    (batches, $then:ident, $ground:ty) => {
        $crate::$then! { $ground, run;
            batches: a_batch_waits_for_all_of_its_room_and_nobody_sees_a_part,
                a_batch_that_is_dropped_delivers_to_nobody,
                a_batch_larger_than_the_queue_waits_for_all_of_it;
        }
    };
    (durable, $then:ident, $ground:ty) => {
        $crate::$then! { $ground, run;
            durable: what_was_published_outlives_the_host,
                what_was_settled_does_not_come_back,
                what_was_in_hand_comes_back,
                a_second_message_of_an_id_is_dropped,
                a_retry_outlives_the_host,
                how_far_a_slot_is_behind_outlives_the_host,
                state_outlives_the_host_and_counts_each_message_once,
                a_document_that_was_put_outlives_the_host,
                what_is_kept_of_a_topic_that_is_left_stays,
                nothing_that_lasts_is_lost_or_doubled_while_patterns_change;
        }
    };
    (hosts, $then:ident, $ground:ty) => {
        $crate::$then! { $ground, run;
            hosts: two_hosts_share_a_slot,
                every_host_hears_what_any_publishes,
                a_request_is_answered_from_another_host,
                a_host_that_goes_leaves_its_slot_to_the_others,
                a_key_keeps_its_order_across_hosts;
        }
    };
}

/// Makes a test of each of these sentences.
#[doc(hidden)]
#[macro_export]
macro_rules! each_holds {
    ($ground:ty, $run:ident; $($module:ident: $($sentence:ident),+;)+) => {
        $(mod $module {
            use super::*;
            $(#[test]
            fn $sentence() {
                $crate::conformance::$run::<$ground>($crate::conformance::$module::$sentence);
            })+
        })+
    };
}

/// Reports each of these sentences as not declared.
#[doc(hidden)]
#[macro_export]
macro_rules! each_is_lacking {
    ($ground:ty, $run:ident; $($module:ident: $($sentence:ident),+;)+) => {
        $(mod $module {
            use super::*;
            $(#[test]
            fn $sentence() {
                $crate::conformance::lacks::<$ground>(stringify!($module));
            })+
        })+
    };
}
