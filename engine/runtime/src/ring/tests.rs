crate::backend_tests::tests_of!(super::RingRt);

#[test]
fn background_gets_its_part_of_a_busy_core() {
    crate::backend_tests::background_gets_its_part_of_a_busy_core::<super::RingRt>();
}
