//! The header of a safetensors file. What we take, the reader that engines use takes too, and sees the same in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::Header;
use safetensors::SafeTensors;

/// Tensors of more bytes than this are not made only to compare readers.
const MOST: u64 = 1 << 16;

fuzz_target!(|json: &[u8]| {
    let Ok(header) = Header::parse(json) else { return };
    let mut end = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.start, end);
        let bits = tensor.shape.iter().fold(u128::from(tensor.dtype.bits()), |bits, n| bits * u128::from(*n));
        assert_eq!(bits, u128::from(tensor.end - tensor.start) * 8);
        end = tensor.end;
    }
    assert_eq!(header.data_len(), end);
    if end > MOST {
        return;
    }
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json);
    file.resize(file.len() + end as usize, 0);
    let (_, theirs) = SafeTensors::read_metadata(&file).expect("the engines' reader takes it");
    let theirs = theirs.tensors();
    assert_eq!(theirs.len(), header.tensors.len());
    for ours in &header.tensors {
        let theirs = &theirs[&*ours.name];
        assert_eq!(theirs.data_offsets, (ours.start as usize, ours.end as usize));
        assert!(theirs.shape.iter().map(|n| *n as u64).eq(ours.shape.iter().copied()));
        assert_eq!(format!("{:?}", theirs.dtype), format!("{:?}", ours.dtype));
    }
});
