//! The header of a safetensors file.
//!
//! Eight bytes with the length of a JSON object, that object, then the tensors' bytes. Format and rules are those of
//! <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::defect::{said, shown};

/// Before the JSON: its length.
pub(crate) const LENGTH_BYTES: usize = 8;
/// The format allows 100 MB. An entry takes about 150 bytes, so this is room for [`MAX_TENSORS`]; the largest adapters, with
/// 128 experts in 60 layers, have 50,000.
pub(crate) const MAX_HEADER: u64 = 32 << 20;
/// Engines' tensors have at most 5.
const MAX_DIMENSIONS: usize = 8;
/// More than any adapter has, and no more than memory has room for: 200 bytes each.
const MAX_TENSORS: usize = 200_000;
/// Trainers write some KB about themselves; ones that write down their data set, some hundred.
const MAX_METADATA: usize = 1 << 20;
/// Longer than any module's path.
const MAX_NAME: usize = 1024;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are those of the format")]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// Bits of one element.
    pub fn bits(self) -> u64 {
        match self {
            Self::F4 => 4,
            Self::F6_E2M3 | Self::F6_E3M2 => 6,
            Self::BOOL | Self::U8 | Self::I8 | Self::F8_E5M2 | Self::F8_E4M3 | Self::F8_E8M0 => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Whether it may be the type of a LoRA weight: engines convert any of these to their own.
    pub fn is_weight(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8_E4M3 | Self::F8_E5M2)
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, unique in the file.
    pub name: Box<str>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Box<[u64]>,
    /// Where it begins, in bytes behind the header.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

/// A header that has been checked: tensors in order of their bytes, which follow each other without gap or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub tensors: Vec<Tensor>,
}

impl Header {
    /// Parses the JSON between the length and the tensors.
    ///
    /// Takes memory in proportion to `json`, whatever it says.
    ///
    /// # Errors
    /// What is wrong, as a sentence without an end.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.first() != Some(&b'{') {
            return Err("the header does not begin with `{`".into());
        }
        let Entries(mut tensors) = serde_json::from_slice(json).map_err(|error| said(&error))?;
        let mut names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("tensor `{}` is there twice", shown(twice[0])));
        }
        tensors.sort_by_key(|tensor| (tensor.start, tensor.end));
        let mut expected = 0;
        for tensor in &tensors {
            check(tensor, expected)?;
            expected = tensor.end;
        }
        Ok(Self { tensors })
    }

    /// How many bytes the tensors take.
    pub fn data_len(&self) -> u64 {
        self.tensors.last().map_or(0, |tensor| tensor.end)
    }
}

/// Whether the bytes of `tensor` begin at `expected` and are as many as its shape needs.
fn check(tensor: &Tensor, expected: u64) -> Result<(), String> {
    let name = || shown(&tensor.name);
    let Tensor { start, end, dtype, .. } = *tensor;
    if start > end {
        return Err(format!("tensor `{}` ends before it begins", name()));
    }
    if start < expected {
        return Err(format!("tensor `{}` overlaps the one before it", name()));
    }
    if start > expected {
        return Err(format!("there is a gap before tensor `{}`", name()));
    }
    let bits = tensor.shape.iter().try_fold(dtype.bits(), |bits, n| bits.checked_mul(*n));
    match bits {
        None => Err(format!("the shape of tensor `{}` is too large", name())),
        Some(bits) if bits % 8 == 0 && bits / 8 == end - start => Ok(()),
        Some(bits) => Err(format!(
            "tensor `{}` should have {} bytes by its shape but has {}",
            name(),
            bits.div_ceil(8),
            end - start
        )),
    }
}

/// The header's object. A map would take the last of two equal keys; engines may take the first.
struct Entries(Vec<Tensor>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = false;
                while let Some(name) = map.next_key_seed(Name)? {
                    if &*name == "__metadata__" {
                        if std::mem::replace(&mut metadata, true) {
                            return Err(de::Error::custom("`__metadata__` is there twice"));
                        }
                        map.next_value::<Metadata>()?;
                        continue;
                    }
                    if tensors.len() == MAX_TENSORS {
                        return Err(de::Error::custom(format!("it has more than {MAX_TENSORS} tensors")));
                    }
                    let Described(Info { dtype, shape: Shape(shape), data_offsets: (start, end) }) =
                        map.next_value()?;
                    tensors.push(Tensor { name, dtype, shape, start, end });
                }
                Ok(Entries(tensors))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// An [`Info`] that is an object: what is derived would take a list of its values too.
struct Described(Info);

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Described;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that describes a tensor")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Described, A::Error> {
                Info::deserialize(MapAccessDeserializer::new(map)).map(Described)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name of bounded length.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Box<str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Box<str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Box<str>, E> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(E::custom(format!("a tensor's name is empty or longer than {MAX_NAME} bytes")));
        }
        Ok(name.into())
    }
}

/// Dimensions, not too many.
struct Shape(Box<[u64]>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_DIMENSIONS} dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::with_capacity(2);
                while let Some(n) = list.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(de::Error::custom(format!("a tensor has more than {MAX_DIMENSIONS} dimensions")));
                    }
                    shape.push(n);
                }
                Ok(Shape(shape.into()))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

/// `__metadata__`: texts by name, of which nothing is kept.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut seen = BTreeSet::new();
                let mut bytes = 0;
                while let Some(key) = map.next_key::<String>()? {
                    let Text(value) = map.next_value()?;
                    // Their sum bounds the number of keys too, since they differ.
                    bytes += key.len() + value;
                    if bytes > MAX_METADATA {
                        return Err(de::Error::custom(format!("`__metadata__` has more than {MAX_METADATA} bytes")));
                    }
                    if !seen.insert(key) {
                        return Err(de::Error::custom("a key of `__metadata__` is there twice"));
                    }
                }
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Any text, of which only the bytes are counted.
struct Text(usize);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.len()))
            }
        }
        deserializer.deserialize_str(Any)
    }
}
