crate::backend_tests::tests_of!(super::RingRt);
