use crate::operations::embedding;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;

#[test]
fn matches_reference_embedding() {
    for shape in [vec![3, 7], vec![1], vec![2, 3, 50]] {
        let ids = ids(&shape, 101, 4);
        check("embedding", &[noise(&[101, 25], 1)], &embedding(&ids));

        let view = noise(&[25, 101], 1).t().unwrap();
        check("embedding of a view", &[view], &embedding(&ids));
    }

    let strided = ids(&[7, 3], 101, 4).t().unwrap();
    check("strided ids", &[noise(&[101, 5], 1)], &embedding(&strided));
}

#[test]
fn law_the_gradient_is_added_to_what_is_there() {
    let ids = ids(&[3, 70], 101, 4);
    let gradient = noise(&[70, 3, 25], 5).transpose(0, 1).unwrap();
    let before = noise(&[101, 25], 6);
    let expected = before.copy().unwrap();

    Kernels::Composed.embedding_gradient(&expected, &ids, &gradient).unwrap();
    let into = before.copy().unwrap();
    Kernels::Fused.embedding_gradient(&into, &ids, &gradient).unwrap();
    assert_close("embedding_gradient", &into, &expected, F32_TOLERANCE);

    let added = by_autograd(std::slice::from_ref(&before), &embedding(&ids).value).1.remove(0);
    let probed = before.copy().unwrap();
    Kernels::Fused.embedding_gradient(&probed, &ids, &upstream(&[3, 70, 25], DType::F32)).unwrap();

    let expected = (before.to_dtype(DType::F64).unwrap() + added).unwrap();
    assert_close("autograd", &probed, &expected, F32_TOLERANCE);
}

#[test]
fn rejects_embedding_of_wrong_arguments() {
    let table = noise(&[10, 4], 1);
    let out = Tensor::new(&[3u32, 10], &Device::Cpu).unwrap();
    let good = Tensor::new(&[3u32, 9], &Device::Cpu).unwrap();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.embedding(&table, &out), &["below 10", "got 10", "position 1"]);
        assert_rejected(kernels.embedding(&table, &noise(&[2], 1)), &["U32", "F32"]);
        assert_rejected(kernels.embedding(&noise(&[10], 1), &good), &["matrix"]);

        let none = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
        assert_rejected(kernels.embedding(&table, &none), &["at least one id"]);
        assert_rejected(
            kernels.embedding_gradient(&table, &good, &noise(&[2, 5], 1)),
            &["row of 4"],
        );

        let view = noise(&[4, 10], 1).t().unwrap();
        assert_rejected(
            kernels.embedding_gradient(&view, &good, &noise(&[2, 4], 1)),
            &["contiguous"],
        );
    }

    let own = table.narrow(0, 0, 2).unwrap();
    assert_rejected(Kernels::Fused.embedding_gradient(&table, &good, &own), &["its own memory"]);
}
