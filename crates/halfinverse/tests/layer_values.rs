//! What layers beyond dense ones put out, by plain loops.

#[path = "common/layers.rs"]
mod made;

use std::f64::consts::TAU;

use faer::Mat;
use halfinverse::network::{
    Activation, Block, Extent, FourierFeatures, FourierFeaturesSettings, Init, Layer, LayerNorm,
    LayerNormSettings, Network, Padding, PoolingSettings, Resampling, UpSamplingSettings,
};
use made::{assert_near, convolution, forward, in_files, random, values, vector};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a convolution must be: [channels, height, width], kernel and stride in both directions.
struct Plain {
    input: [usize; 3],
    channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
}

impl Plain {
    fn outputs(&self) -> [usize; 2] {
        [0, 1].map(|d| match self.padding {
            Padding::None => (self.input[d + 1] - self.kernel[d]) / self.stride[d] + 1,
            Padding::Zero | Padding::Periodic => self.input[d + 1].div_ceil(self.stride[d]),
        })
    }

    /// x[c, row, column] of a sample, whatever lies beyond the edges.
    fn at(&self, x: &[f64], c: usize, place: [isize; 2]) -> f64 {
        let sizes = [self.input[1], self.input[2]].map(|n| isize::try_from(n).unwrap());
        let inside = place.iter().zip(sizes).all(|(&place, size)| (0..size).contains(&place));
        if !inside && self.padding != Padding::Periodic {
            return 0.0;
        }
        let [row, column] = [0, 1].map(|d| usize::try_from(place[d].rem_euclid(sizes[d])).unwrap());
        x[(c * self.input[1] + row) * self.input[2] + column]
    }

    /// y of a sample by six loops, with weights [out, in, kh, kw] row by row.
    fn apply(&self, weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
        let ([height, width], [kh, kw]) = (self.outputs(), self.kernel);
        let before = self.kernel.map(|k| if self.padding == Padding::None { 0 } else { (k - 1) / 2 });
        let mut y = Vec::new();
        for (o, bias) in bias.iter().enumerate().take(self.channels) {
            for row in 0..height {
                for column in 0..width {
                    let mut sum = *bias;
                    for c in 0..self.input[0] {
                        for i in 0..kh {
                            for j in 0..kw {
                                let place = [row * self.stride[0] + i, column * self.stride[1] + j];
                                let place = [0, 1].map(|d| {
                                    isize::try_from(place[d]).unwrap() - isize::try_from(before[d]).unwrap()
                                });
                                let w = weight[((o * self.input[0] + c) * kh + i) * kw + j];
                                sum += w * self.at(x, c, place);
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }
}

#[test]
fn a_convolution_is_what_six_loops_over_weights_in_pytorchs_order_make() {
    for padding in [Padding::Zero, Padding::Periodic, Padding::None] {
        for (input, channels, kernel, stride, samples) in [
            ([1, 1, 7], 1, [1, 3], [1, 1], 1),
            ([2, 1, 7], 3, [1, 4], [1, 2], 5),
            ([3, 1, 5], 2, [1, 5], [1, 3], 2),
            ([2, 5, 4], 3, [3, 2], [2, 3], 3),
            ([1, 3, 3], 4, [3, 3], [1, 1], 1),
            ([3, 1, 6], 2, [1, 3], [1, 1], 4),
            // Several chunks of positions; of samples.
            ([8, 14, 13], 2, [3, 3], [1, 1], 50),
            ([1024, 3, 3], 1, [3, 3], [1, 1], 35),
        ] {
            let plain = Plain { input, channels, kernel, stride, padding };
            let line = input[1] == 1;
            let of = |both: [usize; 2]| if line { vec![both[1]] } else { both.to_vec() };
            let (shape, inputs) = (of([input[1], input[2]]), input.iter().product());
            let layer = convolution(inputs, &shape, channels, &of(kernel), &of(stride), padding);
            assert_eq!(layer.outputs(), channels * plain.outputs().iter().product::<usize>());
            let theta = vector(layer.parameters(), 1);
            let (weight, bias) = (in_files(&layer, &theta, "weight"), in_files(&layer, &theta, "bias"));
            let x = random(samples, inputs, 2);
            let expected: Vec<f64> = values(x.as_ref())
                .chunks_exact(inputs)
                .flat_map(|x| plain.apply(&weight, &bias, x))
                .collect();
            let found = values(forward(&layer, &theta, x.as_ref()).as_ref());
            assert_near(&found, &expected, 1e-13, &format!("{input:?} {kernel:?} {padding:?}"));
        }
    }
}

#[test]
fn a_convolution_of_no_samples_makes_nothing() {
    let layer = convolution(12, &[3, 4], 2, &[3, 3], &[1, 1], Padding::Zero);
    let y = forward(&layer, &vector(layer.parameters(), 1), Mat::zeros(0, 12).as_ref());
    assert_eq!(y.shape(), (0, 24));
}

#[test]
fn pooling_averages_windows_and_up_sampling_copies_into_them() {
    let (height, width) = (6, 4);
    let settings = PoolingSettings { shape: vec![height, width], factor: Extent::Each(vec![3, 2]) };
    let pooling = Resampling::pooling(2 * height * width, &settings).unwrap();
    let x = random(3, pooling.inputs(), 1);
    let y = forward(&pooling, &[], x.as_ref());
    let settings = UpSamplingSettings { shape: vec![2, 2], factor: Extent::Each(vec![3, 2]) };
    let up = Resampling::up(pooling.outputs(), &settings).unwrap();
    let back = forward(&up, &[], y.as_ref());
    for (s, c, row, column) in (0..3).flat_map(|s| (0..48).map(move |i| (s, i / 24, i / 4 % 6, i % 4))) {
        let (row, column) = (row / 3, column / 2);
        let mean =
            (0..6).map(|i| x[(s, (c * height + 3 * row + i / 2) * width + 2 * column + i % 2)]).sum::<f64>()
                / 6.0;
        let found = y[(s, c * 4 + 2 * row + column)];
        assert!((found - mean).abs() < 1e-15, "{found} and {mean}");
    }
    for (i, j) in (0..3).flat_map(|i| (0..48).map(move |j| (i, j))) {
        assert_eq!(back[(i, j)], y[(i, j / 24 * 4 + j / 4 % 6 / 3 * 2 + j % 4 / 2)]);
    }
    let line = PoolingSettings { shape: vec![9], factor: Extent::All(3) };
    let line = Resampling::pooling(9, &line).unwrap();
    let y = forward(&line, &[], Mat::from_fn(1, 9, |_, j| j as f64).as_ref());
    assert_near(&values(y.as_ref()), &[1.0, 4.0, 7.0], 1e-15, "means of three");
}

#[test]
fn a_layer_norm_gives_each_sample_its_channels_means_and_lengths() {
    let settings = LayerNormSettings { channels: 3, epsilon: 1e-9 };
    let norm = LayerNorm::new(12, &settings).unwrap();
    let x = random(4, 12, 1) * faer::Scale(1e3);
    let y = forward(&norm, &[2.0, 2.0, 2.0, 5.0, 5.0, 5.0], x.as_ref());
    for s in 0..4 {
        let row: Vec<f64> = (0..12).map(|j| (y[(s, j)] - 5.0) / 2.0).collect();
        let mean = row.iter().sum::<f64>() / 12.0;
        let square = row.iter().map(|x| x * x).sum::<f64>() / 12.0;
        assert!(mean.abs() < 1e-13 && (square - 1.0).abs() < 1e-12, "{mean} {square}");
    }
    let theta = [1.0, 2.0, 3.0, 0.1, 0.2, 0.3];
    let scaled = forward(&norm, &theta, x.as_ref());
    let (c, s, j) = (2, 3, 9);
    let expected = theta[c] * (y[(s, j)] - 5.0) / 2.0 + theta[3 + c];
    assert!((scaled[(s, j)] - expected).abs() < 1e-12);
    let mut fresh = [f64::NAN; 6];
    norm.initialize(Init::HeNormal, &mut ChaCha8Rng::seed_from_u64(1), &mut fresh);
    assert_eq!(fresh, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn fourier_features_depend_on_their_seed_alone() {
    let made = |seed, scale| {
        let settings = FourierFeaturesSettings { frequencies: 4000, scale, seed };
        FourierFeatures::new(1, &settings).unwrap()
    };
    let x = Mat::from_fn(1, 1, |_, _| 1e-3);
    let of = |seed, scale| values(forward(&made(seed, scale), &[], x.as_ref()).as_ref());
    assert_eq!(of(7, 2.0), of(7, 2.0));
    assert_ne!(of(7, 2.0), of(8, 2.0));
    let y = of(7, 2.0);
    let frequencies: Vec<f64> = (0..4000).map(|j| y[4000 + j].atan2(y[j]) / (TAU * 1e-3)).collect();
    let deviation = (frequencies.iter().map(|f| f * f).sum::<f64>() / 4000.0).sqrt();
    assert!((deviation - 2.0).abs() < 0.1, "{deviation}");
}

#[test]
fn blocks_add_map_and_concatenate_what_goes_around_them() {
    let inner = || Network::mlp(&[3, 5, 3], Activation::Tanh).unwrap();
    let theta = vector(9 + inner().parameters(), 1);
    let x = random(4, 3, 2);
    let skip = Block::linear_skip(inner()).unwrap();
    let beside = Block::concatenation(inner());
    let residual = Block::residual(inner()).unwrap();
    let f = Network::new(vec![Box::new(beside.clone()) as Box<dyn Layer>]).unwrap();
    assert_eq!(f.outputs(), 6);
    let concatenated = forward(&beside, &theta[9..], x.as_ref());
    let inside = concatenated.subcols(3, 3).to_owned();
    assert_eq!(concatenated.subcols(0, 3), x.as_ref());
    assert_eq!(forward(&residual, &theta[9..], x.as_ref()), &x + &inside);
    let weight = in_files(&skip, &theta, "weight");
    let map = Mat::from_fn(3, 3, |i, j| weight[3 * i + j]);
    let expected = &x * map.transpose() + &inside;
    let found = forward(&skip, &theta, x.as_ref());
    assert_near(&values(found.as_ref()), &values(expected.as_ref()), 1e-14, "W x + f(x)");
}
