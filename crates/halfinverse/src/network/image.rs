//! Images in the features of a layer: channels of lines (1-D) or grids (2-D).
//!
//! A layer knows its width only. Feature c·R + p is channel c at position p of R, and positions of a grid go row by
//! row, as in PyTorch's (channels, height, width).

use serde::{Deserialize, Serialize};

use crate::error::SettingError;

/// One number for all directions, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "a whole number such as 3, or one for each direction such as [3, 5]")]
pub enum Extent {
    /// The same for all.
    All(usize),
    /// One for each.
    Each(Vec<usize>),
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All(number) => write!(f, "{number}"),
            Self::Each(numbers) => write!(f, "{numbers:?}"),
        }
    }
}

/// Channels of lines or grids. A line is a grid with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    channels: usize,
    rows: usize,
    columns: usize,
    /// Whether it is a grid.
    grid: bool,
}

impl Image {
    /// Of this shape, `[length]` or `[height, width]`, in a layer so wide: the channels follow.
    ///
    /// # Errors
    /// When the shape is neither, or does not divide the width.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::Image;
    /// assert_eq!(Image::new(&[4, 6], 48)?.channels(), 2);
    /// assert!(Image::new(&[4, 5], 48).is_err());
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(shape: &[usize], width: usize) -> Result<Self, SettingError> {
        let (rows, columns, grid) = match *shape {
            [length] => (1, length, false),
            [height, width] => (height, width, true),
            _ => {
                let found = if shape.is_empty() { "absent".to_owned() } else { format!("{shape:?}") };
                return Err(SettingError::new("shape", found, "[length] or [height, width]"));
            }
        };
        let positions = rows.saturating_mul(columns);
        if positions == 0 || width == 0 || !width.is_multiple_of(positions) {
            let expected = format!(
                "one with a number of positions that divides the {width} features of the input: channels times positions"
            );
            return Err(SettingError::new("shape", format!("{shape:?}"), expected));
        }
        Ok(Self { channels: width / positions, rows, columns, grid })
    }

    /// The same with other numbers of channels, rows and columns.
    pub(super) fn with(self, channels: usize, [rows, columns]: [usize; 2]) -> Self {
        Self { channels, rows, columns, ..self }
    }

    /// Channels.
    #[must_use]
    pub fn channels(self) -> usize {
        self.channels
    }

    /// Positions of a channel.
    #[must_use]
    pub fn positions(self) -> usize {
        self.rows * self.columns
    }

    /// Features in all; the largest number there is where that is more than it.
    #[must_use]
    pub fn width(self) -> usize {
        self.channels.saturating_mul(self.rows).saturating_mul(self.columns)
    }

    /// Rows and columns.
    pub(super) fn size(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Its length, or its height and width.
    pub(super) fn shape(self) -> Vec<usize> {
        self.directions(self.size())
    }

    /// Of a number for rows and one for columns those for its directions: a line has columns only.
    pub(super) fn directions(self, [rows, columns]: [usize; 2]) -> Vec<usize> {
        if self.grid { vec![rows, columns] } else { vec![columns] }
    }

    /// An extent along rows and along columns, 1 along the single row of a line.
    pub(super) fn along(self, key: &str, extent: &Extent) -> Result<[usize; 2], SettingError> {
        let along = match (extent, self.grid) {
            (Extent::All(n), true) => [*n, *n],
            (Extent::All(n), false) => [1, *n],
            (Extent::Each(each), grid) => match (each.as_slice(), grid) {
                (&[rows, columns], true) => [rows, columns],
                (&[columns], false) => [1, columns],
                _ => {
                    let count = if grid { "two numbers" } else { "one number" };
                    let expected = format!("{count}, as in shape = {:?}", self.shape());
                    return Err(SettingError::new(key, extent, expected));
                }
            },
        };
        if along.contains(&0) {
            return Err(SettingError::new(key, extent, "at least 1"));
        }
        Ok(along)
    }
}
