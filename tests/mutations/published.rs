//! What a publish writes, and what it leaves for later.

use super::{Mutation, held::plain};

pub(crate) const MUTATIONS: &[Mutation] = &[
    plain(
        "whole-pages-where-redb-copies",
        "src/engine/backend/skim.rs",
        "[LEAF, _, 1, 0, ..] => {",
        "[LEAF, ..] => {",
        "lib",
        &[
            "engine::backend::skim::tests::only_a_large_leaf_with_one_value_is_read_in_part_and_only_while_that_is_asked_for",
        ],
    ),
    plain(
        "whole-pages-where-redb-keeps",
        "src/engine/backend/skim.rs",
        "out.len() <= kept_bytes.max(FRONT_BYTES)",
        "out.len() <= FRONT_BYTES",
        "lib",
        &[
            "engine::backend::skim::tests::only_a_large_leaf_with_one_value_is_read_in_part_and_only_while_that_is_asked_for",
        ],
    ),
    plain(
        "a-last-row-of-the-archives",
        "src/engine/sealed.rs",
        "ArchiveTable::of(id) == ArchiveTable::Large && !self.has_last_archive()?",
        "false",
        "api",
        &["publishing::a_publish_reads_no_archive_and_a_removal_the_front_of_it"],
    ),
    plain(
        "left-work-is-in-the-file",
        "src/models/retention.rs",
        "            superseded::write(batch, key, &left)?;\n            return",
        "            return",
        "api",
        &["maintenance::what_is_left_survives_a_restart_and_is_finished_by_close"],
    ),
    plain(
        "left-work-goes-on",
        "src/store/options/mod.rs",
        "        store.models.resume_maintenance();\n",
        "",
        "api",
        &["maintenance::what_is_left_survives_a_restart_and_is_finished_by_close"],
    ),
    plain(
        "a-close-finishes-it",
        "src/store/mod.rs",
        "        self.models.finish_maintenance(others);\n",
        "",
        "api",
        &["maintenance::what_is_left_survives_a_restart_and_is_finished_by_close"],
    ),
    plain(
        "one-version-too-many",
        "src/models/retention.rs",
        "let at_once = left.prune || ",
        "let at_once = ",
        "api",
        &["maintenance::a_model_has_at_most_one_version_too_many_and_a_current_one_stays_as_it_is"],
    ),
    plain(
        "the-current-version-stays-raw",
        "src/models/retention.rs",
        "if !is_there || head.current == Some(version) {",
        "if !is_there {",
        "api",
        &["maintenance::a_model_has_at_most_one_version_too_many_and_a_current_one_stays_as_it_is"],
    ),
    plain(
        "what-waits-makes-room",
        "src/models/publish.rs",
        "ErrorKind::StorageFull && self.makes_room()",
        "ErrorKind::StorageFull && false",
        "api",
        &["maintenance::what_waits_makes_room_when_the_file_is_full"],
    ),
];
