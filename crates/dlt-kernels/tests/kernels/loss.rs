use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{HeadGradients, Kernels};

fn both(hidden: &Tensor, table: &Tensor, targets: &Tensor, scale: f64) -> (HeadGradients, HeadGradients) {
    let fused = Kernels::Fused.cross_entropy(hidden, table, targets, scale, None).unwrap();
    let (hidden, table) = (hidden.to_dtype(DType::F64).unwrap(), table.to_dtype(DType::F64).unwrap());
    (fused, Kernels::Composed.cross_entropy(&hidden, &table, targets, scale, None).unwrap())
}

fn compare(what: &str, hidden: &Tensor, table: &Tensor, targets: &Tensor, scale: f64, tolerance: f64) {
    let (fused, composed) = both(hidden, table, targets, scale);
    let far = (fused.loss_sum - composed.loss_sum).abs() / composed.loss_sum.abs().max(1e-2);
    assert!(far < tolerance, "{what}: loss {} against {}", fused.loss_sum, composed.loss_sum);
    assert_close(&format!("{what} hidden"), &fused.hidden, &composed.hidden, tolerance);
    assert_close(&format!("{what} table"), &fused.table, &composed.table, tolerance);
    let sum = Kernels::Fused.cross_entropy_sum(hidden, table, targets).unwrap();
    assert_eq!(sum, fused.loss_sum, "{what}: with and without gradients");
    let reference = Kernels::Composed.cross_entropy_sum(hidden, table, targets).unwrap();
    assert!((sum - reference).abs() / reference.abs().max(1e-2) < tolerance);
}

#[test]
fn matches_reference_cross_entropy() {
    for (rows, width, vocabulary) in [(1, 3, 2), (21, 25, 101), (99, 35, 7), (5, 4, 1)] {
        let (hidden, table) = (noise(&[rows, width], 1), noise(&[vocabulary, width], 2));
        let targets = ids(&[rows], vocabulary as u32, 3);
        if vocabulary > 1 {
            compare("cross_entropy", &hidden, &table, &targets, 1.0 / rows as f64, F32_TOLERANCE);
        }
        compare("a sum", &hidden, &table, &targets, 1.0, if vocabulary > 1 { F32_TOLERANCE } else { 1.0 });
    }
    let (hidden, table) = (noise(&[25, 21], 1).t().unwrap(), noise(&[25, 101], 2).t().unwrap());
    compare("views", &hidden, &table, &ids(&[21], 101, 3), 0.5, F32_TOLERANCE);
}

#[test]
fn matches_reference_cross_entropy_over_chunks() {
    // The fused chunk has 1,024 rows for small vocabularies, the composed one 256.
    for rows in [255, 256, 257, 1023, 1024, 1025, 2049] {
        let (hidden, table) = (noise(&[rows, 5], 1), noise(&[11, 5], 2));
        compare("chunks", &hidden, &table, &ids(&[rows], 11, 3), 1.0 / rows as f64, F32_TOLERANCE);
    }
    // A vocabulary so large that a chunk has 167 rows.
    let (hidden, table) = (noise(&[170, 3], 1), noise(&[100_003, 3], 2));
    compare("a large vocabulary", &hidden, &table, &ids(&[170], 100_003, 3), 1.0, 1e-5);
}

#[test]
fn matches_reference_cross_entropy_of_extreme_logits() {
    let targets = ids(&[21], 101, 3);
    // Logits of 1e4 are rounded by 1e-3 in f32.
    let (hidden, table) = ((noise(&[21, 25], 1) * 100.0).unwrap(), (noise(&[101, 25], 2) * 100.0).unwrap());
    compare("large logits", &hidden, &table, &targets, 1.0, 5e-3);
    let equal = Tensor::full(100.0f32, (101, 25), &Device::Cpu).unwrap();
    let (fused, composed) = both(&hidden, &equal, &targets, 1.0);
    assert!((fused.loss_sum - 21.0 * 101f64.ln()).abs() < 1e-2, "{}", fused.loss_sum);
    assert_close("equal logits table", &fused.table, &composed.table, F32_TOLERANCE);
    // Equal rows of the table cancel: what remains is the rounding of 100 times probabilities that sum to zero.
    assert!(host(&fused.hidden).iter().all(|x| x.abs() < 1e-3));
}

#[test]
fn law_gradients_match_finite_differences() {
    let (hidden, table) = (noise(&[6, 5], 1), noise(&[11, 5], 2));
    let targets = ids(&[6], 11, 3);
    let gradients = Kernels::Fused.cross_entropy(&hidden, &table, &targets, 0.25, None).unwrap();
    let (hidden, table) = (hidden.to_dtype(DType::F64).unwrap(), table.to_dtype(DType::F64).unwrap());
    let along = |x: &Tensor, seed| (noise(x.dims(), seed).to_dtype(DType::F64).unwrap() * 1e-5).unwrap();
    let loss = |h: &Tensor, t: &Tensor| 0.25 * Kernels::Composed.cross_entropy_sum(h, t, &targets).unwrap();
    let inner = |a: &Tensor, b: &Tensor| host(a).iter().zip(host(b)).map(|(a, b)| a * b).sum::<f64>();
    let (dh, dt) = (along(&hidden, 8), along(&table, 9));
    let by_hidden = (loss(&(&hidden + &dh).unwrap(), &table) - loss(&(&hidden - &dh).unwrap(), &table)) / 2.0;
    let by_table = (loss(&hidden, &(&table + &dt).unwrap()) - loss(&hidden, &(&table - &dt).unwrap())) / 2.0;
    assert!((inner(&gradients.hidden, &dh) / by_hidden - 1.0).abs() < 1e-5);
    assert!((inner(&gradients.table, &dt) / by_table - 1.0).abs() < 1e-5);
}

#[test]
fn law_the_table_gradient_is_added_to_the_given_buffer() {
    let (hidden, table, targets) = (noise(&[21, 25], 1), noise(&[101, 25], 2), ids(&[21], 101, 3));
    for kernels in [Kernels::Fused, Kernels::Composed] {
        let into = noise(&[101, 25], 7);
        let before = into.copy().unwrap();
        let fresh = kernels.cross_entropy(&hidden, &table, &targets, 1.0, None).unwrap();
        let given = kernels.cross_entropy(&hidden, &table, &targets, 1.0, Some(&into)).unwrap();
        assert_close("added", &into, &(before + fresh.table).unwrap(), F32_TOLERANCE);
        assert_eq!(host(&given.table), host(&into));
        assert_eq!(host(&given.hidden), host(&fresh.hidden));
    }
}

#[test]
fn rejects_cross_entropy_of_wrong_arguments() {
    let (hidden, table) = (noise(&[2, 4], 1), noise(&[10, 4], 2));
    let targets = Tensor::new(&[3u32, 9], &Device::Cpu).unwrap();
    let outside = Tensor::new(&[3u32, 10], &Device::Cpu).unwrap();
    for kernels in [Kernels::Fused, Kernels::Composed] {
        let run = |h: &Tensor, t: &Tensor, ids: &Tensor| kernels.cross_entropy(h, t, ids, 1.0, None);
        assert_rejected(run(&hidden, &table, &outside), &["below 10", "position 1"]);
        assert_rejected(run(&hidden, &noise(&[10, 3], 2), &targets), &["[10, 4]", "[10, 3]"]);
        assert_rejected(run(&noise(&[3, 4], 1), &table, &targets), &["[3]", "[2]"]);
        assert_rejected(run(&noise(&[4], 1), &table, &targets), &["hidden", "matrix"]);
        assert_rejected(run(&hidden, &table, &noise(&[2], 1)), &["U32"]);
        assert_rejected(kernels.cross_entropy_sum(&hidden, &table, &outside), &["below 10"]);
        let into = noise(&[9, 4], 1);
        assert_rejected(kernels.cross_entropy(&hidden, &table, &targets, 1.0, Some(&into)), &["table_into"]);
    }
    assert_rejected(
        Kernels::Fused.cross_entropy(&hidden, &table, &targets, 1.0, Some(&table)),
        &["memory of its own"],
    );
}
