//! Leaves out steps of a schedule that fails, as long as it fails in the same way.

use crate::{
    many::{Failure, run},
    schedule::Schedule,
};

/// The shortest schedule found, how it fails, and how many runs that took.
pub(crate) fn shrink(schedule: &Schedule, failure: &Failure, runs_max: usize) -> (Schedule, Failure, usize) {
    let (mut least, mut failure, mut runs) = (schedule.clone(), failure.clone(), 0);
    let all = schedule.steps.iter().map(|(number, _)| *number).collect();
    leave_out(all, runs_max, |kept| {
        let fewer = schedule.with(kept);
        runs += 1;
        let fails = run(&fewer).err().filter(|other| other.at == failure.at);
        fails.is_some_and(|other| {
            (least, failure) = (fewer, other);
            true
        })
    });
    (least, failure, runs)
}

/// Leaves out as many numbers as `fails` allows, half of them at once at first and single ones in the end, in so many tries at most.
fn leave_out(mut kept: Vec<usize>, tries_max: usize, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let (mut tries, mut len) = (0, kept.len());
    while len > 0 {
        let (mut from, before) = (0, kept.len());
        while from < kept.len() {
            if tries == tries_max {
                return kept;
            }
            tries += 1;
            let without: Vec<usize> = kept.iter().enumerate().filter(|(at, _)| !(from..from + len).contains(at)).map(|(_, n)| *n).collect();
            if fails(&without) {
                kept = without;
            } else {
                from += len;
            }
        }
        // What could not go before may go now.
        if kept.len() == before || len > 1 {
            len /= 2;
        }
    }
    kept
}

#[test]
fn what_a_failure_needs_is_what_stays() {
    let needs = |needed: &'static [usize]| move |kept: &[usize]| needed.iter().all(|n| kept.contains(n));
    for needed in [&[][..], &[0], &[39], &[3, 17], &[0, 1, 2, 30], &[5, 11, 23, 24, 38]] {
        assert_eq!(leave_out((0..40).collect(), 200, needs(needed)), needed);
    }
    let mut tries = 0;
    let some = leave_out((0..40).collect(), 7, |kept| {
        tries += 1;
        needs(&[3, 17])(kept)
    });
    assert!(tries == 7 && some.len() < 40 && needs(&[3, 17])(&some), "{some:?} after {tries} tries");
}
