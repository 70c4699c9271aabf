//! The two sides of a comparison, and how far apart they are.

use candle_core::{DType, Device, Result, Tensor};
use dlt_train::{DeviceChoice, Kernels, Products, open_device};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A device with an implementation of the operations.
pub(crate) struct Side {
    pub(crate) device: Device,
    pub(crate) kernels: Kernels,
    name: String,
}

impl Side {
    /// What everything is compared with.
    pub(crate) fn cpu() -> Self {
        Self { device: Device::Cpu, kernels: Kernels::Fused, name: "cpu Fused".to_owned() }
    }

    /// The sides to compare: both implementations on a GPU, or on the CPU the one that a GPU can
    /// run too.
    pub(crate) fn compared() -> Vec<Self> {
        let (device, name) =
            open_device(DeviceChoice::Auto, Products::F32).expect("a CPU is there");
        let kernels = if device.is_cpu() {
            vec![Kernels::Composed]
        } else {
            vec![Kernels::Composed, Kernels::Fused]
        };

        let side =
            |kernels| Self { device: device.clone(), kernels, name: format!("{name} {kernels:?}") };
        kernels.into_iter().map(side).collect()
    }

    pub(crate) fn moved(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        tensors.iter().map(|tensor| tensor.to_device(&self.device)).collect()
    }
}

/// Comparisons of one kind. All of them are made before the first failure is reported.
#[derive(Default)]
pub(crate) struct Comparisons {
    made: usize,
    failures: Vec<String>,
}

impl Comparisons {
    /// Compares tensors, each relative to its largest expected element.
    pub(crate) fn compare(
        &mut self,
        what: &str,
        side: &Side,
        got: Result<Vec<Tensor>>,
        expected: &[Tensor],
        tolerance: f64,
    ) {
        self.made += 1;
        let apart = got.and_then(|got| apart(&got, expected));
        let (figure, is_close) = match &apart {
            Ok(apart) => (serde_json::json!(apart), *apart <= tolerance),
            Err(error) => (serde_json::json!(error.to_string()), false),
        };

        let line = serde_json::json!({
            "what": what, "side": side.name, "apart": figure, "tolerance": tolerance, "passed": is_close,
        });
        println!("parity: {line}");

        if !is_close {
            self.failures.push(line.to_string());
        }
    }

    /// Fails if anything was too far apart, or if nothing was compared.
    pub(crate) fn finish(self) {
        assert!(self.made > 0, "nothing was compared");
        assert!(
            self.failures.is_empty(),
            "{} failed:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}

/// Largest difference; infinite if a value is not finite.
fn apart(got: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    if got.len() != expected.len() {
        candle_core::bail!("expected {} tensors, got {}", expected.len(), got.len())
    }

    let mut most = 0f64;
    for (got, expected) in got.iter().zip(expected) {
        if got.dims() != expected.dims() {
            candle_core::bail!("expected shape {:?}, got {:?}", expected.dims(), got.dims())
        }

        let got = numbers(got)?;
        let expected = numbers(expected)?;
        let largest = expected.iter().fold(1e-30f64, |most, x| most.max(x.abs()));

        for (got, expected) in got.iter().zip(&expected) {
            let apart = (got - expected).abs() / largest;
            most = if apart.is_finite() { most.max(apart) } else { f64::INFINITY };
        }
    }

    Ok(most)
}

pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Numbers in (-1, 1) that depend on shape and `seed` only.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("memory")
}

/// Ids below `limit`.
pub(crate) fn ids(shape: &[usize], limit: u32, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(0..limit)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("memory")
}

#[test]
fn rejects_what_is_apart() {
    let one = noise(&[3, 4], 1);
    let two = noise(&[3, 4], 2);
    assert_eq!(
        apart(std::slice::from_ref(&one), std::slice::from_ref(&one)).expect("compared"),
        0.0
    );
    assert!(apart(std::slice::from_ref(&one), &[two]).expect("compared") > 0.1);

    let wrong = (&one * f64::NAN).expect("memory");
    assert_eq!(apart(&[wrong], std::slice::from_ref(&one)).expect("compared"), f64::INFINITY);
    assert!(apart(&[], &[one]).is_err());
}

#[test]
#[should_panic(expected = "1 failed:\nit is apart")]
fn rejects_a_comparison_that_failed() {
    Comparisons { made: 2, failures: vec!["it is apart".to_owned()] }.finish();
}

#[test]
#[should_panic(expected = "nothing was compared")]
fn rejects_no_comparison_at_all() {
    Comparisons::default().finish();
}
