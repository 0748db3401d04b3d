//! Properties of the safetensors reader.

use longshore_artifacts::{Dtype, Header, Verifier};
use proptest::prelude::*;

use crate::adapter::{Adapter, WEIGHTS};

const DTYPES: [Dtype; 6] = [Dtype::F32, Dtype::BF16, Dtype::F64, Dtype::U8, Dtype::BOOL, Dtype::F8_E4M3];

/// Names, types and shapes of a file's tensors, in the order of their bytes.
fn tensors() -> impl Strategy<Value = Vec<(String, Dtype, Vec<u64>)>> {
    let shape = prop::collection::vec(0_u64..5, 0..5);
    let tensor = (prop::sample::select(&DTYPES[..]), shape);
    prop::collection::btree_map("[a-zA-Z0-9._\"\\\\é-]{1,12}", tensor, 0..12)
        .prop_map(|map| map.into_iter().map(|(name, (dtype, shape))| (name, dtype, shape)).collect())
}

/// The header of these tensors, its entries turned by `turn` places.
fn written(tensors: &[(String, Dtype, Vec<u64>)], turn: usize) -> String {
    let mut start = 0;
    let mut entries = Vec::new();
    for (name, dtype, shape) in tensors {
        let end = start + shape.iter().product::<u64>() * dtype.bits() / 8;
        let name = serde_json::to_string(name).unwrap();
        entries.push(format!(r#"{name}:{{"shape":{shape:?},"dtype":"{dtype:?}","data_offsets":[{start},{end}]}}"#));
        start = end;
    }
    let places = entries.len().max(1);
    entries.rotate_left(turn % places);
    format!("{{{}}}", entries.join(","))
}

/// What the verifier says of a weights file that arrives in chunks of `chunk` bytes.
fn verdict(file: &[u8], chunk: usize, size: Option<u64>) -> Result<(), &'static str> {
    let mut verifier = Verifier::new(None);
    let mut weights = verifier.file(WEIGHTS, size).unwrap();
    let fed = file.chunks(chunk).try_for_each(|chunk| weights.feed(chunk));
    fed.and_then(|()| weights.finish()).map_err(|defect| defect.reason())
}

proptest! {
    #[test]
    fn a_header_reads_back_as_it_was_written(tensors in tensors(), turn in 0_usize..12) {
        let header = Header::parse(written(&tensors, turn).as_bytes()).unwrap();
        let mut read: Vec<_> =
            header.tensors.iter().map(|t| (t.name.to_string(), t.dtype, t.shape.to_vec())).collect();
        // Empty tensors have no place of their own among the bytes.
        read.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(read, tensors);
        let mut at = 0;
        for tensor in &header.tensors {
            prop_assert_eq!(tensor.start, at);
            at = tensor.end;
        }
        prop_assert_eq!(header.data_len(), at);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::parse(&bytes);
        let _ = verdict(&bytes, 7, None);
    }

    #[test]
    fn a_damaged_header_is_refused_or_still_covers_its_bytes(
        tensors in tensors(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut json = written(&tensors, 0).into_bytes();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(header) = Header::parse(&json) {
            let bits = |t: &longshore_artifacts::Tensor| t.shape.iter().product::<u64>() * t.dtype.bits();
            prop_assert!(header.tensors.iter().all(|t| bits(t) == (t.end - t.start) * 8));
            prop_assert!(header.tensors.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_arrive(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(), is_cut in any::<bool>(), chunk in 1_usize..300
    ) {
        let mut file = Adapter::tiny(1).weights();
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if is_cut {
            file.truncate(cut.index(file.len()));
        }
        let whole = verdict(&file, file.len().max(1), None);
        prop_assert_eq!(verdict(&file, chunk, None), whole);
        // Knowing the size says the same earlier, if perhaps in other words.
        prop_assert_eq!(verdict(&file, chunk, Some(file.len() as u64)).is_ok(), whole.is_ok());
    }
}

#[test]
fn a_length_that_lies_is_refused_before_anything_is_kept() {
    let mut verifier = Verifier::new(None);
    let mut weights = verifier.file(WEIGHTS, None).unwrap();
    assert_eq!(weights.feed(&(1_u64 << 63).to_le_bytes()).unwrap_err().reason(), "WeightsInvalid");
}
