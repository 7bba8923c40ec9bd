//! Golden arrays: float64 reference numbers of an independent JAX derivation of the published formulas.

#![allow(unreachable_pub, dead_code, reason = "each test file uses a part of this one")]

use faer::Mat;
use halfinverse::network::Network;
use safetensors::SafeTensors;

pub struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    pub fn load(name: &str) -> Self {
        let path = format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Self { bytes: std::fs::read(path).expect("golden file") }
    }

    pub fn get(&self, key: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        let data = tensors.tensor(key).expect(key).data().to_vec();
        let (words, []) = data.as_chunks::<8>() else { panic!("{key} is not float64") };
        words.iter().map(|&word| f64::from_le_bytes(word)).collect()
    }

    pub fn number(&self, key: &str) -> f64 {
        self.get(key)[0]
    }

    /// A count, stored as int64.
    pub fn count(&self, key: &str) -> usize {
        usize::try_from(self.number(key).to_bits()).expect("a count")
    }

    /// A b × features array.
    pub fn matrix(&self, key: &str, samples: usize) -> Mat<f64> {
        let data = self.get(key);
        let features = data.len() / samples;
        Mat::from_fn(samples, features, |s, j| data[s * features + j])
    }

    pub fn theta(&self, network: &Network) -> Vec<f64> {
        let mut theta = vec![0.0; network.parameters()];
        for tensor in network.tensors() {
            for (place, value) in tensor.places().zip(self.get(&tensor.name)) {
                theta[place] = value;
            }
        }
        theta
    }
}

/// |a − b| / |b|.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}
