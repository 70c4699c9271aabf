use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{HeadGradients, HeadSums, Kernels, Projection};

/// A projection that owns its tensors.
struct Head {
    table: Tensor,
    bias: Option<Tensor>,
}

impl Head {
    fn plain(table: Tensor) -> Self {
        Head { table, bias: None }
    }

    fn noise(vocabulary: usize, width: usize) -> Self {
        Head::plain(noise(&[vocabulary, width], 2))
    }

    fn with_bias(self) -> Self {
        let bias = noise(&[self.table.dim(0).unwrap()], 12);
        Head { bias: Some(bias), ..self }
    }

    fn projection(&self) -> Projection<'_> {
        Projection { table: &self.table, bias: self.bias.as_ref() }
    }

    fn in_f64(&self) -> Self {
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
        Head { table: wide(&self.table), bias: self.bias.as_ref().map(wide) }
    }
}

fn both(
    hidden: &Tensor,
    head: &Head,
    targets: &Tensor,
    scale: f64,
) -> (HeadGradients, HeadGradients) {
    let none = HeadSums::default();
    let fused =
        Kernels::Fused.cross_entropy(hidden, head.projection(), targets, scale, none).unwrap();
    let hidden = hidden.to_dtype(DType::F64).unwrap();
    let head = head.in_f64();

    (
        fused,
        Kernels::Composed.cross_entropy(&hidden, head.projection(), targets, scale, none).unwrap(),
    )
}

fn compare(what: &str, hidden: &Tensor, head: &Head, targets: &Tensor, scale: f64, tolerance: f64) {
    let (fused, composed) = both(hidden, head, targets, scale);
    let far = (fused.loss_sum - composed.loss_sum).abs() / composed.loss_sum.abs().max(1e-2);
    assert!(far < tolerance, "{what}: loss {} against {}", fused.loss_sum, composed.loss_sum);
    assert_close(&format!("{what} hidden"), &fused.hidden, &composed.hidden, tolerance);
    assert_close(&format!("{what} table"), &fused.table, &composed.table, tolerance);
    assert_eq!(fused.bias.is_some(), head.bias.is_some(), "{what}: a gradient of the bias");

    if let (Some(got), Some(expected)) = (&fused.bias, &composed.bias) {
        assert_close(&format!("{what} bias"), got, expected, tolerance);
    }

    let sum = Kernels::Fused.cross_entropy_sum(hidden, head.projection(), targets).unwrap();
    assert_eq!(sum, fused.loss_sum, "{what}: with and without gradients");

    let reference =
        Kernels::Composed.cross_entropy_sum(hidden, head.projection(), targets).unwrap();
    assert!((sum - reference).abs() / reference.abs().max(1e-2) < tolerance);
}

#[test]
fn matches_reference_cross_entropy() {
    for (rows, width, vocabulary) in
        [(1, 3, 2), (21, 25, 101), (99, 35, 7), (5, 4, 1), (7, 5, 4099)]
    {
        let hidden = noise(&[rows, width], 1);
        let targets = ids(&[rows], vocabulary as u32, 3);

        for head in [Head::noise(vocabulary, width), Head::noise(vocabulary, width).with_bias()] {
            if vocabulary > 1 {
                compare(
                    "cross_entropy",
                    &hidden,
                    &head,
                    &targets,
                    1.0 / rows as f64,
                    F32_TOLERANCE,
                );
            }

            compare(
                "a sum",
                &hidden,
                &head,
                &targets,
                1.0,
                if vocabulary > 1 { F32_TOLERANCE } else { 1.0 },
            );
        }
    }

    let hidden = noise(&[25, 21], 1).t().unwrap();
    let table = noise(&[25, 101], 2).t().unwrap();
    let bias = Some(noise(&[101, 3], 4).narrow(1, 1, 1).unwrap().squeeze(1).unwrap());

    for head in [Head::plain(table.clone()), Head { table, bias }] {
        compare("views", &hidden, &head, &ids(&[21], 101, 3), 0.5, F32_TOLERANCE);
    }
}

#[test]
fn matches_reference_cross_entropy_over_chunks() {
    // The fused chunk has 1,024 rows for small vocabularies, the composed one 256.
    for rows in [255, 256, 257, 1023, 1024, 1025, 2049] {
        let hidden = noise(&[rows, 5], 1);
        for head in [Head::noise(11, 5), Head::noise(11, 5).with_bias()] {
            compare(
                "chunks",
                &hidden,
                &head,
                &ids(&[rows], 11, 3),
                1.0 / rows as f64,
                F32_TOLERANCE,
            );
        }
    }

    // A vocabulary so large that a chunk has 167 rows.
    let hidden = noise(&[170, 3], 1);

    for head in [Head::noise(100_003, 3), Head::noise(100_003, 3).with_bias()] {
        compare("a large vocabulary", &hidden, &head, &ids(&[170], 100_003, 3), 1.0, 1e-5);
    }
}

#[test]
fn matches_reference_cross_entropy_of_extreme_logits() {
    let targets = ids(&[21], 101, 3);
    // Logits of 1e4 are rounded by 1e-3 in f32.
    let hidden = (noise(&[21, 25], 1) * 100.0).unwrap();
    let table = (noise(&[101, 25], 2) * 100.0).unwrap();

    compare("large logits", &hidden, &Head::plain(table.clone()), &targets, 1.0, 5e-3);
    let bias = Some((noise(&[101], 12) * 1e4).unwrap());
    compare("large biases", &hidden, &Head { table, bias }, &targets, 1.0, 5e-3);

    let equal = Head::plain(Tensor::full(100.0f32, (101, 25), &Device::Cpu).unwrap());
    let (fused, composed) = both(&hidden, &equal, &targets, 1.0);
    assert!((fused.loss_sum - 21.0 * 101f64.ln()).abs() < 1e-2, "{}", fused.loss_sum);
    assert_close("equal logits table", &fused.table, &composed.table, F32_TOLERANCE);

    // Equal rows of the table cancel. Only the rounding remains, of 100 times numbers that sum to
    // zero.
    assert!(host(&fused.hidden).iter().all(|x| x.abs() < 1e-3));
}

#[test]
fn law_gradients_match_finite_differences() {
    let hidden = noise(&[6, 5], 1);
    let head = Head::noise(11, 5).with_bias();
    let targets = ids(&[6], 11, 3);
    let sums = HeadSums::default();
    let gradients =
        Kernels::Fused.cross_entropy(&hidden, head.projection(), &targets, 0.25, sums).unwrap();

    let hidden = hidden.to_dtype(DType::F64).unwrap();
    let Head { table, bias } = head.in_f64();
    let arguments = [hidden, table, bias.unwrap()];
    let loss = |[hidden, table, bias]: &[Tensor; 3]| {
        let projection = Projection { table, bias: Some(bias) };
        0.25 * Kernels::Composed.cross_entropy_sum(hidden, projection, &targets).unwrap()
    };

    for (i, gradient) in
        [gradients.hidden, gradients.table, gradients.bias.unwrap()].iter().enumerate()
    {
        let direction = noise(gradient.dims(), 8 + i as u64).to_dtype(DType::F64).unwrap();
        let at = |step: f64| {
            let mut moved = arguments.clone();
            moved[i] = (&moved[i] + (&direction * step).unwrap()).unwrap();
            loss(&moved)
        };

        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        let along: f64 = host(gradient).iter().zip(host(&direction)).map(|(g, d)| g * d).sum();
        assert!(
            (along / difference - 1.0).abs() < 1e-5,
            "argument {i}: {along} against {difference}"
        );
    }
}

#[test]
fn law_gradients_are_added_to_the_given_buffers() {
    let hidden = noise(&[21, 25], 1);
    let targets = ids(&[21], 101, 3);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        for head in [Head::noise(101, 25), Head::noise(101, 25).with_bias()] {
            let run = |sums| {
                kernels.cross_entropy(&hidden, head.projection(), &targets, 1.0, sums).unwrap()
            };
            let into = noise(&[101, 25], 7);
            let bias_into = noise(&[101], 8);
            let before = into.copy().unwrap();
            let bias_before = bias_into.copy().unwrap();

            let fresh = run(HeadSums::default());
            let given =
                run(HeadSums { table: Some(&into), bias: head.bias.as_ref().map(|_| &bias_into) });

            assert_close("added", &into, &(before + fresh.table).unwrap(), F32_TOLERANCE);
            assert_eq!(host(&given.table), host(&into));
            assert_eq!(host(&given.hidden), host(&fresh.hidden));

            let Some(bias) = fresh.bias else {
                assert_eq!(host(&bias_into), host(&bias_before));
                continue;
            };

            assert_close("added", &bias_into, &(bias_before + bias).unwrap(), F32_TOLERANCE);
            assert_eq!(host(&given.bias.unwrap()), host(&bias_into));
        }
    }
}

#[test]
fn law_a_bias_of_zeros_and_one_of_equal_numbers_change_nothing() {
    let hidden = noise(&[21, 25], 1);
    let targets = ids(&[21], 101, 3);
    let plain = Head::noise(101, 25);
    let (without, _) = both(&hidden, &plain, &targets, 1.0);

    let biased = |by: f32| Head {
        table: plain.table.clone(),
        bias: Some(Tensor::full(by, 101, &Device::Cpu).unwrap()),
    };

    let (zeros, _) = both(&hidden, &biased(0.0), &targets, 1.0);
    assert_eq!(zeros.loss_sum, without.loss_sum);
    assert_eq!(host(&zeros.table), host(&without.table));
    assert_eq!(host(&zeros.hidden), host(&without.hidden));

    let (equal, _) = both(&hidden, &biased(3.0), &targets, 1.0);
    assert!((equal.loss_sum / without.loss_sum - 1.0).abs() < F32_TOLERANCE);
    assert_close("a shift", &equal.hidden, &without.hidden, F32_TOLERANCE);

    // Probabilities sum to one, and the gradient subtracts one at each target, so it sums to zero.
    assert!(host(&equal.bias.unwrap()).iter().sum::<f64>().abs() < 1e-4);
}

#[test]
fn rejects_cross_entropy_of_wrong_arguments() {
    let hidden = noise(&[2, 4], 1);
    let head = Head::noise(10, 4);
    let targets = Tensor::new(&[3u32, 9], &Device::Cpu).unwrap();
    let outside = Tensor::new(&[3u32, 10], &Device::Cpu).unwrap();
    let none = HeadSums::default();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let run = |h: &Tensor, t: &Tensor, ids: &Tensor| {
            kernels.cross_entropy(h, Projection { table: t, bias: None }, ids, 1.0, none)
        };
        assert_rejected(run(&hidden, &head.table, &outside), &["below 10", "position 1"]);
        assert_rejected(run(&hidden, &noise(&[10, 3], 2), &targets), &["[10, 4]", "[10, 3]"]);
        assert_rejected(run(&noise(&[3, 4], 1), &head.table, &targets), &["[3]", "[2]"]);
        assert_rejected(run(&noise(&[4], 1), &head.table, &targets), &["hidden", "matrix"]);
        assert_rejected(run(&hidden, &head.table, &noise(&[2], 1)), &["U32"]);

        let sum = |projection, targets| kernels.cross_entropy_sum(&hidden, projection, targets);
        assert_rejected(sum(head.projection(), &outside), &["below 10"]);

        let long = noise(&[11], 1);
        let projection = Projection { bias: Some(&long), ..head.projection() };
        assert_rejected(sum(projection, &targets), &["cross_entropy_sum", "bias", "[10]", "[11]"]);

        let gradients = kernels.cross_entropy(&hidden, projection, &targets, 1.0, none);
        assert_rejected(gradients, &["bias", "[10]", "[11]"]);
    }
}

#[test]
fn rejects_cross_entropy_into_wrong_sums() {
    let hidden = noise(&[2, 4], 1);
    let head = Head::noise(10, 4).with_bias();
    let targets = Tensor::new(&[3u32, 9], &Device::Cpu).unwrap();
    let bias = head.bias.as_ref().unwrap();
    let narrow = noise(&[9, 4], 1);
    let long = noise(&[11], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let run =
            |projection, sums| kernels.cross_entropy(&hidden, projection, &targets, 1.0, sums);
        let into = HeadSums { table: Some(&narrow), bias: None };
        assert_rejected(run(head.projection(), into), &["table's sum", "[10, 4]", "[9, 4]"]);

        let into = HeadSums { table: None, bias: Some(&long) };
        assert_rejected(run(head.projection(), into), &["bias's sum", "[10]", "[11]"]);

        let plain = Projection { bias: None, ..head.projection() };
        assert_rejected(run(plain, into), &["a missing bias"]);
    }

    let shared = |sums| {
        let run = Kernels::Fused.cross_entropy(&hidden, head.projection(), &targets, 1.0, sums);
        assert_rejected(run, &["its own memory"]);
    };

    shared(HeadSums { table: Some(&head.table), bias: None });
    shared(HeadSums { table: None, bias: Some(bias) });

    let both = noise(&[50], 1);
    let of_table = both.narrow(0, 0, 40).unwrap().reshape((10, 4)).unwrap();
    let of_bias = both.narrow(0, 40, 10);

    shared(HeadSums { table: Some(&of_table), bias: Some(&of_bias.unwrap()) });
}
