use super::*;

fn shape() -> Shape {
    Shape { keys: 100, records: 3, ..Shape::single(1000) }
}

#[test]
fn the_same_seed_makes_the_same_batches_and_another_number_others() {
    let shape = shape();
    assert_eq!(shape.batch(1), shape.batch(1));
    assert_ne!(shape.batch(1), shape.batch(2));
    assert_ne!(shape.batch(1), Shape { seed: 2, ..shape.clone() }.batch(1));
}

#[test]
fn every_record_has_the_size_and_the_key_that_was_asked_for() {
    for payload in [Payload::Realistic, Payload::Incompressible, Payload::Compressible] {
        for record in (Shape { payload, ..shape() }).batch(7) {
            assert_eq!(record.value.len(), 1000);
            assert_eq!(record.key.map(|key| key.len()), Some(KEY_BYTES));
        }
    }
    assert_eq!(Shape::single(5).batch(1)[0].key, None);
}

#[test]
fn a_picker_keeps_below_its_bound_and_to_its_distribution() {
    let count = |distribution| {
        let mut picker = Picker::new(10, distribution, 1);
        let mut counts = [0_u32; 10];
        (0..10_000).for_each(|_| counts[picker.pick() as usize] += 1);
        counts
    };
    assert_eq!(count(Distribution::Sequential), [1000; 10]);
    assert!(count(Distribution::Uniform).iter().all(|n| (850..1150).contains(n)));
    let zipf = count(Distribution::Zipf);
    assert!(zipf[0] > 2 * zipf[2] && zipf[2] > zipf[9] && zipf[9] > 0, "{zipf:?}");
}
