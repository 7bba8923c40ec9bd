//! The patches of an input that a convolution's kernel sees, as rows of a matrix, and the way back.
//!
//! A chunk has some samples at some positions. Its matrix has a row for each of them, samples fastest, and a column for
//! each input channel and tap, channels fastest. Chunks keep such a matrix in a core's cache, however many samples and
//! positions there are; every copy moves the samples of a feature, which lie next to each other.

use std::ops::Range;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use super::Padding;
use crate::linear::columns::{column, column_mut};
use crate::network::image::Image;

/// Numbers in a chunk's patches: 1 MiB of them, which was fastest of the powers of two on a core with as much cache.
const NUMBERS: usize = 1 << 17;
/// Samples that a chunk has at least, where there are as many.
const SAMPLES: usize = 16;

/// Where patches come from.
#[derive(Debug, Clone)]
pub(super) struct Patches {
    input: Image,
    kernel: [usize; 2],
    /// Rows and columns of positions.
    positions: [usize; 2],
    /// Along rows and columns: the place in the input that a tap of a position sees, tap fastest, or none beyond the
    /// edge.
    places: [Vec<Option<usize>>; 2],
}

/// Some samples at some positions.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) samples: Range<usize>,
    pub(super) positions: Range<usize>,
}

impl Chunk {
    /// Rows of its patches.
    pub(super) fn rows(&self) -> usize {
        self.samples.len() * self.positions.len()
    }

    /// A column of its patches by positions: the samples of each.
    pub(super) fn parts<'a>(&self, column: &'a [f64]) -> impl Iterator<Item = (usize, &'a [f64])> {
        self.positions.clone().zip(column.chunks_exact(self.samples.len()))
    }

    /// The same, to be written.
    pub(super) fn parts_mut<'a>(
        &self,
        column: &'a mut [f64],
    ) -> impl Iterator<Item = (usize, &'a mut [f64])> {
        self.positions.clone().zip(column.chunks_exact_mut(self.samples.len()))
    }

    /// Makes a matrix that has the chunk's rows of one that does not.
    pub(super) fn fit(&self, matrix: &mut Mat<f64>, columns: usize) {
        if matrix.shape() != (self.rows(), columns) {
            *matrix = Mat::zeros(self.rows(), columns);
        }
    }
}

impl Patches {
    pub(super) fn new(input: Image, kernel: [usize; 2], stride: [usize; 2], padding: Padding) -> Self {
        let along = |direction: usize| {
            let (size, kernel, stride) = (input.size()[direction], kernel[direction], stride[direction]);
            // As many beyond one edge as beyond the other, or one fewer.
            let before = if padding == Padding::None { 0 } else { (kernel - 1) / 2 };
            let last = if padding == Padding::None { size - kernel } else { size - 1 };
            let starts = (0..=last).step_by(stride);
            let count = starts.clone().count();
            let place = move |start: usize, tap: usize| match (start + tap).checked_sub(before) {
                Some(place) if place < size => Some(place),
                _ if padding == Padding::Periodic => Some((start + tap + size - before) % size),
                _ => None,
            };
            (count, starts.flat_map(|start| (0..kernel).map(move |tap| place(start, tap))).collect())
        };
        let ((rows, row_places), (columns, column_places)) = (along(0), along(1));
        Self { input, kernel, positions: [rows, columns], places: [row_places, column_places] }
    }

    /// Rows and columns of positions.
    pub(super) fn positions(&self) -> [usize; 2] {
        self.positions
    }

    pub(super) fn input(&self) -> Image {
        self.input
    }

    /// Length of the kernel along rows and columns.
    pub(super) fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Columns of the patches.
    pub(super) fn width(&self) -> usize {
        self.input.channels().saturating_mul(self.taps())
    }

    /// All positions of these samples, a chunk after the other.
    pub(super) fn chunks(&self, samples: Range<usize>) -> impl Iterator<Item = Chunk> {
        let (width, positions) = (self.width(), self.positions[0] * self.positions[1]);
        let some = (NUMBERS / width).max(SAMPLES).min(samples.len().max(1));
        let few = (NUMBERS / (some * width)).clamp(1, positions);
        samples.clone().step_by(some).flat_map(move |s| {
            let samples = s..(s + some).min(samples.end);
            (0..positions)
                .step_by(few)
                .map(move |p| Chunk { samples: samples.clone(), positions: p..(p + few).min(positions) })
        })
    }

    /// Copies a chunk's patches of x (samples × features) into `patches`.
    pub(super) fn gather(&self, chunk: &Chunk, x: MatRef<'_, f64>, patches: &mut Mat<f64>) {
        chunk.fit(patches, self.width());
        self.each_column(chunk, |column_of_patches, first, places| {
            let parts = chunk.parts_mut(patches.col_as_slice_mut(column_of_patches));
            for ((_, part), place) in parts.zip(places) {
                match place {
                    Some(place) => {
                        part.copy_from_slice(&column(x, first + place)[chunk.samples.clone()]);
                    }
                    None => part.fill(0.0),
                }
            }
        });
    }

    /// Adds a chunk's patches to the places in x (samples × features) where they come from.
    pub(super) fn add_back(&self, chunk: &Chunk, patches: &Mat<f64>, mut x: MatMut<'_, f64>) {
        self.each_column(chunk, |column_of_patches, first, places| {
            let parts = chunk.parts(patches.col_as_slice(column_of_patches));
            for ((_, part), place) in parts.zip(places) {
                if let Some(place) = place {
                    let x = &mut column_mut(x.rb_mut(), first + place)[chunk.samples.clone()];
                    x.iter_mut().zip(part).for_each(|(x, part)| *x += part);
                }
            }
        });
    }

    /// Shows `visit` every column of a chunk's patches, the first feature of its channel, and the places in that
    /// channel that its positions see.
    fn each_column(&self, chunk: &Chunk, mut visit: impl FnMut(usize, usize, &[Option<usize>])) {
        let (channels, width) = (self.input.channels(), self.input.size()[1]);
        let mut places = Vec::with_capacity(chunk.positions.len());
        for tap in 0..self.taps() {
            let (i, j) = (tap % self.kernel[0], tap / self.kernel[0]);
            places.clear();
            places.extend(chunk.positions.clone().map(|p| {
                let (row, column) = (p / self.positions[1], p % self.positions[1]);
                let row = self.places[0][row * self.kernel[0] + i]?;
                Some(row * width + self.places[1][column * self.kernel[1] + j]?)
            }));
            for channel in 0..channels {
                visit(channel + channels * tap, channel * self.input.positions(), &places);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_each_sample_at_each_position_once_and_few_numbers() {
        for (channels, size, kernel, samples) in [
            (1, [1, 5], [1, 3], 1),
            (16, [32, 32], [3, 3], 32),
            (1024, [3, 3], [3, 3], 35),
            (2000, [9, 9], [9, 9], 40),
            (1, [64, 64], [1, 1], 1000),
        ] {
            let image = Image::new(&size, channels * size[0] * size[1]).unwrap();
            let patches = Patches::new(image, kernel, [1, 1], Padding::Zero);
            let mut seen = vec![0; samples * image.positions()];
            for chunk in patches.chunks(0..samples) {
                let least = SAMPLES.min(samples);
                assert!(chunk.rows() * patches.width() <= NUMBERS.max(least * patches.width()));
                let cells = chunk.samples.flat_map(|s| chunk.positions.clone().map(move |p| (s, p)));
                cells.for_each(|(s, p)| seen[s * image.positions() + p] += 1);
            }
            assert!(seen.iter().all(|&times| times == 1), "{channels} {size:?}");
        }
    }
}
