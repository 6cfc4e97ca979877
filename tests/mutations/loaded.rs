//! What is loaded from the file, and what memory keeps of it.

use super::{Mutation, held::plain};

pub(crate) const MUTATIONS: &[Mutation] = &[
    plain(
        "room-in-order",
        "src/sync/in_order.rs",
        "|next: &mut usize| *next < self.number;",
        "|_: &mut usize| false;",
        "lib",
        &["sync::in_order::tests::pieces_pass_in_order_also_when_one_panics"],
    ),
    plain(
        "room-is-kept",
        "src/cache/room.rs",
        "        inner.reserved_bytes += bytes;\n        Some(Reservation { tier: self, bytes })",
        "        drop(inner);\n        Some(Reservation { tier: self, bytes: 0 })",
        "lib",
        &["cache::room::tests::room_is_kept_for_those_who_asked_first"],
    ),
    plain(
        "preload-evicts-nothing",
        "src/cache/room.rs",
        "if !inner.has_room(self, key, admission.weight.bytes()) {",
        "if false {",
        "lib",
        &["cache::room::tests::what_is_loaded_in_advance_takes_free_room_and_no_other"],
    ),
    plain(
        "preload-of-the-current-version",
        "src/cache/room.rs",
        "if inner.generation != generation || !generation.is_multiple_of(2) {",
        "if false {",
        "lib",
        &["cache::room::tests::what_was_loaded_before_a_change_or_during_one_is_not_admitted"],
    ),
];
