use crate::reference::*;
use candle_core::{DType, Device, Tensor, Var};
use dlt_kernels::{Gelu, Kernels};

#[test]
fn matches_reference_linear() {
    for (rows, inputs, outputs) in
        [(vec![3, 7], 5, 11), (vec![33], 35, 101), (vec![2, 3, 4], 64, 1), (vec![1], 1, 3)]
    {
        let x = noise(&[rows.clone(), vec![inputs]].concat(), 1);
        let (w, b) = (noise(&[outputs, inputs], 2), noise(&[outputs], 3));
        check("linear", &[x.clone(), w.clone(), b.clone()], |k, t| k.linear(&t[0], &t[1], Some(&t[2])));
        check("linear without bias", &[x.clone(), w.clone()], |k, t| k.linear(&t[0], &t[1], None));
        for kind in [Gelu::Tanh, Gelu::Erf] {
            check("linear_gelu", &[x.clone(), w.clone(), b.clone()], |k, t| {
                k.linear_gelu(&t[0], &t[1], Some(&t[2]), kind)
            });
            check("linear_gelu without bias", &[x.clone(), w.clone()], |k, t| {
                k.linear_gelu(&t[0], &t[1], None, kind)
            });
        }
    }
}

#[test]
fn matches_reference_linear_of_many_rows() {
    let (x, w, b) = (noise(&[3, 233, 40], 1), noise(&[160, 40], 2), noise(&[160], 3));
    check("linear", &[x.clone(), w.clone(), b.clone()], |k, t| k.linear(&t[0], &t[1], Some(&t[2])));
    check("linear_gelu", &[x, w, b], |k, t| k.linear_gelu(&t[0], &t[1], Some(&t[2]), Gelu::Tanh));
}

#[test]
fn matches_reference_linear_on_views() {
    let (x, w, b) = (noise(&[5, 7, 3], 1), noise(&[5, 11], 2), noise(&[11, 2], 3));
    check("linear", &[x, w, b], |k, t| {
        let bias = t[2].narrow(1, 1, 1)?.squeeze(1)?;
        k.linear(&t[0].transpose(0, 2)?, &t[1].t()?, Some(&bias))
    });
}

#[test]
fn law_untracked_arguments_get_no_gradient() {
    let (x, w, b) = (noise(&[4, 6], 1), noise(&[3, 6], 2), noise(&[3], 3));
    for tracked in 0..8 {
        let vars: Vec<Var> = [&x, &w, &b].map(|t| Var::from_tensor(&t.copy().unwrap()).unwrap()).to_vec();
        let arguments: Vec<Tensor> = vars
            .iter()
            .enumerate()
            .map(
                |(i, var)| {
                    if tracked >> i & 1 == 1 { var.as_tensor().clone() } else { var.as_detached_tensor() }
                },
            )
            .collect();
        let y = Kernels::Fused.linear(&arguments[0], &arguments[1], Some(&arguments[2])).unwrap();
        assert_eq!(y.track_op(), tracked != 0);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        for (i, (var, argument)) in vars.iter().zip(&arguments).enumerate() {
            assert_eq!(gradients.get(var).is_some(), tracked >> i & 1 == 1);
            assert_eq!(gradients.get(argument).is_some(), tracked >> i & 1 == 1);
        }
    }
}

#[test]
fn law_gradients_carry_no_graph_and_reach_through_chains() {
    let w = Var::from_tensor(&noise(&[6, 6], 2)).unwrap();
    let x = noise(&[4, 6], 1);
    let mut y = x.clone();
    for _ in 0..4 {
        y = Kernels::Fused.linear_gelu(&y, &w, None, Gelu::Tanh).unwrap();
    }
    let gradient = y.sum_all().unwrap().backward().unwrap().remove(&w).unwrap();
    let chain = |k: Kernels, t: &[Tensor]| {
        let once = k.linear_gelu(&t[0], &t[1], None, Gelu::Tanh)?;
        let twice = k.linear_gelu(&once, &t[1], None, Gelu::Tanh)?;
        k.linear_gelu(&k.linear_gelu(&twice, &t[1], None, Gelu::Tanh)?, &t[1], None, Gelu::Tanh)
    };
    check("a shared weight", &[x, w.as_detached_tensor()], chain);
    assert!(host(&gradient).iter().any(|g| g.abs() > 1e-3));
}

#[test]
fn fused_takes_the_composed_path_for_other_dtypes() {
    let (x, w) =
        (noise(&[3, 5], 1).to_dtype(DType::F64).unwrap(), noise(&[2, 5], 2).to_dtype(DType::F64).unwrap());
    let fused = Kernels::Fused.linear(&x, &w, None).unwrap();
    assert_eq!(fused.dtype(), DType::F64);
    assert_eq!(host(&fused), host(&Kernels::Composed.linear(&x, &w, None).unwrap()));
}

#[test]
fn rejects_linear_of_wrong_shapes() {
    let (x, w, b) = (noise(&[3, 5], 1), noise(&[2, 5], 2), noise(&[2], 3));
    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.linear(&x, &noise(&[2, 4], 1), None), &["linear", "[2, 5]", "[2, 4]"]);
        assert_rejected(kernels.linear(&x, &noise(&[10], 1), None), &["linear", "matrix", "[10]"]);
        assert_rejected(kernels.linear(&x, &w, Some(&noise(&[3], 1))), &["bias", "[2]", "[3]"]);
        let empty = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(kernels.linear(&empty, &w, Some(&b)), &["non-empty", "[0, 5]"]);
        assert_rejected(kernels.linear_gelu(&x, &noise(&[2, 4], 1), None, Gelu::Erf), &["linear_gelu"]);
        let scalar = Tensor::new(1.0f32, &Device::Cpu).unwrap();
        assert_rejected(kernels.linear(&scalar, &w, None), &["scalar"]);
    }
}
