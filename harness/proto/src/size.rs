//! Sizes in bytes as people write them: `4096`, `"4K"`, `"2M"`, `"1G"`.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. In TOML and JSON an integer or a string with one of the
/// binary suffixes `K`, `M`, `G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
pub struct Size(pub u64);

impl Size {
    /// One small page of x86_64, in bytes.
    pub const PAGE: u64 = 4096;
    /// One PMD-mapped page of x86_64, in bytes.
    pub const PMD: u64 = 2 << 20;
    /// One PUD-mapped page of x86_64, in bytes.
    pub const PUD: u64 = 1 << 30;

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The size in whole 4K pages, rounded up.
    pub fn pages(self) -> u64 {
        self.0.div_ceil(Self::PAGE)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            let one = 1u64 << shift;
            if self.0 >= one && self.0.is_multiple_of(one) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (digits, shift) = match s.as_bytes().last() {
            Some(b'K') => (&s[..s.len() - 1], 10),
            Some(b'M') => (&s[..s.len() - 1], 20),
            Some(b'G') => (&s[..s.len() - 1], 30),
            _ => (s, 0),
        };
        let n: u64 = digits
            .parse()
            .map_err(|_| format!("`{s}` is not a size; write it as 4096, 4K, 2M or 1G"))?;
        n.checked_mul(1 << shift)
            .map(Size)
            .ok_or_else(|| format!("`{s}` is larger than 64 bits hold"))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 4096, \"4K\", \"2M\" or \"1G\"")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Size, E> {
                Ok(Size(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Size, E> {
                u64::try_from(v)
                    .map(Size)
                    .map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Size, E> {
                v.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn display_reads_back(n in any::<u64>()) {
            prop_assert_eq!(Size(n).to_string().parse::<Size>(), Ok(Size(n)));
        }
    }

    #[test]
    fn suffixes() {
        assert_eq!("2M".parse(), Ok(Size(2 << 20)));
        assert_eq!("1G".parse(), Ok(Size(1 << 30)));
        assert!("2m".parse::<Size>().is_err());
        assert!("99999999999G".parse::<Size>().is_err());
    }
}
