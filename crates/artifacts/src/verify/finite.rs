//! Looks for weights that are not numbers while they stream by.

use super::header::{Dtype, Header};

/// The tensors of one file, and how far we have come.
#[derive(Debug)]
pub(crate) struct FiniteScan {
    spans: Vec<Span>,
    current: usize,
    position: u64,
    /// The first bytes of an element that the last chunk ended in.
    rest: Vec<u8>,
}

#[derive(Debug)]
struct Span {
    /// Where in the header's list it is.
    index: usize,
    dtype: Dtype,
    start: u64,
    end: u64,
}

impl FiniteScan {
    /// A scan of the bytes behind `header`.
    pub(crate) fn new(header: &Header) -> Self {
        let spans = header.tensors.iter().enumerate().filter(|(_, tensor)| check_of(tensor.dtype).is_some());
        let spans =
            spans.map(|(index, tensor)| Span { index, dtype: tensor.dtype, start: tensor.start, end: tensor.end });
        Self { spans: spans.collect(), current: 0, position: 0, rest: Vec::with_capacity(8) }
    }

    /// Takes the next bytes. `Err` is the index of a tensor that holds NaN or infinity.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), usize> {
        while !bytes.is_empty() {
            let Some(span) = self.spans.get(self.current) else { return Ok(()) };
            if self.position < span.start {
                let skipped = take(&mut bytes, span.start - self.position).len();
                self.position += skipped as u64;
                continue;
            }
            let part = take(&mut bytes, span.end - self.position);
            self.position += part.len() as u64;
            let ended = self.position == span.end;
            let (index, dtype) = (span.index, span.dtype);
            if !self.elements(dtype, part) {
                return Err(index);
            }
            if ended {
                self.rest.clear();
                self.current += 1;
            }
        }
        Ok(())
    }

    /// Whether all elements that `part` completes are finite.
    fn elements(&mut self, dtype: Dtype, mut part: &[u8]) -> bool {
        let Some(check) = check_of(dtype) else { return true };
        let size = usize::try_from(dtype.bits() / 8).unwrap_or(1);
        if !self.rest.is_empty() {
            let missing = size - self.rest.len();
            self.rest.extend_from_slice(take(&mut part, missing as u64));
            if self.rest.len() < size {
                return true;
            }
            if !check(&self.rest) {
                return false;
            }
            self.rest.clear();
        }
        let (whole, rest) = part.split_at(part.len() - part.len() % size);
        self.rest.extend_from_slice(rest);
        check(whole)
    }
}

/// Cuts up to `most` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let cut = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (front, back) = bytes.split_at(cut);
    *bytes = back;
    front
}

/// How to see whether whole elements of `dtype` are finite; none for types that are always.
fn check_of(dtype: Dtype) -> Option<fn(&[u8]) -> bool> {
    // In an IEEE 754 number the exponent is all ones for NaN and infinity only. `|=` instead of an early exit lets the
    // compiler do many elements at once; bad weights are rare.
    fn ieee<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> bool {
        let (elements, _) = bytes.as_chunks::<N>();
        let mut bad = false;
        for element in elements {
            bad |= is_bad(*element);
        }
        !bad
    }
    const F16: u16 = 0x7c00;
    const BF16: u16 = 0x7f80;
    const F32: u32 = 0x7f80_0000;
    match dtype {
        Dtype::F16 => Some(|bytes| ieee(bytes, |e| u16::from_le_bytes(e) & F16 == F16)),
        Dtype::BF16 => Some(|bytes| ieee(bytes, |e| u16::from_le_bytes(e) & BF16 == BF16)),
        Dtype::F32 => Some(|bytes| ieee(bytes, |e| u32::from_le_bytes(e) & F32 == F32)),
        // Engines compute in float32 at most, where a larger number is infinite.
        Dtype::F64 => Some(|bytes| {
            ieee(bytes, |e| !f64::from_le_bytes(e).is_finite() || (f64::from_le_bytes(e) as f32).is_infinite())
        }),
        Dtype::F8_E5M2 => Some(|bytes| ieee(bytes, |[e]: [u8; 1]| e & 0x7c == 0x7c)),
        // This one has no infinity, and one NaN of each sign.
        Dtype::F8_E4M3 => Some(|bytes| ieee(bytes, |[e]: [u8; 1]| e & 0x7f == 0x7f)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one tensor after the other.
    fn header(tensors: &[(Dtype, u64)]) -> Header {
        let mut entries = Vec::new();
        let mut start = 0;
        for (index, (dtype, elements)) in tensors.iter().enumerate() {
            let end = start + elements * dtype.bits() / 8;
            entries.push(format!(
                r#""t{index}":{{"dtype":"{dtype:?}","shape":[{elements}],"data_offsets":[{start},{end}]}}"#
            ));
            start = end;
        }
        Header::parse(format!("{{{}}}", entries.join(",")).as_bytes()).unwrap()
    }

    /// The result for every way to cut `bytes` into equal chunks.
    fn scan(header: &Header, bytes: &[u8]) -> Result<(), usize> {
        let results: Vec<_> = (1..=bytes.len())
            .map(|size| {
                let mut scan = FiniteScan::new(header);
                bytes.chunks(size).try_for_each(|chunk| scan.feed(chunk))
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "depends on where chunks end: {results:?}");
        results[0]
    }

    #[test]
    fn nan_and_infinity_are_found_in_each_type() {
        for (dtype, good, bad) in [
            (
                Dtype::F32,
                [1.5_f32.to_le_bytes(), f32::MAX.to_le_bytes(), (-0.0_f32).to_le_bytes()].concat(),
                f32::NAN.to_le_bytes().to_vec(),
            ),
            (
                Dtype::F32,
                [f32::MIN_POSITIVE.to_le_bytes(), 0_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat(),
                f32::NEG_INFINITY.to_le_bytes().to_vec(),
            ),
            (
                Dtype::F64,
                [f64::from(f32::MAX).to_le_bytes(), 1_f64.to_le_bytes(), 0_f64.to_le_bytes()].concat(),
                f64::NAN.to_le_bytes().to_vec(),
            ),
            (Dtype::F64, vec![0; 24], 1e39_f64.to_le_bytes().to_vec()),
            // Largest finite values and the infinities right above them.
            (Dtype::F16, vec![0xff, 0x7b, 0xff, 0xfb, 0, 0], vec![0x00, 0x7c]),
            (Dtype::BF16, vec![0x7f, 0x7f, 0x7f, 0xff, 0, 0], vec![0x80, 0xff]),
            (Dtype::F8_E5M2, vec![0x7b, 0xfb, 0], vec![0x7c]),
            (Dtype::F8_E4M3, vec![0x7e, 0xfe, 0], vec![0xff]),
        ] {
            let header = header(&[(dtype, 3)]);
            assert_eq!(scan(&header, &good), Ok(()), "{dtype:?}");
            for at in 0..3 {
                let mut bytes = good.clone();
                bytes[at * bad.len()..(at + 1) * bad.len()].copy_from_slice(&bad);
                assert_eq!(scan(&header, &bytes), Err(0), "{dtype:?} at {at}");
            }
        }
    }

    #[test]
    fn bytes_of_other_types_are_passed_over() {
        // One byte before the floats puts them off any alignment.
        let header = header(&[(Dtype::U8, 1), (Dtype::F32, 2), (Dtype::I32, 1), (Dtype::F32, 0), (Dtype::F16, 1)]);
        let mut bytes = vec![0xff];
        bytes.extend([1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes(), [0xff; 4]].concat());
        bytes.extend([0, 0]);
        assert_eq!(scan(&header, &bytes), Ok(()));
        *bytes.last_mut().unwrap() = 0x7e;
        assert_eq!(scan(&header, &bytes), Err(4));
    }
}
