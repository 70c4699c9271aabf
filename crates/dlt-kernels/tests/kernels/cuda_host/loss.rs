use super::*;
use candle_core::Device;
use dlt_kernels::cuda::{cross_entropy, cross_entropy_sum};
use dlt_kernels::{HeadGradients, HeadSums, Kernels, Projection};

const NONE: HeadSums<'_> = HeadSums { table: None, bias: None };

fn close(what: &str, got: &HeadGradients, expected: &HeadGradients, tolerance: f64) {
    let far = (got.loss_sum - expected.loss_sum).abs() / expected.loss_sum.abs().max(1e-2);
    assert!(far < tolerance, "{what}: loss {} against {}", got.loss_sum, expected.loss_sum);
    assert_close(&format!("{what} hidden"), &got.hidden, &expected.hidden, tolerance);
    assert_close(&format!("{what} table"), &got.table, &expected.table, tolerance);
    assert_eq!(got.bias.is_some(), expected.bias.is_some());

    if let (Some(got), Some(expected)) = (&got.bias, &expected.bias) {
        assert_close(&format!("{what} bias"), got, expected, tolerance);
    }
}

#[test]
fn matches_reference_cross_entropy_on_cuda() {
    // Chunks that divide the rows and ones that do not, vocabularies around the threads of a block.
    for (rows, width, vocabulary, chunk) in
        [(1, 3, 2, None), (21, 25, 101, Some(7)), (50, 8, 4099, Some(16)), (99, 35, 31, None)]
    {
        let targets = ids(&[rows], vocabulary as u32, 3);
        let table = noise(&[vocabulary, width], 2);
        let bias = noise(&[vocabulary], 12);

        for (dtype, tolerance) in ACTIVATIONS {
            let hidden = held(&[rows, width], 1, dtype);
            // The reference gets the table that the product rounds, but does not round its logits.
            let table_held = wide(&table.to_dtype(dtype).unwrap());
            let tolerance = if dtype == DType::BF16 { 3.0 * tolerance } else { tolerance };

            for bias in [None, Some(&bias)] {
                let projection = Projection { table: &table, bias };
                let scale = 1.0 / rows as f64;
                let got = cross_entropy(&Host, &hidden, projection, &targets, scale, NONE, chunk)
                    .unwrap();
                let wide_bias = bias.map(wide);
                let wide_projection = Projection { table: &table_held, bias: wide_bias.as_ref() };

                let reference = Kernels::Composed;
                let expected = reference
                    .cross_entropy(&wide(&hidden), wide_projection, &targets, scale, NONE)
                    .unwrap();
                assert_eq!((got.table.dtype(), got.hidden.dtype()), (DType::F32, dtype));
                close(&format!("{rows} {vocabulary} {dtype:?}"), &got, &expected, tolerance);

                let sum = cross_entropy_sum(&Host, &hidden, projection, &targets, chunk).unwrap();
                assert_eq!(sum, got.loss_sum, "with and without gradients");
            }
        }
    }
}

#[test]
fn matches_reference_cross_entropy_of_extreme_logits_on_cuda() {
    let targets = ids(&[21], 101, 3);
    let hidden = (noise(&[21, 25], 1) * 100.0).unwrap();
    let table = (noise(&[101, 25], 2) * 100.0).unwrap();
    let projection = Projection { table: &table, bias: None };
    let got = cross_entropy(&Host, &hidden, projection, &targets, 1.0, NONE, None).unwrap();
    let expected = Kernels::Fused.cross_entropy(&hidden, projection, &targets, 1.0, NONE).unwrap();

    // Logits of 1e4 are rounded by 1e-3 in f32.
    close("large logits", &got, &expected, 5e-3);

    let equal = Tensor::full(100.0f32, (101, 25), &Device::Cpu).unwrap();
    let projection = Projection { table: &equal, bias: None };
    let sum = cross_entropy_sum(&Host, &hidden, projection, &targets, None).unwrap();
    assert!((sum - 21.0 * 101f64.ln()).abs() < 1e-2, "{sum}");

    let broken = Tensor::full(f32::NAN, (21, 25), &Device::Cpu).unwrap();
    assert!(cross_entropy_sum(&Host, &broken, projection, &targets, None).unwrap().is_nan());
}

#[test]
fn law_gradients_are_added_to_the_given_buffers_on_cuda() {
    let hidden = noise(&[21, 25], 1);
    let targets = ids(&[21], 101, 3);
    let table = noise(&[101, 25], 2);
    let bias = noise(&[101], 12);
    let projection = Projection { table: &table, bias: Some(&bias) };
    let run =
        |sums| cross_entropy(&Host, &hidden, projection, &targets, 1.0, sums, Some(8)).unwrap();

    let into = noise(&[101, 25], 7);
    let bias_into = noise(&[101], 8);
    let before = into.copy().unwrap();
    let bias_before = bias_into.copy().unwrap();
    let fresh = run(NONE);
    let given = run(HeadSums { table: Some(&into), bias: Some(&bias_into) });

    assert_close("table", &into, &(before + fresh.table).unwrap(), F32_TOLERANCE);
    assert_close("bias", &bias_into, &(bias_before + fresh.bias.unwrap()).unwrap(), F32_TOLERANCE);
    assert_eq!(host(&given.table), host(&into));
    assert_eq!(host(&given.bias.unwrap()), host(&bias_into));
    assert_eq!(host(&given.hidden), host(&fresh.hidden));
}
