use super::*;

const TTL_MS: u64 = 100_000;

fn life(write_id: u64, cost_ms: u32) -> Life {
    Life {
        write_id,
        ttl_ms: Some(TTL_MS),
        grace_ms: 0,
        cost_ms,
        ends_at_ms: Some(TTL_MS),
    }
}

fn after(part: f64) -> Ahead {
    Ahead {
        after: Some(part),
        beta: None,
    }
}

fn by_chance(beta: f64) -> Ahead {
    Ahead {
        after: None,
        beta: Some(beta),
    }
}

#[test]
fn the_point_is_spread_by_the_write_and_never_later_than_asked_for() {
    let ahead = after(0.8);
    let points: Vec<u64> = (0..1000)
        .map(|write_id| TTL_MS - ahead.window_ms(&life(write_id, 0)).unwrap())
        .collect();
    assert!(points.iter().all(|at| (76_000..=80_000).contains(at)));
    let (low, high) = (points.iter().min().unwrap(), points.iter().max().unwrap());
    assert!(high - low > 3_900, "{low} to {high}");
    for (write_id, point) in points.iter().enumerate() {
        let life = life(write_id as u64, 0);
        assert!(!ahead.is_due(&life, point - 1, 0.5));
        assert!(ahead.is_due(&life, *point, 0.5), "as often as it is asked");
    }
}

#[test]
fn what_lives_forever_is_never_due() {
    let forever = Life {
        ttl_ms: None,
        ends_at_ms: None,
        ..life(1, 1000)
    };
    let ahead = Ahead {
        beta: Some(1.0),
        ..after(0.1)
    };
    assert!(!ahead.is_due(&forever, u64::MAX, 1e-9));
    assert_eq!(ahead.window_ms(&forever), None);
}

#[test]
fn a_clock_that_goes_back_makes_nothing_due() {
    let written_later = Life {
        ends_at_ms: Some(10 * TTL_MS),
        ..life(1, 1000)
    };
    assert!(!after(0.1).is_due(&written_later, 0, 0.5));
    assert!(!by_chance(1.0).is_due(&written_later, 0, 1e-9));
}

#[test]
fn cheap_loads_are_not_refreshed_by_chance() {
    let ahead = by_chance(1000.0);
    assert!(!ahead.is_due(&life(1, 0), TTL_MS - 1, 1e-9));
    assert!(ahead.is_due(&life(1, 1), TTL_MS - 1, 0.5));
    assert_eq!(ahead.window_ms(&life(1, 0)), None);
}

#[test]
fn parts_and_factors_out_of_bounds_are_refused() {
    for part in [0.0, 1.0, -0.5, 1.5, f64::NAN] {
        let error = after(part).check().unwrap_err();
        assert!(error.message().contains("refresh_after"));
    }
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = by_chance(beta).check().unwrap_err();
        assert!(error.message().contains("xfetch"));
    }
    assert!(after(0.8).check().is_ok());
}

/// Reads each of 10,000 keys each 100 ms until it is refreshed, and counts in which tenth of the window that happens.
fn refreshes_by_tenth(ahead: Ahead, cost_ms: u32) -> [f64; 10] {
    let mut random = fastrand::Rng::with_seed(7);
    let mut tenths = [0.0; 10];
    let window_ms = TTL_MS / 5;
    for key in 0..10_000 {
        let life = life(key, cost_ms);
        let mut reads = (0..TTL_MS).step_by(100);
        let due = reads.find(|now_ms| ahead.is_due(&life, *now_ms, 1.0 - random.f64()));
        let Some(at_ms) = due else { continue };
        let early_ms = TTL_MS - at_ms;
        assert!(early_ms <= window_ms, "{early_ms} ms early");
        tenths[((window_ms - early_ms) * 10 / window_ms).min(9) as usize] += 1.0;
    }
    tenths
}

#[test]
fn refreshes_by_chance_come_as_often_as_they_should() {
    for (beta, cost_ms) in [(1.0, 2000), (1.0, 4000), (2.0, 2000)] {
        let found = refreshes_by_tenth(by_chance(beta), cost_ms);
        // A read with `left` to go refreshes by the chance exp(-left / (beta * cost)).
        let mut expected = [0.0; 10];
        let mut unrefreshed = 10_000.0;
        for left_ms in (1..=TTL_MS / 5).rev().filter(|left| left % 100 == 0) {
            let chance = (-(left_ms as f64) / (beta * f64::from(cost_ms))).exp();
            let tenth = ((TTL_MS / 5 - left_ms) * 10 / (TTL_MS / 5)).min(9) as usize;
            expected[tenth] += unrefreshed * chance;
            unrefreshed *= 1.0 - chance;
        }
        for (tenth, (found, expected)) in found.iter().zip(expected).enumerate() {
            // Few are expected in some: there the noise is larger than a tenth.
            let allowed = (0.1 * expected).max(4.0 * f64::sqrt(expected) + 1.0);
            let is_near = (found - expected).abs() <= allowed;
            assert!(is_near, "tenth {tenth}: {found}, expected {expected:.1}");
        }
        let (sum, expected) = (found.iter().sum::<f64>(), expected.iter().sum::<f64>());
        assert!(
            (sum - expected).abs() <= 0.1 * expected,
            "{sum}, {expected}"
        );
    }
}
