use super::*;

const FILE: u64 = 64 * 4096;

fn layout(position: u64, prepared: u64) -> Layout {
    Layout { position, file_len: FILE, prepared, reserve: 4 * 4096, extra: 0 }
}

#[test]
fn entries_leave_the_reserve_to_notes() {
    let nearly_full = layout(FILE - 5 * 4096, 0);
    assert_eq!(nearly_full.fit(4096, Class::Entry), Fit::Here);
    assert_eq!(nearly_full.fit(2 * 4096, Class::Entry), Fit::No);
    assert_eq!(nearly_full.fit(3 * 4096, Class::Note), Fit::Here);
    assert_eq!(nearly_full.fit(4 * 4096, Class::Note), Fit::No, "half of the reserve is for relief");
    assert_eq!(nearly_full.fit(5 * 4096, Class::Relief), Fit::Here);
    assert_eq!(layout(FILE, 0).fit(4096, Class::Relief), Fit::No);
}

#[test]
fn a_prepared_file_is_used_when_the_flush_does_not_fit_and_only_then() {
    let prepared = FILE - 4096;
    assert_eq!(layout(FILE - 4096, prepared).fit(4096, Class::Entry), Fit::Here);
    assert_eq!(layout(FILE - 4096, prepared).fit(8192, Class::Entry), Fit::Next);
    assert_eq!(layout(FILE - 4096, 5 * 4096).fit(8192, Class::Entry), Fit::No, "the reserve would be lost");
    assert_eq!(layout(FILE - 4096, 5 * 4096).fit(8192, Class::Note), Fit::Next);
}

#[test]
fn what_is_left_counts_all_files() {
    assert_eq!(layout(FILE - 4096, 10_000).left(), 14_096);
}

#[test]
fn a_file_too_many_is_for_relief_alone() {
    let prepared = FILE - 4096;
    let starved = Layout { extra: FILE, ..layout(FILE, prepared) };
    assert_eq!(starved.fit(4096, Class::Entry), Fit::No);
    assert_eq!(starved.fit(4096, Class::Note), Fit::No);
    assert_eq!(starved.fit(4096, Class::Relief), Fit::Next);
}
