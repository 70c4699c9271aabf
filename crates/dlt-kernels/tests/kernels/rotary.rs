use crate::operations::rotate;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Kernels, Rotary, Stretch};

const LLAMA: Stretch = Stretch::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192 };

fn plain(head_width: usize) -> Rotary {
    Rotary::new(head_width, 10_000.0, None).unwrap()
}

#[test]
fn matches_reference_rotation() {
    for (batch, tokens, heads, head_width, rest) in
        [(3, 7, 5, 6, 11), (1, 1, 1, 2, 0), (2, 33, 4, 64, 128), (2, 130, 3, 10, 30)]
    {
        let rotary = Rotary::new(head_width, 500_000.0, Some(LLAMA)).unwrap();
        let qkv = noise(&[batch, tokens, heads * head_width + rest], 1);

        // The same start twice, and ranges that overlap.
        let first: Vec<usize> = (0..batch).map(|window| [40, 3, 40][window]).collect();
        for first in [&[][..], &first] {
            check("rotate", std::slice::from_ref(&qkv), &rotate(heads, &rotary, first));
        }
    }

    for (shape, heads, first) in [([3, 7, 45], 4, &[5, 0, 1023][..]), ([1, 900, 20], 2, &[])] {
        check("rotate", &[noise(&shape, 1)], &rotate(heads, &plain(10), first));
    }

    let view = noise(&[30, 9, 2], 1).transpose(0, 2).unwrap();
    check("rotate a view", &[view], &rotate(2, &plain(10), &[7, 0]));

    let large = (noise(&[2, 9, 24], 1) * 1e4).unwrap();
    check_to(F32_TOLERANCE, "large", &[large], &rotate(2, &plain(8), &[]));

    let constant = Tensor::full(-3.0f32, (2, 9, 24), &Device::Cpu).unwrap();
    check_to(F32_TOLERANCE, "constant", &[constant], &rotate(3, &plain(8), &[]));
}

/// The expected numbers are turned heads of `(i mod 7 - 3) / 4` from `LlamaRotaryEmbedding` and
/// `apply_rotary_pos_emb` of transformers 5.24.0.
#[test]
fn matches_reference_transformers() {
    // Both sides are f32, with frequencies and angles of the same bits. The numbers below have
    // seven decimals.
    const TOLERANCE: f64 = 1e-6;
    let stretched = Rotary::new(16, 500_000.0, Some(LLAMA)).unwrap();

    for (rotary, position, expected) in [
        (plain(16), 1, PLAIN_1),
        (plain(16), 4095, PLAIN_4095),
        (stretched.clone(), 1023, STRETCHED_1023),
        (stretched.clone(), 4095, STRETCHED_4095),
    ] {
        let head: Vec<f32> = (0..16u8).map(|i| (f32::from(i % 7) - 3.0) / 4.0).collect();
        let head = Tensor::from_vec(head, (1, 1, 16), &Device::Cpu).unwrap();
        let expected = Tensor::new(&expected, &Device::Cpu).unwrap().reshape((1, 1, 16)).unwrap();

        for kernels in [Kernels::Fused, Kernels::Composed] {
            let turned = kernels.rotate(&head, 1, &rotary, &[position]).unwrap();
            assert_close(&format!("{kernels:?} at {position}"), &turned, &expected, TOLERANCE);
        }
    }

    for (i, (got, expected)) in stretched.frequencies().iter().zip(FREQUENCIES).enumerate() {
        assert!(
            (f64::from(*got) / expected - 1.0).abs() < 1e-6,
            "frequency {i}: {got} against {expected}"
        );
    }
}

/// With `rope_type` "llama3", factor 8, low 1, high 4, 8192 tokens, base 500,000 and D = 16.
const FREQUENCIES: [f64; 8] = [
    1.0,
    0.193922758,
    0.0376060307,
    0.00729266508,
    0.000524846022,
    3.42810235e-05,
    6.64786967e-06,
    1.28917316e-06,
];
const PLAIN_1: [f64; 16] = [
    0.0155087, -0.3974618, -0.2487510, -0.0079044, 0.2449876, 0.4976258, 0.7507496, -0.7498418,
    -0.9012544, -0.3930956, -0.0249584, 0.2498750, 0.5024750, 0.7515774, -0.7492496, -0.5002372,
];
const PLAIN_4095: [f64; 16] = [
    -0.4494286, -0.2634258, -0.1149658, 0.1591316, -0.1939689, 0.1833566, -1.0457256, 0.2768289,
    0.7813539, -0.4930587, -0.2219974, -0.1928137, -0.5242863, 0.8825420, -0.1773638, -0.8578262,
];
const STRETCHED_1023: [f64; 16] = [
    -0.7582939, 0.3358592, -0.1791539, -0.2308850, -0.0409225, 0.4733958, 0.7550832, -0.7493400,
    0.4873300, 0.4468765, -0.1743670, 0.0958755, 0.5575171, 0.7670700, -0.7448821, -0.5009887,
];
const STRETCHED_4095: [f64; 16] = [
    -0.4494286, 0.5422438, 0.2495702, 0.2499580, -0.5553373, 0.3901413, 0.7701369, -0.7473499,
    0.7813539, -0.1359105, 0.0146538, 0.0045833, -0.0640346, 0.8125821, -0.7293074, -0.5039524,
];

#[test]
fn matches_reference_frequencies() {
    for (head_width, base) in [(2, 10_000.0), (64, 10_000.0), (128, 500_000.0), (80, 1.0)] {
        let rotary = Rotary::new(head_width, base, None).unwrap();
        assert_eq!((rotary.head_width(), rotary.frequencies().len()), (head_width, head_width / 2));

        let stretched = Rotary::new(head_width, base, Some(LLAMA)).unwrap();
        for (i, (&plain, &stretched)) in
            rotary.frequencies().iter().zip(stretched.frequencies()).enumerate()
        {
            let exact: f64 = base.powf(-2.0 * i as f64 / head_width as f64);
            // The exponent is rounded to f32; with a large base that is a few units in the last
            // place.
            assert!((f64::from(plain) / exact - 1.0).abs() < 1e-6, "{plain} against {exact}");

            let wavelength = 2.0 * std::f64::consts::PI / exact;
            let expected = if wavelength < 8192.0 / 4.0 {
                exact
            } else if wavelength > 8192.0 {
                exact / 8.0
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                (1.0 - smooth) * exact / 8.0 + smooth * exact
            };

            assert!(
                (f64::from(stretched) / expected - 1.0).abs() < 1e-5,
                "{stretched} against {expected}"
            );
        }
    }

    let once = Stretch::Llama3 { factor: 1.0, low: 1.0, high: 4.0, original_context: 8192 };
    assert_eq!(Rotary::new(64, 10_000.0, Some(once)).unwrap(), plain(64));
}

#[test]
fn law_a_rotation_keeps_sizes_and_the_way_back_undoes_it() {
    let rotary = plain(16);
    let qkv = noise(&[3, 41, 80], 1);

    for first in [&[][..], &[4000, 0, 17]] {
        for kernels in [Kernels::Fused, Kernels::Composed] {
            let turned = kernels.rotate(&qkv, 4, &rotary, first).unwrap();
            for (before, after) in host(&qkv).chunks(80).zip(host(&turned).chunks(80)) {
                assert_eq!(before[64..], after[64..], "what is not turned");
                for (before, after) in before[..64].chunks(16).zip(after[..64].chunks(16)) {
                    let size = |head: &[f64]| head.iter().map(|x| x * x).sum::<f64>().sqrt();
                    assert!((size(before) / size(after) - 1.0).abs() < F32_TOLERANCE);
                }
            }

            let back = kernels.rotate_gradient(&turned, 4, &rotary, first).unwrap();
            assert_close("there and back", &back, &qkv, F32_TOLERANCE);
        }
    }

    let turned = Kernels::Fused.rotate(&qkv, 4, &rotary, &[]).unwrap();
    assert_eq!(host(&turned)[..64], host(&qkv)[..64], "position 0");
    assert_ne!(host(&turned)[80..144], host(&qkv)[80..144], "position 1");
}

#[test]
fn law_scores_depend_on_differences_of_positions_only() {
    // Angles are rounded to f32: at position 1,000 by 3e-5.
    const ROUNDED_ANGLES: f64 = 1e-4;
    let rotary = plain(32);
    let query = noise(&[1, 1, 32], 1);
    let key = noise(&[1, 1, 32], 2);

    let score = |of_query: usize, of_key: usize| {
        let turned = |x: &Tensor, position| {
            host(&Kernels::Fused.rotate(x, 1, &rotary, &[position]).unwrap())
        };
        let query = turned(&query, of_query);
        let key = turned(&key, of_key);

        query.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>()
    };

    for difference in [0, 1, 7, 500] {
        let expected = score(difference, 0);
        for shift in [1, 64, 500] {
            let got = score(difference + shift, shift);
            assert!(
                (got - expected).abs() < ROUNDED_ANGLES,
                "{difference}, {shift}: {got}, {expected}"
            );
        }
    }

    assert!((score(1, 0) - score(2, 0)).abs() > 0.01);
}

#[test]
fn law_a_window_that_starts_later_continues_the_one_before() {
    let rotary = plain(8);
    let qkv = noise(&[1, 12, 40], 1);
    let whole = host(&Kernels::Fused.rotate(&qkv, 4, &rotary, &[]).unwrap());
    let later =
        Tensor::cat(&[qkv.narrow(1, 5, 4).unwrap(), qkv.narrow(1, 2, 4).unwrap()], 0).unwrap();
    let turned = host(&Kernels::Fused.rotate(&later, 4, &rotary, &[5, 2]).unwrap());

    assert_eq!(turned[..160], whole[5 * 40..9 * 40]);
    assert_eq!(turned[160..], whole[2 * 40..6 * 40]);
}

#[test]
fn rejects_rotations_of_wrong_arguments() {
    let rotary = plain(8);
    let qkv = noise(&[2, 4, 24], 1);

    for k in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(k.rotate(&qkv, 0, &rotary, &[]), &["rotate", "at least one head", "got 0"]);
        assert_rejected(k.rotate(&qkv, 4, &rotary, &[]), &["of 8", "rows of 24", "got 4 heads"]);
        assert_rejected(k.rotate(&qkv, usize::MAX, &rotary, &[]), &["rows of 24"]);
        assert_rejected(k.rotate(&qkv, 2, &rotary, &[1]), &["each of 2 windows", "got 1"]);

        assert_rejected(
            k.rotate(&qkv, 2, &rotary, &[1, (1 << 24) - 3]),
            &["below 16777216", "got 16777216"],
        );
        assert_rejected(k.rotate(&qkv, 2, &rotary, &[usize::MAX, 0]), &["below 16777216"]);
        assert_rejected(k.rotate(&noise(&[4, 24], 1), 2, &rotary, &[]), &["[4, 24]"]);

        let empty = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(k.rotate(&empty, 2, &rotary, &[]), &["non-empty"]);
        assert_rejected(
            k.rotate_gradient(&qkv, 4, &rotary, &[]),
            &["rotate_gradient", "got 4 heads"],
        );
    }
}

#[test]
fn rejects_impossible_frequencies() {
    for head_width in [0, 7] {
        assert_rejected(
            Rotary::new(head_width, 1e4, None),
            &["even head width", &head_width.to_string()],
        );
    }

    for base in [0.5, 0.0, -1e4, f64::NAN, f64::INFINITY, 1e300] {
        assert_rejected(Rotary::new(8, base, None), &["base of at least 1"]);
    }

    let of = |stretch: Stretch| Rotary::new(8, 1e4, Some(stretch));
    let llama = |factor, low, high, original_context| Stretch::Llama3 {
        factor,
        low,
        high,
        original_context,
    };

    let yarn = |factor, low, high, original_context, attention| Stretch::Yarn {
        factor,
        low,
        high,
        original_context,
        is_rounded: true,
        attention,
    };

    for factor in [0.5, f64::NAN, f64::INFINITY] {
        let expected = &["factor of at least 1"];
        assert_rejected(of(llama(factor, 1.0, 4.0, 8192)), expected);
        assert_rejected(of(yarn(factor, 1.0, 32.0, 8192, 1.0)), expected);
        assert_rejected(of(Stretch::Linear { factor }), expected);
        assert_rejected(of(Stretch::Dynamic { factor, original_context: 8 }), expected);
    }

    for (low, high) in [(0.0, 4.0), (4.0, 4.0), (5.0, 4.0), (f64::NAN, 4.0), (1.0, f64::INFINITY)] {
        assert_rejected(of(llama(8.0, low, high, 8192)), &["0 < low < high"]);
        assert_rejected(of(yarn(8.0, low, high, 8192, 1.0)), &["0 < low < high"]);
    }

    for attention in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_rejected(of(yarn(8.0, 1.0, 32.0, 8192, attention)), &["queries and keys above 0"]);
    }

    let long = |short: &[f64], long: &[f64], original_context| {
        of(Stretch::LongRope {
            short: short.to_vec(),
            long: long.to_vec(),
            original_context,
            attention: 1.0,
        })
    };

    for factors in [&[1.0; 3][..], &[1.0, 2.0, 3.0, 0.0], &[1.0, 2.0, f64::NAN, 4.0], &[1.0; 5]] {
        assert_rejected(long(factors, &[1.0; 4], 8), &["4 finite factors above 0"]);
        assert_rejected(long(&[1.0; 4], factors, 8), &["4 finite factors above 0"]);
    }

    assert_rejected(long(&[1.0; 4], &[1.0; 4], 0), &["original context"]);
    assert_rejected(of(llama(8.0, 1.0, 4.0, 0)), &["original context"]);

    assert_rejected(
        of(Stretch::Dynamic { factor: 2.0, original_context: 0 }),
        &["original context"],
    );
}
