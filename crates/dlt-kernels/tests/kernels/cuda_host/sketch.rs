use super::*;
use crate::sketch::COUNTS;
use dlt_kernels::Kernels;
use dlt_kernels::cuda::sketch;

#[test]
fn law_sketches_have_the_bits_of_the_loops() {
    for count in COUNTS {
        for (dtype, _) in ACTIVATIONS {
            let x = held(&[count], count as u64, dtype);
            let got = sketch(&Host, &[&x], 3).unwrap();
            let x = x.to_dtype(DType::F32).unwrap();

            assert_eq!(
                host(&got),
                host(&Kernels::Fused.sketch(&[&x], 3).unwrap()),
                "{count} of {dtype:?}"
            );
        }
    }
}

#[test]
fn law_sketches_of_many_tensors_have_the_bits_of_the_loops() {
    let none = Tensor::zeros((2, 0), DType::F32, &candle_core::Device::Cpu).unwrap();
    let all =
        [noise(&[401, 50], 1).t().unwrap(), none.clone(), noise(&[7], 2), noise(&[40_000], 3)];
    let expected = Kernels::Fused.sketch(&all.each_ref(), u64::MAX).unwrap();

    assert_eq!(host(&sketch(&Host, &all.each_ref(), u64::MAX).unwrap()), host(&expected));
    assert!(host(&sketch(&Host, &[&none], 1).unwrap()).iter().all(|&x| x == 0.0));
}
