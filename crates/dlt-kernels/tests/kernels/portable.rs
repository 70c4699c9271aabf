use crate::operations::{
    Operation, attention, dropout, gelu, layer_norm, linear, linear_gelu, rms_norm, rotate, swiglu,
};
use crate::reference::*;
use candle_core::Tensor;
use dlt_kernels::optimizer::{AdamwStep, squared_norm};
use dlt_kernels::{
    Attention, Dropout, Gelu, HeadSums, Kernels, Mask, Projection, Rotary, normals, set_portable,
};

/// Values and gradients of everything, in one list.
fn everything() -> Vec<Vec<f64>> {
    let mut all = Vec::new();
    let mut differentiable = |inputs: &[Tensor], operation: &Operation<'_>| {
        let (value, gradients) = operation.value_and_gradients(Kernels::Fused, inputs);
        all.push(host(&value));
        all.extend(gradients.iter().map(host));
    };

    let x = noise(&[3, 7, 75], 1);
    let large = (&x * 5.0).unwrap();
    let w = noise(&[33, 75], 2);
    let b = noise(&[33], 3);
    let d = Dropout { probability: 0.2, seed: 1, offset: 5 };

    for kind in [Gelu::Tanh, Gelu::Erf] {
        differentiable(std::slice::from_ref(&large), &gelu(kind));
        differentiable(&[x.clone(), w.clone(), b.clone()], &linear_gelu(kind));
    }

    differentiable(&[x.clone(), noise(&[75], 4), noise(&[75], 5)], &layer_norm());
    differentiable(&[x.clone(), noise(&[75], 4)], &rms_norm());
    differentiable(&[(noise(&[3, 7, 150], 8) * 5.0).unwrap()], &swiglu());

    let rotary = Rotary::new(14, 10_000.0, None).unwrap();
    differentiable(std::slice::from_ref(&x), &rotate(5, &rotary, &[0, 9, 100]));
    differentiable(std::slice::from_ref(&x), &dropout(d));

    for mask in [Mask::Causal, Mask::Full] {
        let single = Attention { dropout: Some(d), ..Attention::new(5, mask) };
        differentiable(std::slice::from_ref(&x), &attention(&single));

        // 75 columns: three query heads that share one head of keys and one of values, all of width
        // 15.
        let grouped =
            Attention { key_heads: 1, lengths: Some(&[7, 1, 4]), ..Attention::new(3, mask) };
        differentiable(std::slice::from_ref(&x), &attention(&grouped));
    }

    // Few rows: widths around a vector, and a product that several threads share.
    for (rows, inputs, outputs) in [(1, 5, 3), (2, 16, 4), (3, 75, 33), (5, 101, 6), (8, 384, 601)]
    {
        let x = noise(&[rows, inputs], 1);
        let w = noise(&[outputs, inputs], 2);
        let b = noise(&[outputs], 3);

        differentiable(&[x, w, b], &linear());
    }

    // Large enough that several threads share each product.
    differentiable(&[noise(&[2, 150, 64], 6), noise(&[128, 64], 7)], &linear());
    let table = noise(&[101, 25], 2);
    let bias = noise(&[101], 9);

    for bias in [None, Some(&bias)] {
        let projection = Projection { table: &table, bias };
        let targets = ids(&[21], 101, 3);
        let sums = HeadSums::default();
        let head =
            Kernels::Fused.cross_entropy(&noise(&[21, 25], 1), projection, &targets, 1.0, sums);
        let head = head.unwrap();

        all.extend([vec![head.loss_sum], host(&head.hidden), host(&head.table)]);
        all.extend(head.bias.as_ref().map(host));
    }

    let p = noise(&[333], 1);
    let m = noise(&[333], 2);
    let v = noise(&[333], 3).sqr().unwrap();
    let g = noise(&[333], 4);

    let step = AdamwStep {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        gradient_scale: 0.5,
    };

    Kernels::Fused.adamw(&p, &m, &v, &g, &step).unwrap();
    all.extend([host(&p), host(&m), host(&v), vec![squared_norm(&p).unwrap()]]);

    let parts = noise(&[150, 257], 1);
    all.push(host(&Kernels::Fused.sketch(&[&p, &parts, &v], 5).unwrap()));

    let words: Vec<u32> = (0..3002u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let mut drawn = vec![0.0; words.len()];
    normals(&words, 0.02, &mut drawn);
    all.push(drawn.into_iter().map(f64::from).collect());

    all
}

#[test]
fn law_every_instruction_set_gives_the_same_bits() {
    let best = everything();
    set_portable(true);

    let portable = everything();
    set_portable(false);
    assert_eq!(best.len(), portable.len());

    for (i, (best, portable)) in best.iter().zip(&portable).enumerate() {
        assert!(best == portable, "result {i} differs between instruction sets");
    }
}

#[test]
fn law_a_run_repeats_bit_for_bit() {
    assert!(everything() == everything());
}
