//! What a stream of bytes makes of a valid file. A random file is nearly never one of any format; a damaged valid one
//! nearly is.

/// Numbers at the edges of their types.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "9007199254740993",
    "1e308",
    "1e-320",
    "NaN",
    "inf",
    "[[1]]",
];

/// Eight bytes that are an unusual number of one type or another.
const WORDS: [u64; 10] = [
    0,
    1,
    u64::MAX,
    1 << 53,
    (1 << 53) - 1,
    f64::NAN.to_bits(),
    f64::INFINITY.to_bits(),
    f64::MAX.to_bits(),
    (-1.0f64).to_bits(),
    1e18f64.to_bits(),
];

/// An unusual number.
pub(crate) fn word(choice: u8) -> [u8; 8] {
    WORDS[usize::from(choice) % WORDS.len()].to_le_bytes()
}

/// `file` after a few flips, cuts, moves and exchanged numbers; six bytes of `recipe` say each.
pub(crate) fn damage(file: &[u8], recipe: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for &[kind, a, b, c, d, byte] in recipe.as_chunks::<6>().0.iter().take(8) {
        let place = |x: u8, y: u8| (usize::from(u16::from_be_bytes([x, y])) * file.len()) >> 16;
        let (at, other) = (place(a, b), place(c, d));
        let end = (at + usize::from(byte)).min(file.len());
        match kind % 9 {
            0 if at < file.len() => file[at] ^= 1 << (byte % 8),
            1 if at < file.len() => file[at] = byte,
            2 => file.truncate(at),
            3 => drop(file.drain(at..end)),
            4 => drop(file.splice(other..other, file[at..end].to_vec())),
            5 => {
                let copy = file[at..end].to_vec();
                let room = copy.len().min(file.len() - other);
                file[other..other + room].copy_from_slice(&copy[..room]);
            }
            // A number in a text.
            6 => {
                let digit = |b: &u8| b.is_ascii_digit();
                let start = at + file[at..].iter().take_while(|b| !digit(b)).count();
                let length = file[start..].iter().take_while(|b| digit(b)).count();
                let number = NUMBERS[usize::from(byte) % NUMBERS.len()];
                drop(file.splice(start..start + length, number.bytes()));
            }
            // A number among those that end a file of tensors.
            7 if file.len() >= 8 => {
                let at = (file.len() - 8).saturating_sub(at / 8 * 8);
                file[at..at + 8].copy_from_slice(&word(byte));
            }
            // The length of the header.
            8 if file.len() >= 8 => {
                file[0] = file[0].wrapping_add(c);
                file[1] = file[1].wrapping_add(d / 128);
                file[usize::from(byte) % 8] ^= a / 128;
            }
            _ => {}
        }
    }
    file
}

/// Panics where reading a file takes more memory than so many times its size, and a constant.
pub(crate) fn within(bytes: &[u8], times: usize, constant: usize, read: impl FnOnce()) {
    let taken = allocation_counter::measure(read).bytes_max;
    let most = times * bytes.len() + constant;
    assert!(taken <= most as u64, "{taken} bytes of memory for a file of {}", bytes.len());
}
