use super::*;
use candle_core::{Device, Result};
use dlt_kernels::cuda::{
    add_scaled, dropout, embedding_gradient, gelu, gelu_gradient, linear, linear_input_gradient,
    linear_then_gelu, linear_weight_gradient, rotate, scaled, swiglu, swiglu_gradient,
};
use dlt_kernels::{Dropout, Gelu, Kernels, Rotary};

const FORMS: [Gelu; 2] = [Gelu::Tanh, Gelu::Erf];
const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 7, offset: u32::MAX as u64 - 100 };

/// Numbers from the middle of GELU to its tails.
fn spread(dtype: DType) -> Tensor {
    let near = noise(&[7, 50], 1);
    let all = [(&near * 3.0).unwrap(), (&near * 15.0).unwrap(), (&near * 1e-3).unwrap()];
    Tensor::cat(&all, 0).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn law_gelu_has_the_bits_of_the_loops() {
    let x = spread(DType::F32);
    let gradient = noise(x.dims(), 2);

    for kind in FORMS {
        let y = gelu(&Host, &x, kind).unwrap();
        assert_eq!(host(&y), host(&Kernels::Fused.gelu(&x, kind).unwrap()), "{kind:?}");

        let dx = gelu_gradient(&Host, &x, kind, &gradient).unwrap();
        assert_eq!(
            host(&dx),
            host(&Kernels::Fused.gelu_gradient(&x, kind, &gradient).unwrap()),
            "{kind:?}"
        );
    }
}

#[test]
fn matches_reference_gelu() {
    for (kind, (dtype, tolerance)) in
        FORMS.into_iter().flat_map(|form| ACTIVATIONS.map(|a| (form, a)))
    {
        let x = spread(dtype);
        let gradient = held(x.dims(), 4711, dtype);
        let y = gelu(&Host, &x, kind).unwrap();

        assert_eq!(y.dtype(), dtype);
        assert_close("gelu", &y, &Kernels::Composed.gelu(&wide(&x), kind).unwrap(), tolerance);

        let expected = Kernels::Composed.gelu_gradient(&wide(&x), kind, &wide(&gradient)).unwrap();
        let dx = gelu_gradient(&Host, &x, kind, &gradient).unwrap();
        assert_close("gelu_gradient", &dx, &expected, tolerance);
    }
}

#[test]
fn matches_reference_linear() {
    let weight = noise(&[33, 25], 2);
    let bias = noise(&[33], 3);

    for (dtype, tolerance) in ACTIVATIONS {
        let x = held(&[3, 7, 25], 1, dtype);
        // The weight is rounded to the dtype of the product.
        let weight_held = wide(&weight.to_dtype(dtype).unwrap());

        for bias in [None, Some(&bias)] {
            let wide_bias = bias.map(wide);
            let y = linear(&Host, &x, &weight, bias).unwrap();
            let expected =
                Kernels::Composed.linear(&wide(&x), &weight_held, wide_bias.as_ref()).unwrap();

            assert_close("linear", &y, &expected, tolerance);
            for kind in FORMS {
                let [before, after] = linear_then_gelu(&Host, &x, &weight, bias, kind).unwrap();
                assert_eq!(host(&before), host(&y));

                let expected = Kernels::Composed.gelu(&expected, kind).unwrap();
                assert_close("linear and gelu", &after, &expected, 2.0 * tolerance);
            }
        }

        let gradient = held(&[3, 7, 33], 4, dtype);
        let expected =
            Kernels::Composed.linear_input_gradient(&weight_held, &wide(&gradient)).unwrap();
        assert_close(
            "input",
            &linear_input_gradient(&weight, &gradient).unwrap(),
            &expected,
            tolerance,
        );

        let mut expected = None;
        Kernels::Composed
            .linear_weight_gradient(&wide(&x), &wide(&gradient), &mut expected)
            .unwrap();

        let mut got = None;
        for times in 1..3 {
            linear_weight_gradient(&Host, &x, &gradient, &mut got).unwrap();
            let got = got.as_ref().unwrap();
            let expected = expected.as_ref().unwrap();

            assert_eq!(got.dtype(), DType::F32);
            assert_close("weight", got, &(expected * f64::from(times)).unwrap(), tolerance);
        }
    }
}

#[test]
fn law_bf16_is_rounded_as_candle_rounds_it() {
    // For each upper half, numbers just below, at and just above the middle between it and the next
    // one.
    let halves =
        [0x0000u32, 0x0001, 0x3f80, 0x3f81, 0xbf80, 0xbf81, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc1];
    let lower = [0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bits = halves.iter().flat_map(|upper| lower.map(|lower| upper << 16 | lower));
    let numbers: Vec<f32> = bits.map(f32::from_bits).collect();

    let count = numbers.len();
    let bias = Tensor::new(numbers, &Device::Cpu).unwrap();
    let nothing = |rows| Tensor::zeros((rows, 2), DType::F32, &Device::Cpu).unwrap();
    let x = nothing(1).to_dtype(DType::BF16).unwrap();

    // Zero times zero plus the bias gives the rounded bias.
    let y = linear(&Host, &x, &nothing(count), Some(&bias)).unwrap().flatten_all().unwrap();

    for (got, expected) in host(&y).iter().zip(host(&bias.to_dtype(DType::BF16).unwrap())) {
        assert!(
            *got == expected || got.is_nan() && expected.is_nan(),
            "{got:e} against {expected:e}"
        );
    }
}

#[test]
fn matches_reference_swiglu() {
    for (dtype, tolerance) in ACTIVATIONS {
        let x = (noise(&[3, 7, 150], 8) * 5.0).unwrap().to_dtype(dtype).unwrap();
        let gradient = held(&[3, 7, 75], 4711, dtype);
        let y = swiglu(&Host, &x, 75).unwrap();

        assert_close("swiglu", &y, &Kernels::Composed.swiglu(&wide(&x)).unwrap(), tolerance);
        let expected = Kernels::Composed.swiglu_gradient(&wide(&x), &wide(&gradient)).unwrap();
        let dx = swiglu_gradient(&Host, &x, 75, &gradient).unwrap();

        assert_close("swiglu_gradient", &dx, &expected, tolerance);
        if dtype == DType::F32 {
            assert_eq!(host(&y), host(&Kernels::Fused.swiglu(&x).unwrap()));
            assert_eq!(host(&dx), host(&Kernels::Fused.swiglu_gradient(&x, &gradient).unwrap()));
        }
    }
}

#[test]
fn law_rotation_has_the_bits_of_the_loops() {
    let rotary = Rotary::new(14, 10_000.0, None).unwrap();

    for (heads, first) in [(5, &[][..]), (3, &[0, 9, 100]), (1, &[7, 7, 0])] {
        let x = noise(&[3, 7, 75], 1);
        let y = rotate(&Host, &x, heads, &rotary, first).unwrap();
        let expected = Kernels::Fused.rotate(&x, heads, &rotary, first).unwrap();

        assert_eq!(host(&y), host(&expected));
        let narrow = x.to_dtype(DType::BF16).unwrap();
        let y = rotate(&Host, &narrow, heads, &rotary, first).unwrap();

        assert_close("bf16", &y, &expected, BF16_TOLERANCE);
    }
}

#[test]
fn law_dropout_has_the_mask_of_the_loops() {
    let x = noise(&[3, 333], 1);
    let y = dropout(&Host, &x, DROPOUT).unwrap();
    assert_eq!(host(&y), host(&Kernels::Fused.dropout(&x, DROPOUT).unwrap()));

    let narrow = x.to_dtype(DType::BF16).unwrap();
    let y = dropout(&Host, &narrow, DROPOUT).unwrap();
    assert_close("bf16", &y, &Kernels::Fused.dropout(&x, DROPOUT).unwrap(), BF16_TOLERANCE);
}

#[test]
fn law_multiples_have_the_bits_of_the_loops() {
    let third = 1.0 / 3.0;

    for (dtype, tolerance) in ACTIVATIONS {
        // One is a view, which must be copied to adjacent elements for the launch.
        let a = held(&[5, 333], 1, dtype);
        let b = held(&[333, 5], 2, dtype).t().unwrap();
        let multiple = scaled(&Host, &b, third).unwrap();
        let sum = add_scaled(&Host, &a, &b, third).unwrap();
        let expected = (wide(&b) * f64::from(third)).unwrap();

        assert_close("scaled", &multiple, &expected, tolerance);
        assert_close("add_scaled", &sum, &(wide(&a) + expected).unwrap(), tolerance);
        assert_eq!(host(&multiple), host(&Kernels::Fused.scaled(&b, third).unwrap()), "{dtype:?}");
        assert_eq!(
            host(&sum),
            host(&Kernels::Fused.add_scaled(&a, &b, third).unwrap()),
            "{dtype:?}"
        );
    }
}

#[test]
fn law_the_gradient_of_a_table_has_the_bits_of_the_loops() {
    // Ids that repeat, one that is alone, and rows wider than a block.
    for (count, limit, width) in [(1, 1, 3), (70, 101, 25), (300, 2, 5), (9, 50_000, 300)] {
        let ids = ids(&[count], limit, 4);
        let numbers = ids.to_vec1::<u32>().unwrap();
        let gradient = noise(&[count, width], 5);
        let got = noise(&[limit as usize, width], 6);
        let expected = noise(&[limit as usize, width], 6);

        embedding_gradient(&Host, &got, &numbers, &gradient).unwrap();
        Kernels::Fused.embedding_gradient(&expected, &ids, &gradient).unwrap();
        assert_eq!(host(&got), host(&expected));

        let got = noise(&[limit as usize, width], 6);
        embedding_gradient(&Host, &got, &numbers, &gradient.to_dtype(DType::BF16).unwrap())
            .unwrap();
        assert_close("bf16", &got, &expected, BF16_TOLERANCE);
    }
}

#[test]
fn rejects_memory_that_is_written_and_shared() -> Result<()> {
    let table = noise(&[10, 4], 1);
    let own = table.narrow(0, 0, 2)?;
    assert_rejected(embedding_gradient(&Host, &table, &[3, 9], &own), &["its own memory"]);

    let view = noise(&[4, 10], 1).t()?;
    assert_rejected(embedding_gradient(&Host, &view, &[3, 9], &noise(&[2, 4], 1)), &["contiguous"]);
    Ok(())
}
