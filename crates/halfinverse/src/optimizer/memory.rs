//! What an optimizer's next step depends on besides θ, saved and taken back by one and the same visit.

use std::collections::BTreeMap;

use faer::Mat;

/// Named numbers on their way out of an optimizer, or back into one.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    entries: BTreeMap<String, Vec<f64>>,
    /// Where numbers go back: how many parameters there are.
    taking_back: Option<usize>,
    missing: Option<String>,
}

impl Memory {
    /// To be taken back by an optimizer of so many parameters; [`Self::missing`] then says what was not there.
    #[must_use]
    pub fn from_entries(entries: BTreeMap<String, Vec<f64>>, parameters: usize) -> Self {
        Self { entries, taking_back: Some(parameters), missing: None }
    }

    /// What was saved, by name.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.entries
    }

    /// The first name that was asked for and was not there, or held what no optimizer saves.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// A vector whose length belongs to what is remembered.
    pub fn vector(&mut self, name: &str, values: &mut Vec<f64>) {
        if !self.taking_back() {
            self.entries.insert(name.to_owned(), values.clone());
        } else if let Some(found) = self.entries.get(name) {
            values.clone_from(found);
        } else {
            self.refuse(name);
        }
    }

    /// A number for each parameter, or none before the first step.
    pub fn parameters(&mut self, name: &str, values: &mut Vec<f64>) {
        self.vector(name, values);
        if self.taking_back.is_some_and(|parameters| ![0, parameters].contains(&values.len())) {
            values.clear();
            self.refuse(name);
        }
    }

    /// Says of a name that what it held cannot have been saved.
    pub fn refuse(&mut self, name: &str) {
        self.missing.get_or_insert_with(|| name.to_owned());
    }

    /// So many numbers.
    pub fn numbers<const N: usize>(&mut self, name: &str, values: [&mut f64; N]) {
        let mut all = values.iter().map(|value| **value).collect();
        self.vector(name, &mut all);
        if all.len() == N {
            values.into_iter().zip(all).for_each(|(value, found)| *value = found);
        } else {
            self.refuse(name);
        }
    }

    /// A whole number below 2⁵³.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saved as whole numbers")]
    pub fn count(&mut self, name: &str, value: &mut u64) {
        let mut number = *value as f64;
        self.numbers(name, [&mut number]);
        if self.taking_back() && !(number.fract() == 0.0 && (0.0..9.0e15).contains(&number)) {
            self.refuse(name);
        }
        *value = number as u64;
    }

    /// A whole number far below 2³², so that it can count on.
    pub fn small_count(&mut self, name: &str, value: &mut u32) {
        let mut number = u64::from(*value);
        self.count(name, &mut number);
        *value = u32::try_from(number).ok().filter(|&number| number < 1 << 30).unwrap_or_else(|| {
            self.refuse(name);
            0
        });
    }

    /// A matrix of a shape that the optimizer knows.
    pub fn matrix(&mut self, name: &str, matrix: &mut Mat<f64>) {
        let (rows, columns) = matrix.shape();
        let mut all = (0..columns).flat_map(|j| matrix.col_as_slice(j)).copied().collect::<Vec<f64>>();
        self.vector(name, &mut all);
        if all.len() != rows * columns {
            self.refuse(name);
            return;
        }
        for (j, column) in all.chunks_exact(rows.max(1)).enumerate() {
            matrix.col_as_slice_mut(j).copy_from_slice(column);
        }
    }

    /// Whether numbers go back into the optimizer.
    #[must_use]
    pub fn taking_back(&self) -> bool {
        self.taking_back.is_some()
    }

    /// How many numbers a name holds, where they are being taken back.
    #[must_use]
    pub fn len_of(&self, name: &str) -> usize {
        self.entries.get(name).map_or(0, Vec::len)
    }
}
