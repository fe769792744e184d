crate::backend_tests::tests_of!(super::RingRt);

#[test]
fn background_gets_its_part_of_a_busy_core() {
    crate::backend_tests::background_gets_its_part_of_a_busy_core::<super::RingRt>();
}

#[test]
fn who_comes_first_goes_before_those_who_wait_and_yields_to_them() {
    crate::backend_tests::who_comes_first_goes_before_those_who_wait_and_yields_to_them::<super::RingRt>();
}
